"""One seed, from the first submission until nothing moves any more; then everything is compared with everything."""

import asyncio
import bisect
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from structlog.testing import capture_logs

from shared.jobs import Book, Lane, Status
from shared.redis_calls import ROOT
from shared.settings import Settings
from shared.stripe_params import idempotency_key
from standin.accounts import account_of
from standin.records import EffectKind
from tests.faults import invariants
from tests.faults.simulator.clients import Clients
from tests.faults.simulator.clock import NothingLeft, Process
from tests.faults.simulator.store import EditScript, SimulatedCalls, Store, StoreServer
from tests.faults.simulator.watch import Watch
from tests.faults.simulator.weather import Weather
from tests.faults.simulator.workers import Fleet, Surroundings, WrapProcessor
from tests.faults.simulator.world import World
from worker.pacing import BURST

_KEY = "sk_test_fake"
_SECRET = "simulated"
_ACCOUNT = account_of(f"Bearer {_KEY}")
_MOST_SECONDS = 12 * 24 * 3600.0
"""What has not come to rest by then never will."""
_STEP_SECONDS = 1.0
_BEFORE_SECONDS = 0.2
"""How long before something happens those who sleep awake."""
_LATE_SECONDS = 0.6
"""How much later than its slot a call may begin: what a slot keeps, and the ways to the store and back."""
_UNEXPECTED = frozenset({"attempt_failed", "tick_failed", "reach_not_checked", "reconcile_failed"})
"""Log lines that only a mistake writes."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A desk with something changed, for proof that the simulation notices; as it is, the real one."""

    name: str = "the desk"
    edit_script: EditScript = field(default=lambda _, text: text)
    wrap_processor: WrapProcessor = field(default=lambda stripe: stripe)


@dataclass(frozen=True, slots=True)
class Report:
    """What one seed came to."""

    seed: int
    counts: Counter[str]
    virtual_seconds: float
    real_seconds: float
    violations: Sequence[str]
    digest: str
    tail: Sequence[str]


def simulate(seed: int, charges: int, server: StoreServer, *, variant: Variant | None = None,
             tell: Callable[[str], None] | None = None) -> Report:
    """Run one seed to its end. The same seed gives the same trace, in any process; `tell` gets each of its lines."""
    began = time.monotonic()
    world = World(seed, charges, tell=tell)
    link = server.connect()
    loop = world.loop
    asyncio.set_event_loop(loop)
    loop.set_exception_handler(lambda _, told: _uncaught(world, told))
    try:
        world.watch = Watch(world, link)
        with capture_logs() as lines:
            simulation = _Simulation(world, Store(world, link, (variant or Variant()).edit_script),
                                     (variant or Variant()).wrap_processor, charges)
            try:
                loop.run_until_complete(simulation.run())
            except NothingLeft:
                world.broken("everybody waits for ever")
            _unwind(loop)
        for line in lines:
            if line["event"] in _UNEXPECTED:
                world.broken(f"the desk logs {line}")
    finally:
        asyncio.set_event_loop(None)
        loop.close()
        link.close()
    return Report(seed, world.counts, world.clock.lasted(), time.monotonic() - began, world.violations, world.digest(),
                  list(world.tail))


def _uncaught(world: World, told: dict[str, Any]) -> None:
    failure = told.get("exception")
    if not isinstance(failure, asyncio.CancelledError):  # a kill's
        world.broken(f"nobody caught {failure!r}: {told['message']}")


def _unwind(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks))


class _Simulation:
    def __init__(self, world: World, store: Store, wrap: WrapProcessor, charges: int) -> None:
        climate = world.climate
        known: dict[str, Any] = {
            "stripe_secret_key": _KEY, "stripe_api_base": "http://127.0.0.1:9", "stripe_fallback": climate.fallback,
            "stripe_rate_per_second": climate.calls_per_second, "lease_seconds": climate.lease_seconds,
            "worker_threads": climate.threads, "secret": _SECRET}
        self._world, self._store = world, store
        self._around = Surroundings(world, Settings(_env_file=None, **known), store, wrap)
        self._fleet = Fleet(self._around)
        self._clients = Clients(self._around, charges)
        self._weather = Weather(self._around, self._fleet)

    async def run(self) -> None:
        """Everything, in order."""
        world = self._world
        world.say("---", f"seed {world.seed}: {world.climate}")
        for _ in range(world.climate.workers):
            self._fleet.start()
        self._clients.start()
        striking = world.loop.create_task(self._weather.run())
        await self._pass_until(lambda: world.clock.lasted() > world.climate.seconds and not self._clients.active)
        self._weather.clear_up()
        striking.cancel()
        await self._pass_until(self._rests, leaping=True)
        if not world.violations:
            await self._check()
        world.counts["charges"] = len(self._clients.accepted)
        world.counts["calls to Stripe"] = len(world.watch.calls)

    async def _pass_until(self, done: Callable[[], bool], *, leaping: bool = False) -> None:
        world = self._world
        while not world.violations and not done():
            if world.clock.lasted() > _MOST_SECONDS:
                world.broken(f"still not at rest: {self._unsettled()[:10]}")
            if leaping and not self._moves():
                self._leap()
            await asyncio.sleep(_STEP_SECONDS)
            world.pass_calendar()

    def _moves(self) -> bool:
        around = self._around
        # Who compares would lose its lease at each leap, and never come to an end.
        compares = self._store.link.raw("HEXISTS", f"{ROOT}reconcile", "holder")
        return bool(compares or self._fleet.is_busy or not around.broker.is_empty or around.stripe.under_way
                    or self._clients.active or len(self._fleet.running) < self._world.climate.workers)

    def _leap(self) -> None:
        """Where nothing happens for long, everybody sleeps through it."""
        waits = [self._world.next_entry]
        for lane in Lane:
            first = self._store.link.raw("ZRANGE", f"{ROOT}due:{lane}", 0, 0, "WITHSCORES")
            waits.append(float(first[1]) / 1000 - self._world.clock.store() if first else None)
        seconds = min((wait for wait in waits if wait is not None), default=0.0) - _BEFORE_SECONDS
        if seconds > 0:
            self._world.clock.slept += seconds

    def _rests(self) -> bool:
        return not self._moves() and self._world.next_entry is None and not self._unsettled()

    def _unsettled(self) -> list[str]:
        """Jobs that have not ended and still may."""
        left = self._left()
        return [f"{self._world.name(job_id)} {status}" for status in Status if not status.final
                for job_id in self._members(status) if job_id not in left]

    def _members(self, status: Status) -> list[str]:
        found: list[str] = self._store.link.raw("ZRANGE", f"{ROOT}jobs:{status}", 0, -1)
        return found

    def _left(self) -> dict[str, Status]:
        """Jobs that may stay as they are: nobody pays, Stripe keeps a 500, or they killed their workers. After days the
        first are canceled and the second given up, so a seed of days leaves only what waits in the mock or at a bank.
        """
        left = {job_id: Status.PENDING for job_id in self._members(Status.PENDING) if self._is_unpaid(job_id)}
        left |= {job_id: Status.UNKNOWN for job_id in self._members(Status.UNKNOWN) if self._is_kept_failure(job_id)}
        return left | {job_id: Status.PARKED for job_id in self._members(Status.PARKED) if self._is_poison(job_id)}

    def _is_unpaid(self, job_id: str) -> bool:
        if self._field(job_id, "book") == Book.MOCK:
            return True
        record = self._around.stripe.store.get(_ACCOUNT, self._field(job_id, "stripe_id"))
        waits_for = ("processing",) if self._world.climate.days else ("processing", "requires_action")
        return record is not None and record.body["status"] in waits_for

    def _is_kept_failure(self, job_id: str) -> bool:
        """Whether Stripe answers this key with nothing but a 500, and did nothing: what it did, its lists tell."""
        spec = self._world.specs[job_id]
        saved = self._around.stripe.store.saved(_ACCOUNT, idempotency_key(job_id, spec.kind))
        did = any(self._world.watch.effects[job_id, kind] for kind in EffectKind)
        return not self._world.climate.days and saved is not None and saved.status >= 500 and not did

    def _is_poison(self, job_id: str) -> bool:
        return bool(json.loads(self._field(job_id, "error"))["code"] == "poison")

    def _field(self, job_id: str, name: str) -> str:
        return self._store.link.raw("HGET", f"{ROOT}job:{job_id}", name) or ""

    async def _check(self) -> None:
        world, stripe = self._world, self._around.stripe
        calls = SimulatedCalls(world, self._store, Process("audit"))
        at_stripe = invariants.AtStripe(stripe.store.effects(), stripe.peer.log.describe())
        seen = await invariants.look(calls, self._left(), at_stripe)
        for line in await invariants.broken_in(seen, calls, self._clients.accepted):
            world.broken(line)
        for job_id, result in world.watch.results.items():
            if job_id in seen.jobs and world.watch.result(job_id) != result:
                world.broken(f"{world.name(job_id)} changed after its end")
        for line in self._hurried():
            world.broken(line)
        world.counts.update({f"left {status}": count for status, count in Counter(seen.left.values()).items()})

    def _hurried(self) -> list[str]:
        """Where more calls began than the budget allows, in any stretch of one or ten seconds."""
        calls, rate = self._world.watch.calls, self._world.climate.calls_per_second
        broken = []
        for seconds in (1.0, 10.0):
            most = rate * (seconds + _LATE_SECONDS) + BURST
            first = 0
            for last, at in enumerate(calls):
                while at - calls[first] >= seconds:
                    first += 1
                if last - first + 1 > most and not self._was_disturbed(calls[first], at):
                    broken.append(f"{last - first + 1} calls in {seconds:g} s before {at:.3f} s, at {rate:g} a second")
                    break
        return broken

    def _was_disturbed(self, begin: float, end: float) -> bool:
        spans = self._world.disturbed
        first = bisect.bisect_left(spans, (end + 0.001, 0.0))
        return any(until + 35 >= begin for _, until in spans[:first])

"""Stripe: the stand-in's own code, asked in this process; on the way there and back everything can go wrong."""

import asyncio
import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from standin.clock import Clock as PeerClock
from standin.connection import spoil
from standin.errors import ApiError
from standin.faults import Action, Fault
from standin.memory import MemoryStore
from standin.peer import Peer
from standin.records import Effect
from standin.wire import Answer, Request
from tests.faults.simulator.clock import Clock, Process
from tests.faults.simulator.world import World
from worker.stripe_http import TOTAL_SECONDS, ConnectionFailed, StripeHTTP

_KEPT_FAILURES = (Action.STATUS_500_BEFORE, Action.STATUS_500_AFTER)
_REFUSALS = (Action.STATUS_409, Action.STATUS_429, Action.STATUS_503, Action.LOCK_TIMEOUT)
_SPOILED = (Action.GARBAGE, Action.HTML, Action.REDIRECT)
_TAKEN_BACK = frozenset({401, 403, 429})
"""Answers of Stripe's door: the request went no further."""


class TrueClock(PeerClock):
    """Stripe's clock, which is right."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def now(self) -> float:
        return self._clock.now()

    def monotonic(self) -> float:
        return self._clock.lasted()


class WatchedStore(MemoryStore):
    """Tells of every effect as it happens."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world
        self._made = 0

    def new_id(self, prefix: str) -> str:
        """The same in each run: ids of jobs that look at a payment derive from it, and ids put in order what is due."""
        self._made += 1
        return f"{prefix}_3{hashlib.sha256(f'{self._world.seed} {self._made}'.encode()).hexdigest()[:23]}"

    def add_effect(self, effect: Effect) -> None:
        super().add_effect(effect)
        self._world.watch.effect(effect)


class Network:
    """Who can connect to Stripe."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.down_for_all = False
        self.down_for: set[str] = set()
        self.swallows = False
        """Whether connecting meets silence instead of a refusal."""

    def reaches(self, process: Process) -> bool:
        """Whether this process can connect now."""
        return not self.down_for_all and process.name not in self.down_for

    async def connect(self, process: Process) -> None:
        """A try to connect, as a worker's eye on Stripe makes it."""
        if process.dead:
            raise asyncio.CancelledError
        await asyncio.sleep(self._world.rng.uniform(0.001, 0.02))
        if not self.reaches(process):
            await asyncio.sleep(60 if self.swallows else 0)
            raise ConnectionRefusedError


class Stripe:
    """The stand-in and its moods."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.store = WatchedStore(world)
        self.peer = Peer(self.store, TrueClock(world.clock))
        self.fails, self.lags = world.climate.stripe_fails, world.climate.stripe_lags
        self.mood: Action | None = None
        """A spell in which every call gets this answer."""
        self.slow = False
        self.failures_kept = 0
        self.under_way = 0

    def fault(self) -> Fault:
        """What becomes of a call that arrives, and how long it takes."""
        world, rng = self._world, self._world.rng
        action = self.mood
        if action is None and world.chance(self.fails):
            action = rng.choice((*_KEPT_FAILURES, *_REFUSALS, *_SPOILED, Action.STATUS_401))
        if action in _KEPT_FAILURES:
            if self.failures_kept >= world.climate.saved_failures:
                action = None
            else:
                self.failures_kept += 1
        seconds = rng.uniform(0.03, 0.4)
        if self.lags and (self.slow or world.chance(self.lags)):
            lags = (world.climate.lease_seconds, 1.0, 5.0, 28.0, 35.0, 70.0, 150.0)
            seconds = rng.choice(lags) * rng.uniform(0.8, 1.4)
        effect = world.chance(0.5) if action in _SPOILED else None
        return Fault(action or Action.DELAY_MS, delay_ms=1000 * seconds, effect=effect, dice=rng)

    async def answer(self, request: Request, fault: Fault) -> Answer:
        """What Stripe answers, or somebody between in its place."""
        self.under_way += 1
        try:
            visit = replace(self.peer.look(request), fault=fault)
            visit.entry.fault = fault.action.value
            answer = Answer(200, b"{}")
            if fault.executes:
                answer = await self.peer.answer(visit)
                if (request.method, request.path) == ("POST", "/v1/payment_intents"):
                    self._note_payable(visit.entry.job_id, answer)
            return spoil(answer, fault) if fault.action in _SPOILED else answer
        finally:
            self.under_way -= 1

    def _note_payable(self, job_id: str | None, answer: Answer) -> None:
        """Some payments wait for their customer, who comes after a while, or late, or never."""
        if job_id is None or answer.status != 200:
            return
        body: dict[str, Any] = json.loads(answer.body)
        if body.get("object") != "payment_intent" or body["status"] == "succeeded":
            return
        self._world.watch.payable(job_id, body["id"])

    def pay(self, intent_id: str) -> None:
        """The customer pays, unless the payment has ended meanwhile."""
        try:
            self.peer.pay(intent_id)
        except ApiError:
            self._world.counts["payments too late"] += 1


class SimulatedHTTP(StripeHTTP):
    """One process's way to Stripe, with StripeHTTP's promise: a whole answer, or ConnectionFailed, which says whether a
    byte may have left.
    """

    def __init__(self, world: World, stripe: Stripe, network: Network, process: Process) -> None:
        super().__init__()
        self._world, self._stripe, self._network, self._process = world, stripe, network, process

    async def request_async(self, method: str, url: str, headers: Mapping[str, str],
                            post_data: str | None = None) -> tuple[bytes, int, Mapping[str, str]]:
        if self._process.dead:
            raise asyncio.CancelledError
        world = self._world
        world.watch.calls.append(world.clock.awake)
        await self._connect()
        request = _request(method, url, headers, post_data)
        job_id = request.headers.get("idempotency-key", "").partition(":")[0]
        job_id = job_id if method.upper() == "POST" else ""
        world.watch.left(self._process.name, job_id)
        answer: asyncio.Future[Answer] = world.loop.create_future()
        self._send(request, answer)
        world.later(TOTAL_SECONDS, _lose, answer, "timeout")
        found = await answer
        if found.status in _TAKEN_BACK:
            world.watch.taken_back(job_id)
        return found.body, found.status, dict(found.headers)

    async def _connect(self) -> None:
        world = self._world
        await asyncio.sleep(world.rng.uniform(0.001, 0.01))
        if not self._network.reaches(self._process) or world.chance(self._stripe.fails / 8):
            world.counts["not sent"] += 1
            await asyncio.sleep(2 if self._network.swallows else 0)
            if self._process.dead:
                raise asyncio.CancelledError
            raise ConnectionFailed("connect_refused", possibly_sent=False)

    def _send(self, request: Request, answer: asyncio.Future[Answer]) -> None:
        """The bytes leave. They may be lost, come late, or come twice, as some proxies send a request again."""
        world, fails = self._world, self._stripe.fails
        if world.chance(fails / 4):
            world.counts["requests lost"] += 1
            self._drop(answer)
            return
        late, fault = world.chance(fails / 8), self._stripe.fault()
        seconds = world.rng.uniform(5, 100) if late else world.rng.uniform(0.001, 0.05)
        world.later(seconds, self._arrive, request, answer, fault)
        if fault.action is Action.DELAY_MS and world.chance(fails / 8):
            world.counts["requests doubled"] += 1
            world.later(world.rng.uniform(0.001, 1), self._arrive, request, answer, fault)

    def _arrive(self, request: Request, answer: asyncio.Future[Answer], fault: Fault) -> None:
        if not self._network.reaches(self._process):
            self._drop(answer)
            return
        self._world.loop.create_task(self._served(request, answer, fault))

    async def _served(self, request: Request, answer: asyncio.Future[Answer], fault: Fault) -> None:
        found = await self._stripe.answer(request, fault)
        world = self._world
        if not self._network.reaches(self._process) or world.chance(self._stripe.fails / 2):
            world.counts["answers lost"] += 1
            self._drop(answer)
        else:
            world.later(world.rng.uniform(0.001, 0.05), _answer, answer, found)

    def _drop(self, answer: asyncio.Future[Answer]) -> None:
        """Nothing comes back: a reset soon, or silence until the client gives up."""
        if self._world.chance(0.6):
            self._world.later(self._world.rng.uniform(0.01, 2), _lose, answer, "connection_lost")


def _request(method: str, url: str, headers: Mapping[str, str], post_data: str | None) -> Request:
    path, _, query = url.split("://", 1)[1].partition("/")[2].partition("?")
    known = {name.lower(): value for name, value in headers.items()}
    return Request(method.upper(), f"/{path}", query, known, (post_data or "").encode(), keep_alive=True)


def _lose(answer: asyncio.Future[Answer], reason: str) -> None:
    if not answer.done():
        answer.set_exception(ConnectionFailed(reason))


def _answer(answer: asyncio.Future[Answer], found: Answer) -> None:
    if not answer.done():
        answer.set_result(found)


"""Breaks the desk as the plan says, and writes down whom each break met. The drill is the supervisor, too."""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from drill.desk import DrilledDesk, Worker
from drill.pace import Pace
from drill.plan import (
    HELD_SECONDS,
    OUTAGE_SECONDS,
    PAUSED_BEYOND_LEASE_SECONDS,
    STORM_CALLS,
    STORM_SHARE,
    Break,
    Event,
    Plan,
)
from drill.processes import DeskProcess
from shared.errors import StoreUnavailable
from shared.jobs import Lane
from shared.redis_calls import ROOT

MEETS_SECONDS = 30.0
"""How long a break waits for a job that it meets in flight; without one it is not made."""
LEAST_APART = 0.3
"""Of their mean distance: events that had to wait for a job in flight do not all strike the same one."""
SERVES_SECONDS = 60.0
_POLL_SECONDS = 0.02
_REVIVE_SECONDS = 0.5


@dataclass(slots=True)
class Met:
    """A break that was made: when, when what it broke was up again, and the jobs that it met in flight."""

    what: Break
    at_ms: int
    jobs: frozenset[str] = frozenset()
    back_ms: int | None = None


@dataclass(slots=True)
class Chaos:
    """Plays the events of a plan in order. A break that meets no job in flight does not count and is not made."""

    desk: DrilledDesk
    plan: Plan
    pace: Pace
    met: list[Met] = field(default_factory=list)
    missed: Counter[Break] = field(default_factory=Counter)
    done: bool = False
    _lasting: set[asyncio.Task[None]] = field(default_factory=set)
    _dice: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._dice = self.plan.dice()

    async def run(self) -> None:
        """Play all events, and return when the last of them is over and everything runs again."""
        reviver = asyncio.create_task(self._revive())
        try:
            events = self.plan.events()
            apart_seconds = LEAST_APART * self.plan.seconds / max(1, len(events))
            for event in events:
                self.pace.next_break = event.at_seconds
                await self.pace.until(event.at_seconds)
                if self.pace.stopped:
                    break
                await self._play(event)
                await asyncio.sleep(apart_seconds)
            await asyncio.gather(*self._lasting)
        finally:
            self.done, self.pace.next_break = True, None
            reviver.cancel()
            for task in self._lasting:
                task.cancel()

    async def _revive(self) -> None:
        """What a supervisor does for processes that end by themselves."""
        while True:
            await asyncio.sleep(_REVIVE_SECONDS)
            self.desk.revive()

    async def _play(self, event: Event) -> None:
        """What lasts goes on beside the next event."""
        desk, strikes = self.desk, self._strikes()
        match event.what:
            case what if what in strikes:
                await self._strike(what, strikes[what])
            case Break.STORE_KILLED:
                await self._kill_server(event.what, desk.store, desk.store_server.answers)
            case Break.BROKER_KILLED:
                await self._kill_server(event.what, desk.broker, desk.broker_server.answers)
            case Break.WEB_KILLED:
                if await self._meets_some_job(event.what):
                    self._note(event.what)
                    _kill(desk.web)
            case Break.STORE_REPLY_CUT:
                self._note(event.what)
                desk.store_wire.cut_next_reply(self._dice.choice((0, 0, 1, 30)))
            case Break.OUTAGE:
                self._last(self._outage())
            case Break.STORM:
                self._note(event.what)
                await asyncio.to_thread(desk.standin.fault, "status:429", probability=STORM_SHARE, times=STORM_CALLS,
                                        seed=self._dice.randrange(10**6))

    def _strikes(self) -> dict[Break, Callable[[Worker], None]]:
        """What is done to a single worker."""
        return {Break.WORKER_KILLED: lambda worker: _kill(worker.process),
                Break.WORKER_PAUSED: self._pause,
                Break.ANSWER_CUT: lambda worker: worker.wire.cut_next_reply(self._dice.choice((0, 0, 40))),
                Break.WIRE_DROPPED: lambda worker: worker.wire.drop(),
                Break.WIRE_HELD: self._hold}

    async def _strike(self, what: Break, strike: Callable[[Worker], None]) -> None:
        """Do it to a worker that waits for an answer from Stripe at this very moment."""
        deadline = time.monotonic() + MEETS_SECONDS
        while not (able := [worker for worker in self.desk.workers if not worker.process.frozen
                            and worker.process.runs and worker.in_flight()]):
            if time.monotonic() > deadline:
                self.missed[what] += 1
                return
            await asyncio.sleep(_POLL_SECONDS)
        worker = self._dice.choice(able)
        self._note(what, worker.in_flight())
        strike(worker)

    def _pause(self, worker: Worker) -> None:
        worker.process.freeze()
        seconds = self.plan.lease_seconds + PAUSED_BEYOND_LEASE_SECONDS
        self._last(_later(seconds, worker.process.thaw))

    def _hold(self, worker: Worker) -> None:
        worker.wire.hold()
        self._last(_later(HELD_SECONDS, worker.wire.let_go))

    async def _outage(self) -> None:
        jobs = {job for worker in self.desk.workers for job in worker.in_flight()}
        met = self._note(Break.OUTAGE, jobs)
        for worker in self.desk.workers:
            worker.wire.refuse()
        try:
            await asyncio.sleep(OUTAGE_SECONDS)
        finally:
            for worker in self.desk.workers:
                await worker.wire.accept()
            met.back_ms = _now_ms()

    async def _kill_server(self, what: Break, process: DeskProcess, answers: Callable[[], bool]) -> None:
        if await self._meets_some_job(what):
            met = self._note(what)
            _kill(process)
            self._last(self._serves(met, answers))

    async def _serves(self, met: Met, answers: Callable[[], bool]) -> None:
        deadline = time.monotonic() + SERVES_SECONDS
        while time.monotonic() < deadline:
            if await asyncio.to_thread(answers):
                met.back_ms = _now_ms()
                return
            await asyncio.sleep(_POLL_SECONDS)

    async def _meets_some_job(self, what: Break) -> bool:
        deadline = time.monotonic() + MEETS_SECONDS
        while not await self._some_job():
            if time.monotonic() > deadline:
                self.missed[what] += 1
                return False
            await asyncio.sleep(_POLL_SECONDS)
        return True

    async def _some_job(self) -> bool:
        """Whether a job runs or is due at this moment."""
        call = self.desk.calls.call
        try:
            counted = await asyncio.gather(call("ZCARD", f"{ROOT}jobs:running"),
                                           *(call("ZCARD", f"{ROOT}due:{lane}") for lane in Lane))
        except StoreUnavailable:
            return False
        return any(map(int, counted))

    def _note(self, what: Break, jobs: set[str] | None = None) -> Met:
        met = Met(what, _now_ms(), frozenset(jobs or ()))
        self.met.append(met)
        return met

    def _last(self, doing: Awaitable[None]) -> None:
        task = asyncio.ensure_future(doing)
        self._lasting.add(task)
        task.add_done_callback(self._lasting.discard)


async def _later(seconds: float, do: Callable[[], None]) -> None:
    try:
        await asyncio.sleep(seconds)
    finally:
        do()


def _kill(process: DeskProcess) -> None:
    """Kill it and start it again at once."""
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    process.start()


def _now_ms() -> int:
    """The store's clock too: it is on this machine."""
    return time.time_ns() // 1_000_000

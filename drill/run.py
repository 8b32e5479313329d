"""A whole drill: start a desk, load it, break it, calm it, wait for every end, and judge."""

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from drill.chaos import Chaos
from drill.clients import Clients
from drill.desk import DrilledDesk, Parts, drilled_desk
from drill.evidence import Evidence, read_bound, read_desk, read_stripe
from drill.oracle import Verdict, judge
from drill.pace import Pace
from drill.plan import Plan
from drill.recovery import Recovery, Traces, recoveries
from drill.stripe_list import end_by_the_list
from shared.errors import PaydeskError

LOOKED_EVERY_SECONDS = 0.25
LOG_TRIES = 5
_POLL_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a drill is."""

    phase: str
    accepted: int
    total: int
    unfinished: int | None
    breaks: int
    all_breaks: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Report:
    """How a drill ended."""

    plan: Plan
    verdict: Verdict
    breaks: Mapping[str, int]
    """Made, by kind; each met a job in flight."""
    missed: Mapping[str, int]
    """Planned and not made, because no job was in flight."""
    calls: int
    faulty_calls: int
    asked_again: int
    revived: int
    ended_by_list: int
    """Jobs whose keys answered 500 for good, so that only Stripe's list could end them."""
    recoveries: list[Recovery]
    seconds: float
    ended_early: bool = False

    @property
    def passed(self) -> bool:
        """Whether every promise held."""
        return not self.verdict.violations


Tell = Callable[[Progress], None]


async def drill(plan: Plan, parts: Parts, folder: Path, tell: Tell, *, enough: asyncio.Event | None = None) -> Report:
    """Run it in an empty folder; judge what was done until `enough` is set. Raises NotReady when no desk comes up."""
    began = time.monotonic()
    async with drilled_desk(plan, parts, folder) as desk:
        desk.begin_faults()
        run = _Run(plan, desk, tell, began)
        watch = asyncio.create_task(run.watch(enough or asyncio.Event()))
        try:
            await run.load()
            await run.drain()
            await run.end_by_the_list()
        finally:
            watch.cancel()
        return await run.report()


class _Run:
    """One drill under way."""

    def __init__(self, plan: Plan, desk: DrilledDesk, tell: Tell, began: float) -> None:
        self._plan, self._desk, self._tell, self._began = plan, desk, tell, began
        self._pace = Pace(most_under_way=plan.most_under_way, still_seconds=plan.still_seconds)
        self._clients = Clients(plan, desk.url, self._pace)
        self._chaos = Chaos(desk, plan, self._pace)
        self._phase = "breaking it under load"
        self._left_to_list = 0
        self._listed: list[str] = []

    async def load(self) -> None:
        """Submit and break side by side; the load lasts as long as the breaks do."""
        async with asyncio.TaskGroup() as together:
            together.create_task(self._chaos.run())
            together.create_task(self._clients.run(lambda: not self._chaos.done))

    async def drain(self) -> None:
        """Nothing breaks any more: wait until every job has ended that can."""
        self._phase = "waiting for every end"
        await self._desk.calm()
        fewest, since = await self._desk.unfinished(), time.monotonic()
        while not await self._ended() and time.monotonic() - since < self._plan.still_seconds:
            unfinished = await self._desk.unfinished()
            if unfinished is not None and (fewest is None or unfinished < fewest):
                fewest, since = unfinished, time.monotonic()
            self._desk.revive()
            await asyncio.sleep(_POLL_SECONDS)

    async def _ended(self) -> bool:
        """Whether all that is unfinished answers 500 for good at Stripe: sending it again cannot end it."""
        unfinished = await self._desk.unfinished()
        bound = read_bound(self._desk.oracle_db)
        if unfinished is None or unfinished > len(bound):
            return False
        unknown = await self._desk.unknown()
        return len(unknown) == unfinished and unknown <= {key.partition(":")[0] for key in bound}

    async def end_by_the_list(self) -> None:
        """What answers 500 for good is ended by Stripe's list; and the list agrees with everything else."""
        self._phase = "comparing with Stripe's list"
        self._left_to_list = len(await self._desk.unknown())
        try:
            self._listed = await end_by_the_list(self._desk)
        except PaydeskError as failed:  # a desk that is broken is told of, not a reason to count nothing
            self._listed = [f"reconcile: {failed}"]

    async def report(self) -> Report:
        """Read all that is known, and judge."""
        self._phase = "counting"
        desk, clients, chaos = self._desk, self._clients, self._chaos
        told = await read_desk(desk.calls)
        told = replace(told, differences=[*told.differences, *self._listed])
        seen = Evidence(clients.submitted, {key: frozenset(ids) for key, ids in clients.accepted.items()},
                        clients.refused, read_stripe(desk.oracle_db), told)
        requests = await self._requests()
        traces = Traces.of(seen.desk.jobs, clients.accepted_ms, requests)
        (desk.folder / "breaks.jsonl").write_text("".join(
            json.dumps({"what": met.what, "at_ms": met.at_ms, "back_ms": met.back_ms, "jobs": sorted(met.jobs)}) + "\n"
            for met in chaos.met))
        return Report(
            plan=self._plan, verdict=judge(seen), breaks=dict(Counter(met.what.value for met in chaos.met)),
            missed={what.value: count for what, count in chaos.missed.items()}, calls=len(requests),
            faulty_calls=sum(request["fault"] is not None for request in requests), asked_again=clients.asked_again,
            revived=desk.revived, ended_by_list=self._left_to_list, recoveries=recoveries(chaos.met, traces),
            seconds=round(time.monotonic() - self._began, 1), ended_early=self._pace.stopped)

    async def _requests(self) -> list[dict[str, Any]]:
        """The stand-in's log: long, and on a busy machine not written out at the first try."""
        for _ in range(LOG_TRIES):
            with contextlib.suppress(OSError):
                return await asyncio.to_thread(self._desk.standin.requests)
        return []

    async def watch(self, enough: asyncio.Event) -> None:
        """Keep the drill's time and tell how far it is, until cancelled."""
        while True:
            unfinished = await self._desk.unfinished()
            self._pace.see(await self._desk.in_work())
            self._pace.stopped = enough.is_set()
            self._tell(Progress(self._phase, len(self._clients.accepted), self._plan.total, unfinished,
                                len(self._chaos.met), sum(self._plan.breaks.values()),
                                time.monotonic() - self._began))
            await asyncio.sleep(LOOKED_EVERY_SECONDS)

"""What workers compare by themselves, one at a time: new objects now and then, in a minute what is in doubt."""

import asyncio

import structlog

from shared.epoch import Epoch
from shared.errors import StoreUnavailable
from shared.jobs import Status
from shared.reconcile_state import LeaseLost, Progress, Run, Seen
from worker.desk import Desk
from worker.reconcile import DAY_MS, MOST_UNKNOWN, Reconcile
from worker.stripe_reader import Stopped

log = structlog.get_logger(__name__)

TICK_SECONDS = 20.0
"""How often a worker looks whether a round is due: one short script, and one more while jobs are in doubt."""
DOUBT_EVERY_MS = 60_000
"""While a job is in doubt for longer than this, everything new is compared as often."""
OVERLAP_MS = 120_000
"""How far a round reaches back into the one before it: Stripe's clock and the store's are not the same."""


class ReconcileRounds:
    """One worker's part: it looks whether a round is due, and does it if no other process compares."""

    def __init__(self, desk: Desk, reconcile: Reconcile, epoch: Epoch, *, every_seconds: float = 600.0,
                 tick_seconds: float = TICK_SECONDS) -> None:
        self._desk = desk
        self._reconcile = reconcile
        self._epoch = epoch
        self._every_ms = every_seconds * 1000
        self._tick_seconds = tick_seconds

    async def run(self) -> None:
        """Look and do, until cancelled; the first time after a while, since there are worse times than a start."""
        while True:
            await asyncio.sleep(self._tick_seconds * self._desk.machine.between(0.75, 1.25))
            await self.tick()

    async def tick(self) -> Progress | None:
        """Do a round if one is due; answers how far it came. Whatever stops it, the next one goes on there."""
        try:
            await self._epoch.check()
            if self._cannot_reach() or not await self._is_due(await self._reconcile.state.look()):
                return None
            async with self._reconcile.holding() as held:
                return await self._round() if held else None
        except (StoreUnavailable, LeaseLost) as passing:
            log.info("reconcile_left", reason=type(passing).__name__)
        except Exception as failure:  # whatever it was, it must not end the rounds
            log.exception("reconcile_failed", reason=type(failure).__name__)
        return None

    def _cannot_reach(self) -> bool:
        return (self._desk.gate.closed or self._desk.stripe is None or self._desk.reachability.reach.open
                or self._desk.reachability.cut_off)

    async def _is_due(self, seen: Seen) -> bool:
        last = seen.runs.get(Run.WORKERS)
        if last is None:
            return True
        since_ms = seen.now_ms - last.at_ms
        if not 0 <= since_ms < self._every_ms:  # long ago, or before the clock was put back
            return True
        return since_ms >= DOUBT_EVERY_MS and (not last.complete or await self._is_in_doubt(seen.now_ms))

    async def _is_in_doubt(self, now_ms: int) -> bool:
        """Whether a job is in doubt for longer than its own attempts should take."""
        sent_ms = await self._first_sent_ms()
        return sent_ms is not None and now_ms - sent_ms > DOUBT_EVERY_MS

    async def _first_sent_ms(self) -> int | None:
        """When the oldest job in doubt was sent first."""
        job_ids = await self._desk.store.in_status(Status.UNKNOWN, most=MOST_UNKNOWN)
        jobs = await self._desk.store.read(job_ids) if job_ids else []
        return min((job.first_sent_ms for job in jobs if job is not None and job.first_sent_ms is not None),
                   default=None)

    async def _round(self) -> Progress:
        seen = await self._reconcile.state.look()
        last = seen.runs.get(Run.WORKERS)
        if last is None:
            since_ms = min(seen.now_ms - DAY_MS, await self._first_sent_ms() or seen.now_ms) - OVERLAP_MS
        else:  # from the newest object that was there; an empty window grows, at no cost
            since_ms = last.listed_to_ms - OVERLAP_MS if last.listed_to_ms else last.since_ms
        progress = await self._reconcile.run(Run.WORKERS, since_ms=since_ms, fix=True)
        try:
            given_up = await self._reconcile.give_up() if progress.complete else 0
        except Stopped as stopped:
            given_up = 0
            log.info("reconcile_proves_nothing", reason=stopped.reason)
        if progress.left or given_up or not progress.complete:
            log.warning("reconciled", found=dict(progress.found), fixed=dict(progress.fixed), given_up=given_up,
                        complete=progress.complete, stopped_by=progress.stopped_by or None)
        return progress

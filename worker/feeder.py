"""Every worker ticks this: a heartbeat, a look at Stripe's reach, and what is due handed to Celery. No leader."""

import asyncio
import contextlib

import structlog

from shared.broker import Backlog, Hinter, grace_ms, hints_cap
from shared.epoch import Epoch
from shared.errors import StoreUnavailable
from shared.failpoints import failpoint
from shared.jobs import Lane
from shared.store import JobStore
from worker.progress import Progress
from worker.reachability import Reachability

log = structlog.get_logger(__name__)

TICK_SECONDS = 0.5
MOST_AT_ONCE = 200
"""Jobs that one tick hands out in a lane: one short script."""


class Feeder:
    """Hands due jobs to Celery, never more than its list may hold: a backlog stays in the store."""

    def __init__(self, *, epoch: Epoch, store: JobStore, backlog: Backlog, hinter: Hinter,
                 reachability: Reachability, progress: Progress, threads: int, calls_per_second: float) -> None:
        self._epoch = epoch
        self._store = store
        self._backlog = backlog
        self._hinter = hinter
        self._reachability = reachability
        self._progress = progress
        self._threads = threads
        self._calls_per_second = calls_per_second
        self._store_is_away = False

    async def run(self) -> None:
        """Tick until cancelled; a store or broker that is away is tried again at the next tick."""
        while True:
            await self.tick()
            await asyncio.sleep(TICK_SECONDS)

    async def tick(self) -> int:
        """One round; answers how many jobs were handed out."""
        try:
            failpoint("tick.before")
            await self._epoch.check()
            reach = await self._reachability.beat(threads=self._threads)
            waiting = await self._waiting()
            handed = sum([await self._feed(lane, waiting, threads=reach.threads or self._threads) for lane in Lane])
            failpoint("tick.after")
        except StoreUnavailable:
            self._note(away=True)
            return 0
        except Exception as failure:  # whatever it was, it must not end the feeding
            log.exception("tick_failed", reason=type(failure).__name__)
            return 0
        self._note(away=False)
        return handed

    async def _waiting(self) -> dict[Lane, int] | None:
        """The hints in Celery's lists; None without a broker: then what is due stays due."""
        waiting = None
        with contextlib.suppress(StoreUnavailable):
            waiting = {lane: await self._backlog.waiting(lane) for lane in Lane}
        self._progress.tick(None if waiting is None else sum(waiting.values()))
        return waiting

    async def _feed(self, lane: Lane, waiting: dict[Lane, int] | None, *, threads: int) -> int:
        room = 0 if waiting is None else hints_cap(threads) - waiting[lane] - self._hinter.unpublished
        if room <= 0:
            return 0
        due = await self._store.feed(lane, most=min(room, MOST_AT_ONCE), grace_ms=grace_ms(
            lane, threads=threads, calls_per_second=self._calls_per_second))
        for job in due:
            self._hinter.hint(job.kind, lane, [job.job_id])
        return len(due)

    def _note(self, *, away: bool) -> None:
        if away != self._store_is_away:
            log.warning("store_away" if away else "store_back")
        self._store_is_away = away

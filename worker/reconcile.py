"""Stripe's lists against the desk's records, a page at a time: what differs is found, and what is safe is mended.

Lists by `created` only: they are complete at once, a search may lag. A comparison goes on where it was stopped.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace

import structlog

from shared.errors import StoreUnavailable
from shared.failpoints import failpoint
from shared.jobs import Book, Job, Kind, Status, job_error
from shared.ledger import Ledger
from shared.reconcile_state import Discrepancy, Finding, LeaseLost, Phase, Progress, ReconcileState, Run
from shared.redis_calls import RedisCalls
from shared.store import BLIND_RESEND_MS, Answer, Basis, Recorded
from worker.comparison import RECORD_SECONDS, Comparison, PageCompared
from worker.desk import Desk
from worker.discrepancies import lost_there, may_be_given_up, should_be_listed
from worker.processor import Gone, Lists, Noun
from worker.stripe_reader import Stopped, StripeReader

log = structlog.get_logger(__name__)

MARGIN_MS = 60_000
"""Objects younger than this are left for the next time: their jobs may be about to be recorded."""
SKEW_MS = 2 * 3600 * 1000
"""By how much Stripe's clock and the store's may differ where a list must have everything: more than a summer time."""
DAY_MS = 24 * 3600 * 1000
ASKED_AGAIN_MS = 3_600_000
"""Until when what was asked for in the same words is the same: "24h" is another window a day later."""
MOST_UNKNOWN = 1000
"""Jobs in doubt that one round takes up."""
_KEEP_SECONDS = 8.0
_NEXT = {Phase.PAYMENT_INTENTS: Phase.CUSTOMERS, Phase.CUSTOMERS: Phase.JOBS, Phase.JOBS: Phase.DONE}
_NOUNS = {Phase.PAYMENT_INTENTS: Noun.PAYMENT_INTENT, Phase.CUSTOMERS: Noun.CUSTOMER}

Tell = Callable[[Progress], None]


class Reconcile:
    """Compares one desk with Stripe. Whoever uses it holds the lease (`holding`) for as long as that takes."""

    def __init__(self, desk: Desk, lists: Lists, calls: RedisCalls, *, margin_ms: int = MARGIN_MS,
                 pauses: Sequence[float] | None = None) -> None:
        self.state = ReconcileState(calls)
        self._desk = desk
        self._stripe = StripeReader(desk.pacing, lists) if pauses is None else StripeReader(desk.pacing, lists, pauses)
        self._comparison = Comparison(desk, self._stripe, Ledger(calls), self.state)
        self._margin_ms = margin_ms

    @contextlib.asynccontextmanager
    async def holding(self) -> AsyncIterator[bool]:
        """Hold the lease, renewed in the background; False inside when another process has it."""
        failpoint("reconcile.hold.before")
        held = (await self.state.hold()).held
        failpoint("reconcile.hold.after")
        if not held:
            yield False
            return
        keeping = asyncio.create_task(self._keep())
        try:
            yield True
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
            with contextlib.suppress(StoreUnavailable):  # then it ends by itself
                await self.state.leave()

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(_KEEP_SECONDS)
            with contextlib.suppress(StoreUnavailable):
                await self.state.keep()

    async def run(self, run: Run, *, since_ms: int, fix: bool, asked: str = "", until_ms: int | None = None,
                  tell: Tell | None = None) -> Progress:
        """Compare everything created since, up to a moment ago; goes on with the same comparison that was stopped.

        The same: of the same run, asked for in the same words, and not complete. Raises LeaseLost, StoreUnavailable.
        """
        seen = await self.state.look()
        before = seen.runs.get(run)
        fresh = before is not None and (run is not Run.ASKED or seen.now_ms - before.at_ms < ASKED_AGAIN_MS)
        if before is not None and fresh and not before.complete and (before.asked, before.fix) == (asked, fix):
            progress = replace(before, stopped_by="")
        else:
            until_ms = seen.now_ms - self._margin_ms if until_ms is None else until_ms
            progress = Progress(since_ms=min(since_ms, until_ms), until_ms=until_ms, begun_ms=seen.now_ms, fix=fix,
                                asked=asked, at_ms=seen.now_ms)
            failpoint("reconcile.begin.before")
            await self.state.begin(run, progress)
            failpoint("reconcile.begin.after")
        self._comparison.forget()
        return await self._go_on(run, progress, tell or (lambda _: None))

    async def _go_on(self, run: Run, progress: Progress, tell: Tell) -> Progress:
        while progress.phase is not Phase.DONE:
            try:
                page, progress = await (self._jobs(progress) if progress.phase is Phase.JOBS else self._list(progress))
            except Stopped as stopped:
                progress = replace(progress, stopped_by=stopped.reason, at_ms=(await self.state.look()).now_ms)
                await self.state.save(run, progress)
                return progress
            progress = _counted(progress, page, now_ms=(await self.state.look()).now_ms)
            failpoint("reconcile.save.before")
            await self.state.save(run, progress, listed=page.listed, findings=page.findings)
            failpoint("reconcile.save.after")
            tell(progress)
        return progress

    async def _list(self, progress: Progress) -> tuple[PageCompared, Progress]:
        """Compare a page of a list."""
        noun = _NOUNS[progress.phase]
        found = await self._stripe.page(noun, since_ms=progress.since_ms, until_ms=progress.until_ms,
                                        after=progress.after)
        page = await self._comparison.page(found.objects, fix=progress.fix)
        page.findings += [Finding(Discrepancy.MALFORMED, None, None, here="unknown", there=f"no {noun}")
                          for _ in range(found.unreadable)]
        progress = replace(progress, newest_ms=max([progress.newest_ms, *(one.created_ms for one in found.objects)]))
        if found.last is not None:
            return page, replace(progress, after=found.last)
        return page, replace(progress, after="", phase=_NEXT[progress.phase])

    async def _jobs(self, progress: Progress) -> tuple[PageCompared, Progress]:
        """Compare a page of the desk's jobs with what was listed; what was not is asked for by itself.

        Jobs of a day before the window are read too: they may have waited for long before they were sent.
        """
        failpoint("reconcile.jobs.before")
        begin_ms = int(progress.after) if progress.after else progress.since_ms - DAY_MS
        job_ids, next_ms = await self._desk.store.created(since_ms=begin_ms, until_ms=progress.until_ms)
        page = PageCompared()
        for job in await self._desk.store.read(job_ids):
            if job is not None and should_be_listed(job, terms=self._desk.terms, since_ms=progress.since_ms,
                                                    until_ms=progress.until_ms, begun_ms=progress.begun_ms):
                page.compared += 1
                page.findings += await self._lost(job, fix=progress.fix)
        failpoint("reconcile.jobs.after")
        if next_ms is not None:
            return page, replace(progress, after=str(next_ms))
        listed_to_ms = min(progress.newest_ms, progress.held_back_ms - 1000 if progress.held_back_ms
                           else progress.newest_ms)
        return page, replace(progress, after="", phase=Phase.DONE, complete=True, listed_to_ms=listed_to_ms)

    async def _lost(self, job: Job, *, fix: bool) -> list[Finding]:
        """What becomes of a job whose object was in no list: Stripe is asked for it, and then the job again."""
        if not isinstance(await self._stripe.retrieve(Noun.of(job.kind), job.stripe_id or ""), Gone):
            return []
        [again] = await self._desk.store.read([job.id])
        if again is None or (again.status, again.stripe_id) != (job.status, job.stripe_id):
            return []
        finding = lost_there(again)
        return [await self._comparison.note(finding) if fix else finding]

    async def give_up(self) -> int:
        """End the jobs in doubt that are too old to be sent again, if a whole list shows nothing of them; how many.

        Raises LeaseLost, StoreUnavailable, Stopped.
        """
        jobs = await self._too_old()
        ended = 0
        for noun in Noun:
            waiting = {job.id: job for job in jobs if Noun.of(job.kind) is noun}
            if waiting:
                since_ms = min(job.first_sent_ms or 0 for job in waiting.values()) - SKEW_MS
                for job_id in await self._listed_since(noun, since_ms, set(waiting)):
                    del waiting[job_id]
                for job in waiting.values():
                    ended += await self._give_up(job)
        return ended

    async def _give_up(self, job: Job) -> bool:
        failpoint("reconcile.give_up.before")
        verdict = await self._desk.store.record(_never_reached(job), deadline_seconds=RECORD_SECONDS)
        failpoint("reconcile.give_up.after")
        return verdict is Recorded.RECORDED

    async def _too_old(self) -> list[Job]:
        job_ids = await self._desk.store.in_status(Status.UNKNOWN, most=MOST_UNKNOWN)
        jobs, seen = await asyncio.gather(self._desk.store.read(job_ids), self.state.look())
        return [job for job in jobs if job is not None and may_be_given_up(
            job, terms=self._desk.terms, now_ms=seen.now_ms, resend_ms=BLIND_RESEND_MS)]

    async def _listed_since(self, noun: Noun, since_ms: int, job_ids: set[str]) -> set[str]:
        """Which of these jobs a whole list up to now names; their objects are recorded on the way.

        An object that does not tell whose it is could be any of theirs: then the list is no proof. Raises Stopped.
        """
        named, after = set[str](), ""
        while True:
            page = await self._stripe.page(noun, since_ms=since_ms, until_ms=None, after=after)
            await self.state.keep()
            if page.unreadable or any(listed.malformed and listed.job_id is None for listed in page.objects):
                raise Stopped("unreadable_object")
            found = [listed for listed in page.objects if listed.job_id in job_ids]
            named |= {listed.job_id for listed in found if listed.job_id is not None}
            await self._comparison.page(found, fix=True)
            if page.last is None:
                return named
            after = page.last


async def rebuild(desk: Desk, lists: Lists, calls: RedisCalls, *, tell: Tell | None = None) -> Progress:
    """Make again, from everything that Stripe has of this desk, the jobs, payments and ledger entries that are lost.

    Goes on where it was stopped; `complete` says whether everything was listed. Raises LeaseLost when another process
    compares, and StoreUnavailable.
    """
    reconcile = Reconcile(desk, lists, calls, margin_ms=-SKEW_MS)  # nothing is under way on a desk that is lost
    async with reconcile.holding() as held:
        if not held:
            raise LeaseLost
        return await reconcile.run(Run.REBUILD, since_ms=0, fix=True, tell=tell)


def _never_reached(job: Job) -> Answer:
    error = job_error("never_reached_stripe", "Stripe's list proves that nothing of this reached it; it is given up.")
    return Answer(job=job, basis=Basis.ABSENCE, status=Status.FAILED, book=Book(job.mode), error=error,
                  counts_as_failed=job.kind is Kind.CHARGE)


def _counted(progress: Progress, page: PageCompared, *, now_ms: int) -> Progress:
    oldest = min([progress.held_back_ms or now_ms, *page.in_motion])
    return replace(progress.with_findings(page.findings, foreign=page.foreign),
                   compared=progress.compared + page.compared, in_motion=progress.in_motion + len(page.in_motion),
                   held_back_ms=oldest if page.in_motion or progress.held_back_ms else 0, at_ms=now_ms)

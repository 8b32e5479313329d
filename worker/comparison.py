"""A page of Stripe's objects against the desk's records: read again before it is called a discrepancy, then mended.

Only what a job's own attempt would have recorded is recorded; everything else is told, and noted on the job.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from shared.failpoints import failpoint
from shared.jobs import Job, Status
from shared.ledger import Ledger
from shared.reconcile_state import Discrepancy, Finding, ReconcileState
from shared.results import SUCCEEDED, Customer, Payment
from shared.store import Answer
from worker.desk import Desk
from worker.discrepancies import Ours, Verdict, compare, fact, is_mended_by_the_fact, stub
from worker.processor import Listed, Noun
from worker.stripe_reader import StripeReader

RECORD_SECONDS = 15.0


@dataclass(slots=True)
class PageCompared:
    """What comparing one page gave."""

    findings: list[Finding] = field(default_factory=list)
    listed: list[str] = field(default_factory=list)
    """Jobs whose objects were there."""
    foreign: int = 0
    compared: int = 0
    in_motion: list[int] = field(default_factory=list)
    """When the objects were created that were left out."""


class Comparison:
    """Compares objects with one desk's records."""

    def __init__(self, desk: Desk, stripe: StripeReader, ledger: Ledger, state: ReconcileState) -> None:
        self._desk = desk
        self._stripe = stripe
        self._ledger = ledger
        self._state = state
        self._mark = desk.ids.desk()
        self._seen_ms = 0
        """The store's time when it was last read."""
        self._taken: dict[str, str] = {}
        """Objects of this comparison by their jobs, as long as the jobs name none themselves."""

    def forget(self) -> None:
        """Begin anew: what was seen is of another comparison."""
        self._taken.clear()

    async def page(self, objects: Sequence[Listed], *, fix: bool) -> PageCompared:
        """Compare a page: what seems to differ is read again, objects of one job one after the other."""
        ours, now_ms = await self._ours(objects)
        page, suspects = PageCompared(), dict[str, list[Listed]]()
        for listed, known in zip(objects, ours, strict=True):
            if self._is_foreign(listed, known):
                page.foreign += 1
                continue
            page.compared += 1
            verdict = compare(listed, known, terms=self._desk.terms, now_ms=now_ms)
            if isinstance(verdict, Finding):
                suspects.setdefault(listed.job_id or listed.id, []).append(listed)
            elif verdict is Verdict.IN_MOTION:
                page.in_motion.append(listed.created_ms)
            elif listed.job_id is not None:
                page.listed.append(listed.job_id)
        done = await asyncio.gather(*(self._examine_all(group, page, fix=fix) for group in suspects.values()),
                                    return_exceptions=True)
        for failure in done:
            if failure is not None:
                raise failure
        return page

    def _is_foreign(self, listed: Listed, ours: Ours) -> bool:
        """Whether another desk made it, or nobody's desk. Objects of earlier versions name no desk, only a job."""
        if listed.desk is not None:
            return listed.desk != self._mark
        return ours.job is None and (listed.job_id is not None or listed.malformed is None)

    async def _ours(self, objects: Sequence[Listed]) -> tuple[list[Ours], int]:
        """What the desk has of these objects, and the store's time after that."""
        failpoint("reconcile.read.before")
        mine = [listed for listed in objects if listed.job_id is not None and listed.desk in (self._mark, None)]
        jobs, booked, seen = await asyncio.gather(
            self._desk.store.read([listed.job_id or "" for listed in mine]),
            self._ledger.captured_cents([listed.id for listed in mine]), self._state.look())
        failpoint("reconcile.read.after")
        self._seen_ms = seen.now_ms
        known = {listed.id: Ours(job, booked.get(listed.id)) for listed, job in zip(mine, jobs, strict=True)}
        return [known.get(listed.id, Ours(None)) for listed in objects], seen.now_ms

    async def _examine_all(self, group: Sequence[Listed], page: PageCompared, *, fix: bool) -> None:
        for listed in group:
            verdict = await self._examine(listed, fix=fix)
            if isinstance(verdict, Finding):
                page.findings.append(verdict)
            elif verdict is Verdict.IN_MOTION:
                page.in_motion.append(listed.created_ms)
            another = isinstance(verdict, Finding) and verdict.kind is Discrepancy.DUPLICATE
            if listed.job_id is not None and not another:
                page.listed.append(listed.job_id)

    async def _examine(self, listed: Listed, *, fix: bool) -> Finding | Verdict:
        """Look again at what seems to differ: the desk may have moved since the list was made, and Stripe too."""
        verdict, job = await self._again(listed)
        if isinstance(verdict, Finding) and _may_have_moved(verdict, listed):
            asked = await self._stripe.retrieve(_noun_of(listed), listed.id)
            if not isinstance(asked, Listed):
                return Verdict.AGREES  # it is no more: then the job's side tells
            listed = asked
            verdict, job = await self._again(listed)
        if not isinstance(verdict, Finding):
            return verdict
        verdict = self._or_duplicate(verdict, job)
        return await self._mend(verdict, listed, job) if fix else verdict

    async def _again(self, listed: Listed) -> tuple[Finding | Verdict, Job | None]:
        [ours], now_ms = await self._ours([listed])
        return compare(listed, ours, terms=self._desk.terms, now_ms=now_ms), ours.job

    def _or_duplicate(self, finding: Finding, job: Job | None) -> Finding:
        """The second object of a job that names none itself is a duplicate too."""
        if finding.job_id is None or finding.object_id is None or (job is not None and job.stripe_id is not None):
            return finding
        first = self._taken.setdefault(finding.job_id, finding.object_id)
        return finding if first == finding.object_id else replace(finding, kind=Discrepancy.DUPLICATE)

    async def _mend(self, finding: Finding, listed: Listed, job: Job | None) -> Finding:
        """Record what Stripe said, if that is safe, else note it on the job; then look whether it is mended."""
        failpoint("reconcile.fix.before")
        answer = self._answer(finding, listed, job)
        if answer is not None:
            await self._desk.store.record(answer, deadline_seconds=RECORD_SECONDS)
        failpoint("reconcile.fix.after")
        verdict, job = await self._again(listed)
        if not isinstance(verdict, Finding):
            return replace(finding, fixed=verdict is Verdict.AGREES)
        may_be_noted = job is not None and job.status is not Status.PARKED and verdict.kind is not Discrepancy.MALFORMED
        return await self.note(replace(verdict, kind=finding.kind)) if may_be_noted else finding

    def _answer(self, finding: Finding, listed: Listed, job: Job | None) -> Answer | None:
        if not is_mended_by_the_fact(finding.kind, job, self._desk.terms):
            return None
        if finding.kind is Discrepancy.DUPLICATE and finding.noted:
            return None  # its money is booked
        made_again = stub(listed, terms=self._desk.terms) if job is None else None
        if job is None and made_again is not None:
            job = made_again.new.queued(made_again.created_ms)
        if job is None:
            return None
        answer = fact(job, listed, now_ms=self._seen_ms)
        return None if answer is None else replace(answer, stub=made_again)

    async def note(self, finding: Finding) -> Finding:
        """Note on a job that something speaks against it, and alarm, once."""
        if finding.job_id is None or finding.noted:
            return finding
        failpoint("reconcile.note.before")
        await self._desk.store.note(finding.job_id, finding.object_id or finding.kind)
        failpoint("reconcile.note.after")
        return replace(finding, noted=True)


def _may_have_moved(finding: Finding, listed: Listed) -> bool:
    """Whether Stripe's side of a finding may be out of date: what is paid stays so, and marks do not change."""
    paid = isinstance(listed.made, Payment) and listed.made.status == SUCCEEDED
    return finding.kind is Discrepancy.AMOUNT or (finding.kind is Discrepancy.STATUS and not paid)


def _noun_of(listed: Listed) -> Noun:
    return Noun.CUSTOMER if isinstance(listed.made, Customer) else Noun.PAYMENT_INTENT

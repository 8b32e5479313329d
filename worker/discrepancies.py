"""One object of Stripe's against one job: what speaks against what, and whether Stripe's fact may mend it."""

from dataclasses import dataclass
from enum import StrEnum

from shared.jobs import Job, Kind, Mode, NewJob, Status
from shared.money import dollars_text
from shared.reconcile_state import Discrepancy, Finding
from shared.results import SUCCEEDED, Customer, Payment
from shared.settings import STRIPE_API_VERSION
from shared.store import Answer, Stub
from worker import facts
from worker.desk import Terms
from worker.processor import Listed, Settled


class Verdict(StrEnum):
    """What comes of comparing, when it is no finding."""

    AGREES = "agrees"
    IN_MOTION = "in_motion"
    """A worker has the job right now."""


@dataclass(frozen=True, slots=True)
class Ours:
    """What the desk has of an object: its job, and what is booked."""

    job: Job | None
    booked_cents: int | None = None


def compare(listed: Listed, ours: Ours, *, terms: Terms, now_ms: int) -> Finding | Verdict:
    """What an object that this desk made and its job say of each other."""
    job = ours.job
    kind = _difference(listed, ours, terms, now_ms)
    if isinstance(kind, Verdict):
        return kind
    return Finding(kind, listed.id, listed.job_id, here=_here(ours), there=listed.malformed or _there(listed.made),
                   noted=job is not None and job.contradicted_by is not None)


def _difference(listed: Listed, ours: Ours, terms: Terms, now_ms: int) -> Discrepancy | Verdict:
    job, made = ours.job, listed.made
    if listed.malformed is not None or made is None:
        return Discrepancy.MALFORMED
    if job is None:
        return Discrepancy.MISSING_HERE
    if (job.mode, job.account) != (terms.mode, terms.account):
        return Discrepancy.STATUS
    if job.status is Status.RUNNING and job.lease_until_ms > now_ms:
        return Verdict.IN_MOTION
    if _real_id(job) not in (None, listed.id):
        return Discrepancy.DUPLICATE
    if isinstance(made, Payment) and not _amounts_agree(made, ours):
        return Discrepancy.AMOUNT
    return Verdict.AGREES if _statuses_agree(listed, job, ours, now_ms) else Discrepancy.STATUS


def _amounts_agree(made: Payment, ours: Ours) -> bool:
    job, booked = ours.job, ours.booked_cents
    asked = job is None or (made.amount_cents, made.currency) == (job.amount_cents, job.currency)
    whole = facts.is_whole(made)
    return asked and whole and booked in (None, made.received_cents)


def _statuses_agree(listed: Listed, job: Job, ours: Ours, now_ms: int) -> bool:
    answer = fact(job, listed, now_ms=now_ms)
    if answer is None:
        return False
    paid = isinstance(listed.made, Payment) and listed.made.status == SUCCEEDED
    if paid and ours.booked_cents is None:
        return False
    if job.status is answer.status or job.contradicted_by == listed.id:
        return True
    # The bank said no, and the intent waits for a customer who is not asked again.
    return (job.status, answer.status) == (Status.FAILED, Status.PENDING) and job.stripe_id == listed.id


def fact(job: Job, listed: Listed, *, now_ms: int) -> Answer | None:
    """What a listed object means for its job, as if the job's own attempt had got it; None: it is not what was asked.

    A charge that nobody waits for, and that no bank took, was declined: its attempt would have been told so.
    """
    if listed.made is None:
        return None
    if job.kind is Kind.CHARGE and listed.declined is not None and job.status is not Status.PENDING:
        return facts.declined(job, listed.declined)
    return facts.settled(job, Settled(listed.made, listed.client_secret), now_ms=now_ms)


def is_mended_by_the_fact(kind: Discrepancy, job: Job | None, terms: Terms) -> bool:
    """Whether recording what Stripe said is safe: it is what the job's own attempt would have recorded."""
    if kind is Discrepancy.MISSING_HERE:
        return True
    if job is None or (job.mode, job.account) != (terms.mode, terms.account) or job.status is Status.PARKED:
        return False
    # Money of a second object is booked, and speaks against the job's end; before there is one it would become it.
    return kind is Discrepancy.STATUS or (kind is Discrepancy.DUPLICATE and job.status.final)


def stub(listed: Listed, *, terms: Terms) -> Stub | None:
    """The job of an object, as far as the object tells it; None when it does not tell what the job was."""
    made = listed.made
    if made is None or listed.job_id is None or listed.kind is None or made.livemode is not (terms.mode is Mode.LIVE):
        return None
    amount_cents = made.amount_cents if isinstance(made, Payment) else None
    new = NewJob(id=listed.job_id, kind=listed.kind, caller="", body_hash="", request={}, params={}, mode=terms.mode,
                 account=terms.account, api_version=STRIPE_API_VERSION, amount_cents=amount_cents)
    return Stub(new, created_ms=listed.created_ms)


def should_be_listed(job: Job, *, terms: Terms, since_ms: int, until_ms: int, begun_ms: int) -> bool:
    """Whether a list of that window, begun then, should have shown the job's object and did not."""
    if (job.mode, job.account) != (terms.mode, terms.account) or _real_id(job) is None:
        return False
    sent_ms = job.first_sent_ms or job.created_ms
    return (job.kind in (Kind.PAYMENT_INTENT, Kind.CHARGE, Kind.CUSTOMER)
            and job.status in (Status.SUCCEEDED, Status.PENDING)
            and since_ms <= sent_ms <= until_ms and job.listed_ms < begun_ms)


def lost_there(job: Job) -> Finding:
    """The finding that Stripe has no object of a job."""
    return Finding(Discrepancy.MISSING_THERE, job.stripe_id, job.id, here=_here(Ours(job)), there="nothing",
                   noted=job.contradicted_by is not None)


def may_be_given_up(job: Job, *, terms: Terms, now_ms: int, resend_ms: int) -> bool:
    """Whether a job waits for the proof that Stripe has nothing of it."""
    return (job.status is Status.UNKNOWN and (job.mode, job.account) == (terms.mode, terms.account)
            and job.kind in (Kind.PAYMENT_INTENT, Kind.CHARGE, Kind.CUSTOMER) and job.lease_until_ms <= now_ms
            and job.first_sent_ms is not None and now_ms - job.first_sent_ms > resend_ms)


def _real_id(job: Job) -> str | None:
    """The object of the job at Stripe; the mock's are none."""
    return None if job.stripe_id is None or "_mock_" in job.stripe_id else job.stripe_id


def _here(ours: Ours) -> str:
    booked = "" if ours.booked_cents is None else f", booked {dollars_text(ours.booked_cents)}"
    if ours.job is None:
        return f"nothing{booked}"
    amount = "" if ours.job.amount_cents is None else f" {dollars_text(ours.job.amount_cents)}"
    return f"{ours.job.status}{amount}{booked}"


def _there(made: Payment | Customer | None) -> str:
    if not isinstance(made, Payment):
        return "there"
    received = f", received {dollars_text(made.received_cents)}" if made.received_cents else ""
    return f"{made.status} {dollars_text(made.amount_cents)}{received}"

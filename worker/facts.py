"""What an object of Stripe's means for its job: the answer to record, the same whoever saw the object."""

from collections.abc import Mapping
from typing import Any

from shared.jobs import CURRENCY, Book, FallbackReason, Job, Kind, Mode, Status, job_error
from shared.ledger import captured
from shared.results import CANCELED, SUCCEEDED, Customer, Payment, result_of
from shared.store import Answer, Basis
from worker.processor import Declined, Settled

LOOK_AT_SECONDS = (60, 600, 3600, 6 * 3600, 24 * 3600)
"""At what age a pending job is looked at; after the last, daily."""
DAY_SECONDS = 24 * 3600
OVERDUE_SECONDS = 7 * DAY_SECONDS
"""At what age a payment that waits for its customer is canceled."""


def settled(job: Job, outcome: Settled, *, now_ms: int, fallback: FallbackReason | None = None) -> Answer | None:
    """The answer that an object gives its job; None when it is not what the job asked for. `fallback`: the mock's."""
    made, book = outcome.made, _book(job, fallback)
    if fallback is None and not is_ours(job, made):
        return None
    status = _status(job, made)
    # Whoever pays in a browser needs it; for a charge that is done it would only be one more secret to keep.
    secret = outcome.client_secret if job.kind is Kind.PAYMENT_INTENT or status is Status.PENDING else None
    return Answer(
        job=job, basis=Basis.MOCK if fallback else Basis.FACT, status=status, book=book, stripe_id=made.id,
        result=None if status is Status.FAILED else result_of(job.kind, made, fallback=fallback,
                                                              has_secret=secret is not None),
        error=_canceled(job, now_ms) if status is Status.FAILED else None,
        client_secret=secret, payment=_learned(job, made, book), entries=_entries(job, made, book),
        counts_as_failed=status is Status.FAILED and job.kind is Kind.CHARGE, look_ms=look_ms(job, now_ms=now_ms))


def declined(job: Job, outcome: Declined, *, fallback: FallbackReason | None = None) -> Answer | None:
    """The answer that a bank's no gives its job; None when the intent that it names is not the job's."""
    book, payment = _book(job, fallback), outcome.payment
    if payment is not None and fallback is None and not is_ours(job, payment):
        return None
    error = job_error(outcome.code, outcome.message, decline_code=outcome.decline_code,
                      stripe_request_id=outcome.request_id)
    return Answer(
        job=job, basis=Basis.MOCK if fallback else Basis.FACT, status=Status.FAILED, book=book, error=error,
        stripe_id=payment.id if payment else None, payment=_learned(job, payment, book) if payment else None,
        counts_as_failed=job.kind is Kind.CHARGE)


def is_ours(job: Job, made: Payment | Customer) -> bool:
    """Whether an object is what the job asked for: its own, in its mode, of its amount."""
    if made.livemode is not (job.mode is Mode.LIVE):
        return False
    if job.kind is Kind.STATUS_REFRESH:
        return True
    if made.job_id != job.id:
        return False
    if not isinstance(made, Payment):
        return True
    return is_whole(made) and (made.amount_cents, made.currency) == (job.amount_cents, job.currency)


def is_whole(made: Payment | Customer) -> bool:
    """Whether a payment that a job made and that succeeded was received in full: jobs ask for nothing else."""
    if not isinstance(made, Payment) or made.job_id is None or made.status != SUCCEEDED:
        return True
    return (made.received_cents, made.currency) == (made.amount_cents, CURRENCY)


def look_ms(job: Job, *, now_ms: int) -> int:
    """How long until a pending job's next look, by its age: at 1 min, 10 min, 1 h, 6 h, then daily, and at 7 days."""
    age_ms = _age_ms(job, now_ms)
    at_seconds = (*LOOK_AT_SECONDS, OVERDUE_SECONDS)
    next_ms = next((at * 1000 - age_ms for at in at_seconds if at * 1000 > age_ms), DAY_SECONDS * 1000)
    return min(next_ms, DAY_SECONDS * 1000)


def is_overdue(job: Job, *, now_ms: int) -> bool:
    """Whether a payment that nobody has finished by now is given up."""
    return _age_ms(job, now_ms) >= OVERDUE_SECONDS * 1000


def _age_ms(job: Job, now_ms: int) -> int:
    return max(0, now_ms - job.created_ms)


def _canceled(job: Job, now_ms: int) -> Mapping[str, Any]:
    """Why a payment is canceled, by its age alone: so it is also told when the desk's own cancel was not recorded."""
    if is_overdue(job, now_ms=now_ms):
        return job_error("action_not_completed", "Neither the customer nor the bank finished the payment in 7 days.")
    return job_error("payment_canceled", "The payment was canceled at Stripe.")


def _status(job: Job, made: Payment | Customer) -> Status:
    """An intent's job ends once the intent exists; a charge's when money moved, or when it never will."""
    if not isinstance(made, Payment) or job.kind is not Kind.CHARGE or made.status == SUCCEEDED:
        return Status.SUCCEEDED
    return Status.FAILED if made.status == CANCELED else Status.PENDING


def _book(job: Job, fallback: FallbackReason | None) -> Book:
    return Book.MOCK if fallback else Book(job.mode)


def _learned(job: Job, made: Payment | Customer, book: Book) -> Mapping[str, str] | None:
    if not isinstance(made, Payment):
        return None
    maker = _maker(job, made)
    return {"id": made.id, "status": made.status, "amount_cents": str(made.amount_cents),
            "received_cents": str(made.received_cents), "currency": made.currency, "book": book,
            "account": job.account} | ({} if maker is None else {"job": maker})


def _entries(job: Job, made: Payment | Customer, book: Book) -> list[dict[str, str]]:
    """Money counts when a payment of this desk is succeeded, once, whoever reports it."""
    if not isinstance(made, Payment) or made.status != SUCCEEDED or made.currency != CURRENCY:
        return []
    maker = _maker(job, made)
    return [] if maker is None else [captured(made, book=book, account=job.account, job_id=maker)]


def _maker(job: Job, made: Payment) -> str | None:
    """The job that made a payment: a refresh only looks at it, and may see one that no job made."""
    return made.job_id or job.pays if job.kind is Kind.STATUS_REFRESH else job.id

"""attempt(desk, job): call, decide, record. The one place that decides what becomes of a claimed job."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import structlog

from shared.errors import StoreUnavailable
from shared.failpoints import failpoint
from shared.jobs import Book, FallbackReason, Job, Kind, Mode, NewJob, Status, job_error
from shared.results import Customer, Payment
from shared.settings import Fallback
from shared.store import Answer, Basis, Recorded
from shared.stripe_params import mock_payment_job
from worker.desk import Desk
from worker.facts import declined, is_whole, look_ms, settled
from worker.look import LOOK_AGAIN_MS, look
from worker.processor import Declined, Mismatch, NotSent, Outcome, Processor, Refused, Settled, Throttled, Unknown

log = structlog.get_logger(__name__)

RECORD_SECONDS = 15.0
"""How long a result is offered to a store that does not answer. A fact lost here comes again: its key is replayed."""

CIRCUIT_WAIT_SECONDS = 1.5
"""How long an attempt that could not connect waits for the other workers, which began to try when this one did."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits that double from `first` to `most` seconds, each shortened at random by up to half to spread retries."""

    first: float
    most: float

    def ms(self, attempts: int, between: Callable[[float, float], float]) -> int:
        """The wait after so many attempts; `between` draws from a range."""
        seconds = min(self.most, self.first * 2 ** min(attempts - 1, 30))
        return int(1000 * seconds * between(0.5, 1))


AFTER_DOUBT = Backoff(first=1, most=300)
AFTER_THROTTLE = Backoff(first=1, most=30)
AFTER_NOT_SENT = Backoff(first=1, most=30)
AT_ONCE_MS = 200


async def attempt(desk: Desk, job: Job, *, has_slot: bool) -> str:
    """Work one claimed job to an answer or give it back; answers one line for people, without personal data.

    `has_slot`: whether a slot of the budget was reserved for it; without one Stripe is not called.
    Whatever goes wrong ends here, so that it takes no neighbour with it: the lease ends by itself, its doubt stays, and
    the job is taken up again.
    """
    try:
        work = _look if job.status is Status.PENDING else _send
        said = await work(desk, job, has_slot=has_slot)
    except StoreUnavailable:
        log.warning("attempt_left", job_id=job.id, reason="store_unavailable")
        said = "left"
    except Exception as failure:
        log.exception("attempt_failed", job_id=job.id, reason=type(failure).__name__)
        said = "left"
    return f"{job.id} {said}"


def _wait_ms(desk: Desk, job: Job, waits: Backoff) -> int:
    return waits.ms(job.attempts, desk.machine.between)


async def _look(desk: Desk, job: Job, *, has_slot: bool) -> str:
    """Ask how a pending job's object stands; it changes only by what is seen. In the mock nothing happens to one."""
    is_mock = job.book is Book.MOCK
    stripe = desk.stripe if has_slot and not is_mock else None
    outcome: Outcome = NotSent("nobody_to_ask") if stripe is None else await look(desk, job, stripe)
    if isinstance(outcome, Settled):
        return await _settle(desk, job, outcome, None)
    scheduled_ms = look_ms(job, now_ms=desk.machine.wall_ms())
    await desk.store.release(job, error=job_error("look_failed", "Stripe did not answer."), unsent=True, answered=False,
                             delay_ms=scheduled_ms if is_mock else min(LOOK_AGAIN_MS, scheduled_ms))
    return Status.PENDING


async def _send(desk: Desk, job: Job, *, has_slot: bool) -> str:
    if job.mode is Mode.NONE:
        # The customer who pays an intent that a network error made a mock: its account tells that there was a key.
        return await _ask(desk, job, desk.mock,
                          FallbackReason.NETWORK_ERROR if job.account else FallbackReason.NO_API_KEY)
    if desk.stripe is None:  # claim gives a job of another mode to nobody
        raise AssertionError("a job with a mode was claimed by a desk without a key")
    is_look = job.kind is Kind.STATUS_REFRESH
    if desk.reachability.reach.open:
        return await (_unanswered(desk, job) if is_look else _fall_back(desk, job, "circuit_open"))
    if not has_slot:  # the circuit closed since the claim
        return await _again(desk, job, _network_error("circuit_closed"), AT_ONCE_MS, unsent=True, answered=False)
    return await (_refresh(desk, job, desk.stripe) if is_look else _ask(desk, job, desk.stripe, None))


async def _refresh(desk: Desk, job: Job, stripe: Processor) -> str:
    """Look at a payment once. A look moves nothing, so whatever keeps Stripe from answering ends it, unanswered."""
    failpoint("look.before")
    outcome = await stripe.send(job)
    failpoint("look.after")
    match outcome:
        case Settled() if is_whole(outcome.made) and await _is_as_asked(desk, outcome.made):
            return await _settle(desk, job, outcome, None)
        case Refused():
            return await _refuse(desk, job, outcome)
    answered = isinstance(outcome, Settled | Throttled) or (isinstance(outcome, Unknown) and outcome.answered)
    said = await _unanswered(desk, job, answered=answered)
    if isinstance(outcome, NotSent):  # only now: who polls need not wait for these tries
        await desk.reachability.check(suspected=True)
    return said


async def _is_as_asked(desk: Desk, made: Payment | Customer) -> bool:
    """Whether a payment that was looked at has the amount that the job which made it asked for, if that is ours."""
    maker = await desk.store.get(made.job_id) if isinstance(made, Payment) and made.job_id else None
    return (maker is None or not isinstance(made, Payment)
            or (made.amount_cents, made.currency) == (maker.amount_cents, maker.currency))


async def _unanswered(desk: Desk, job: Job, *, answered: bool = False) -> str:
    error = job_error("stripe_unavailable", "Stripe did not tell how the payment stands.", retryable=True)
    return await _record(desk, Answer(job=job, basis=Basis.REFUSAL, status=Status.FAILED, book=Book(job.mode),
                                      error=error, answered=answered))


async def _ask(desk: Desk, job: Job, processor: Processor, fallback: FallbackReason | None) -> str:
    failpoint("send.before", job.id)
    outcome = await processor.send(job)
    failpoint("send.after")
    match outcome:
        case Settled():
            return await _settle(desk, job, outcome, fallback)
        case Declined():
            return await _decline(desk, job, outcome, fallback)
        case Refused():
            return await _refuse(desk, job, outcome)
        case Mismatch():
            return await _park(desk, job, "idempotency_mismatch", "Stripe knows this job's key with other parameters.")
        case Throttled():
            return await _again(desk, job, job_error("rate_limited", "Stripe asked to slow down.", retryable=True),
                                _wait_ms(desk, job, AFTER_THROTTLE), unsent=True, answered=True)
        case Unknown():
            return await _doubt(desk, job, outcome)
        case NotSent():
            return await _not_sent(desk, job, outcome)


async def _settle(desk: Desk, job: Job, outcome: Settled, fallback: FallbackReason | None) -> str:
    """Record an object that the processor has; it must be the one that was asked for."""
    answer = settled(job, outcome, fallback=fallback, now_ms=desk.machine.wall_ms())
    if answer is None:
        return await _park(desk, job, "unexpected_answer", "Stripe's object is not what this job asked for.")
    answer = replace(answer, **_customer_pays(desk, job, outcome.made, fallback))
    return await _record(desk, answer)


def _customer_pays(desk: Desk, job: Job, made: Payment | Customer, fallback: FallbackReason | None) -> dict[str, Any]:
    """The mock plays the customer too: an intent made in the mock is paid a moment later, by a job of its own."""
    after_ms = desk.terms.mock_pays_after_ms
    if fallback is None or job.kind is not Kind.PAYMENT_INTENT or not isinstance(made, Payment) or after_ms is None:
        return {}
    paying: NewJob = mock_payment_job(desk.ids, intent=job, payment_intent_id=made.id)
    return {"follow_up": paying, "follow_up_ms": after_ms}


async def _decline(desk: Desk, job: Job, outcome: Declined, fallback: FallbackReason | None) -> str:
    answer = declined(job, outcome, fallback=fallback)
    if answer is None:
        return await _park(desk, job, "unexpected_answer", "Stripe's object is not what this job asked for.")
    return await _record(desk, answer)


async def _refuse(desk: Desk, job: Job, outcome: Refused) -> str:
    """A refusal ends the job; one that speaks only of the key does so only if nothing of the job is in doubt."""
    error = job_error(outcome.code, outcome.message, stripe_request_id=outcome.request_id)
    answer = Answer(job=job, basis=Basis.REFUSAL, status=Status.FAILED, book=Book(job.mode) if job.mode is not Mode.NONE
                    else Book.MOCK, error=error, counts_as_failed=job.kind is Kind.CHARGE,
                    answered=outcome.request_id is not None,
                    only_without_doubt=outcome.about_the_key and job.kind is not Kind.STATUS_REFRESH)
    verdict = await desk.store.record(answer, deadline_seconds=RECORD_SECONDS)
    if verdict is Recorded.IN_DOUBT:
        return await _again(desk, job, error, _wait_ms(desk, job, AFTER_DOUBT), unsent=True, answered=True)
    return f"{answer.status} {outcome.code}" if verdict is Recorded.RECORDED else verdict


async def _doubt(desk: Desk, job: Job, outcome: Unknown) -> str:
    error = job_error("outcome_unknown", f"Whether Stripe has this is not known yet ({outcome.reason}).",
                      stripe_request_id=outcome.request_id, retryable=True)
    return await _again(desk, job, error, _wait_ms(desk, job, AFTER_DOUBT), unsent=False, answered=outcome.answered)


async def _not_sent(desk: Desk, job: Job, outcome: NotSent) -> str:
    """Provably unsent. If this worker cannot connect at all, the others are waited for: only all together may mock."""
    if not await desk.reachability.check(suspected=True):
        await _wait_for_the_others(desk)
        if desk.reachability.reach.open:
            return await _fall_back(desk, job, outcome.reason)
    return await _again(desk, job, _network_error(outcome.reason), _wait_ms(desk, job, AFTER_NOT_SENT), unsent=True,
                        answered=False)


async def _wait_for_the_others(desk: Desk) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + CIRCUIT_WAIT_SECONDS
    while not desk.reachability.reach.open and loop.time() < end:
        await asyncio.sleep(0.05)
        await desk.reachability.refresh()


async def _fall_back(desk: Desk, job: Job, reason: str) -> str:
    """Nothing of this attempt was sent, and nobody reaches Stripe: the mock answers, or the job waits."""
    if desk.terms.fallback is Fallback.DEFER:
        return await _again(desk, job, _network_error(reason), _wait_ms(desk, job, AFTER_NOT_SENT), unsent=True,
                            answered=False)
    return await _ask(desk, job, desk.mock, FallbackReason.NETWORK_ERROR)


def _network_error(reason: str) -> Mapping[str, Any]:
    return job_error("network_error", f"Stripe cannot be reached ({reason}).", retryable=True)


async def _record(desk: Desk, answer: Answer) -> str:
    """Record an answer; a mock's that may not stand (any doubt, or Stripe is back) gives the job back instead."""
    verdict = await desk.store.record(answer, deadline_seconds=RECORD_SECONDS)
    if answer.basis is Basis.MOCK and verdict in (Recorded.IN_DOUBT, Recorded.REACHABLE):
        # A job in doubt waits for the network: at once again, it would come round at every tick until that is back.
        delay_ms = AT_ONCE_MS if verdict is Recorded.REACHABLE else _wait_ms(desk, answer.job, AFTER_NOT_SENT)
        return await _again(desk, answer.job, _network_error(verdict), delay_ms, unsent=True, answered=False)
    if verdict is not Recorded.RECORDED:
        return verdict
    mark = " mock" if answer.basis is Basis.MOCK else ""
    return f"{answer.status}{mark}" + (f" {answer.error['code']}" if answer.error else "")


async def _again(desk: Desk, job: Job, error: Mapping[str, Any], delay_ms: int, *, unsent: bool, answered: bool) -> str:
    status = await desk.store.release(job, error=error, delay_ms=delay_ms, unsent=unsent, answered=answered)
    return "lease lost" if status is None else f"{status} {error['code']}"


async def _park(desk: Desk, job: Job, code: str, message: str) -> str:
    status = await desk.store.release(job, error=job_error(code, message), delay_ms=0, unsent=False, answered=True,
                                      park=True)
    return "lease lost" if status is None else f"{status} {code}"

"""attempt(): what each outcome comes to, with and without an earlier doubt, in reach of Stripe and out of it."""

import dataclasses
import random
from dataclasses import dataclass

import pytest

from shared.errors import StoreUnavailable
from shared.jobs import Book, Job, Kind, Mode, Status, job_error
from shared.operator import Signed
from shared.settings import Fallback
from shared.store import Answer, JobStore, Recorded
from tests.shared.till import Till, new, payment, refused, succeeded, waiting
from tests.worker.desks import Answers, Scripted, claimed, connects, lose_stripe, make_desk, refuses
from worker.attempt import AFTER_DOUBT, AFTER_NOT_SENT, AFTER_THROTTLE, Backoff, attempt
from worker.facts import DAY_SECONDS
from worker.mock_processor import AUTHENTICATION_REQUIRED
from worker.processor import Declined, Mismatch, NotSent, Refused, Settled, Throttled, Unknown

pytestmark = pytest.mark.anyio


@dataclass(frozen=True)
class End:
    """What a job has come to."""

    status: Status
    doubts: int
    code: str | None = None
    book: Book | None = None


OUTCOMES: dict[str, Answers] = {
    "settled": lambda job: Settled(payment(job), "pi_a_secret_x"),
    "declined": lambda job: Declined("card_declined", "No.", "generic_decline", "req_1",
                                     payment(job, "requires_payment_method")),
    "refused": lambda _: Refused("parameter_invalid", "No.", 400, "req_1"),
    "missing": lambda _: Refused("resource_missing", "No.", 404),
    "key_refused": lambda _: Refused("stripe_auth_failed", "No.", 401),
    "key_forbidden": lambda _: Refused("stripe_auth_failed", "No.", 403),
    "mismatch": lambda _: Mismatch("req_1"),
    "throttled": lambda _: Throttled("req_1"),
    "silent": lambda _: Unknown("timeout"),
    "broken": lambda _: Unknown("status_500", "req_1", answered=True),
    "not_sent": lambda _: NotSent("refused"),
    "other_amount": lambda job: Settled(payment(job, amount_cents=4999)),
    "other_mode": lambda job: Settled(payment(job, livemode=True)),
    "other_job": lambda job: Settled(payment(job, job_id="job_x")),
    "no_job": lambda job: Settled(payment(job, job_id=None)),
    "pending": lambda job: Settled(payment(job, "requires_action"), "pi_a_secret_x"),
    "processing": lambda job: Settled(payment(job, "processing")),
    "canceled": lambda job: Settled(payment(job, "canceled")),
}
PARKED = dict.fromkeys(("other_amount", "other_mode", "other_job", "no_job"), "unexpected_answer") | {
    "mismatch": "idempotency_mismatch"}
CODES = {"declined": "card_declined", "refused": "parameter_invalid", "missing": "resource_missing",
         "canceled": "payment_canceled"}
UNSENT = {"throttled": "rate_limited", "not_sent": "network_error"}


def within_reach(outcome: str, *, earlier: bool) -> End:
    """What an outcome comes to when Stripe was asked; doubts beside its own stay."""
    others = int(earlier)
    back = Status.UNKNOWN if others else Status.RETRYING
    match outcome:
        case "settled":
            return End(Status.SUCCEEDED, others + 1, None, Book.TEST)
        case "pending" | "processing":
            return End(Status.PENDING, others + 1, None, Book.TEST)
        case "declined" | "refused" | "missing" | "canceled":
            return End(Status.FAILED, others + 1, CODES[outcome], Book.TEST)
        case "key_refused" | "key_forbidden" if not earlier:
            return End(Status.FAILED, 1, "stripe_auth_failed", Book.TEST)
        case "key_refused" | "key_forbidden":
            return End(Status.UNKNOWN, others, "stripe_auth_failed")
        case "silent":
            return End(Status.UNKNOWN, others + 1, "outcome_unknown")
        case "broken":
            return End(Status.UNKNOWN, others + 1, "outcome_unknown")
        case _ if outcome in PARKED:
            return End(Status.PARKED, others + 1, PARKED[outcome])
        case _:
            return End(back, others, UNSENT[outcome])


def out_of_reach(fallback: Fallback, *, earlier: bool) -> End:
    """What comes of a job when nobody reaches Stripe: the mock only without any other doubt."""
    if earlier:
        return End(Status.UNKNOWN, 1, "network_error")
    if fallback is Fallback.DEFER:
        return End(Status.RETRYING, 0, "network_error")
    return End(Status.SUCCEEDED, 0, None, Book.MOCK)


def end_of(job: Job) -> End:
    return End(job.status, job.doubts, job.error["code"] if job.error else None, job.book)


@pytest.mark.parametrize("fallback", Fallback)
@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize("outcome", OUTCOMES)
async def test_each_outcome_within_reach(till: Till, outcome: str, earlier: bool, fallback: Fallback) -> None:
    stripe = Scripted(OUTCOMES[outcome])
    desk = make_desk(till, stripe, fallback=fallback)
    job = await claimed(till, earlier_doubt=earlier)
    line = await attempt(desk, job, has_slot=True)
    expected = within_reach(outcome, earlier=earlier)
    assert end_of(await till.job()) == expected
    assert line == f"job_a {expected.status}" + (f" {expected.code}" if expected.code else "")
    assert stripe.sent == [job]
    entries = [(entry["object"], entry["book"]) for entry in await till.entries()]
    assert entries == ([("pi_a", "test")] if outcome == "settled" else [])
    assert await till.ledger.differences() == []


@pytest.mark.parametrize("fallback", Fallback)
@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize("outcome", OUTCOMES)
async def test_out_of_reach_stripe_is_not_asked(till: Till, outcome: str, earlier: bool, fallback: Fallback) -> None:
    stripe = Scripted(OUTCOMES[outcome])
    desk = make_desk(till, stripe, fallback=fallback, connect=refuses)
    job = await claimed(till, earlier_doubt=earlier)
    await lose_stripe(till, desk)
    await attempt(desk, job, has_slot=False)
    assert end_of(await till.job()) == out_of_reach(fallback, earlier=earlier)
    assert stripe.sent == []
    assert {entry["book"] for entry in await till.entries()} <= {"mock"}


@pytest.mark.parametrize("fallback", Fallback)
@pytest.mark.parametrize("earlier", [False, True])
async def test_the_only_worker_finds_out_by_itself_that_nobody_reaches_stripe(till: Till, earlier: bool,
                                                                            fallback: Fallback) -> None:
    desk = make_desk(till, Scripted(OUTCOMES["not_sent"]), fallback=fallback, connect=refuses)
    await desk.reachability.beat(threads=2)
    await attempt(desk, await claimed(till, earlier_doubt=earlier), has_slot=True)
    assert end_of(await till.job()) == out_of_reach(fallback, earlier=earlier)


async def test_a_worker_that_fails_alone_mocks_nothing(till: Till) -> None:
    desk = make_desk(till, Scripted(OUTCOMES["not_sent"]), connect=refuses)
    await till.circuit.beat("w2", threads=2)
    await desk.reachability.beat(threads=2)
    await attempt(desk, await claimed(till), has_slot=True)
    assert end_of(await till.job()) == End(Status.RETRYING, 0, "network_error")
    assert desk.reachability.cut_off


async def test_a_mock_answer_is_taken_back_when_stripe_is_in_reach_again(till: Till) -> None:
    desk = make_desk(till, Scripted(OUTCOMES["settled"]))
    job = await claimed(till)
    await lose_stripe(till, desk)
    await till.pass_ms(await till.now_ms())
    await till.circuit.answered()
    assert await attempt(desk, job, has_slot=False) == "job_a retrying network_error"
    assert await till.entries() == []


async def test_without_a_slot_stripe_is_not_asked(till: Till) -> None:
    stripe = Scripted(OUTCOMES["settled"])
    await attempt(make_desk(till, stripe), await claimed(till), has_slot=False)
    assert end_of(await till.job()) == End(Status.RETRYING, 0, "network_error")
    assert stripe.sent == []


@pytest.mark.parametrize("key", [True, False])
async def test_a_job_of_mode_none_is_the_mocks_also_after_a_key_is_set(till: Till, key: bool) -> None:
    stripe = Scripted(OUTCOMES["settled"])
    desk = make_desk(till, stripe if key else None)
    await till.accept(new(mode=Mode.NONE))
    [job] = await till.claim("job_a", mode=desk.terms.mode, account=desk.terms.account)
    assert await attempt(desk, job, has_slot=key) == "job_a succeeded mock"
    result = (await till.job()).result
    assert result is not None
    assert (result["mock_mode"], result["fallback_reason"]) == (True, "no_api_key")
    assert stripe.sent == []


async def test_the_simulated_customer_pays_a_mock_intent_by_a_job_of_its_own(till: Till) -> None:
    desk = make_desk(till, None)
    await till.accept(new(kind=Kind.PAYMENT_INTENT, mode=Mode.NONE))
    [job] = await till.claim("job_a", mode=Mode.NONE, account="")
    await attempt(desk, job, has_slot=False)
    assert await till.entries() == []
    [paying] = await till.claim(desk.ids.child("mock_payment", "job_a"), mode=Mode.NONE, account="")
    await attempt(desk, paying, has_slot=False)
    [entry] = await till.entries()
    assert (entry["job"], entry["cents"], entry["book"]) == ("job_a", "5000", "mock")


@pytest.mark.parametrize("outcome", ["settled", "declined", "pending"])
async def test_a_late_fact_is_recorded_after_the_lease(till: Till, outcome: str) -> None:
    late = await till.started(lease_ms=1)
    await till.lapse()
    await attempt(make_desk(till, Scripted(OUTCOMES[outcome])), late, has_slot=True)
    assert end_of(await till.job()) == within_reach(outcome, earlier=False)


@pytest.mark.parametrize("outcome", ["refused", "key_refused", "mismatch", "throttled", "silent", "not_sent"])
async def test_anything_else_that_is_late_changes_nothing(till: Till, outcome: str) -> None:
    late = await till.started(lease_ms=1)
    await till.lapse()
    before = await till.job()
    line = await attempt(make_desk(till, Scripted(OUTCOMES[outcome])), late, has_slot=True)
    assert line in ("job_a lease lost", "job_a fenced")
    assert await till.job() == before


@pytest.mark.parametrize("end", ["never_reached", "resolved"])
async def test_a_late_success_of_a_job_that_was_given_up_is_booked_and_noted(till: Till, end: str) -> None:
    await till.accept(new())
    late = await till.crash()
    now = await till.claimed()
    if end == "never_reached":
        error = job_error("never_reached_stripe", "Nothing arrived.")
        await till.record(dataclasses.replace(refused(now), error=error))
    else:
        await till.release(now, park=True)
        await till.operator.resolve_as_failed("job_a", Signed("ann", "looked"), confirmed_at_stripe=True)
    given_up = await till.job()
    assert given_up.status is Status.FAILED
    line = await attempt(make_desk(till, Scripted(OUTCOMES["settled"])), late, has_slot=True)
    assert line == f"job_a {Recorded.CONTRADICTED}"
    assert await till.job() == dataclasses.replace(given_up, contradicted_by="pi_a")
    assert [(entry["object"], entry["cents"]) for entry in await till.entries()] == [("pi_a", "5000")]
    assert await till.ledger.differences() == []


class AwayAtRecord(JobStore):
    """A store that does not answer when something is to be recorded."""

    async def record(self, answer: Answer, *, deadline_seconds: float) -> Recorded:
        raise StoreUnavailable("away")


async def test_a_store_that_is_away_at_record_leaves_the_job_to_its_lease_and_the_next_attempt_finds_the_fact(
        till: Till) -> None:
    desk = make_desk(till, Scripted(OUTCOMES["settled"]))
    job = await till.started(lease_ms=1)
    assert await attempt(dataclasses.replace(desk, store=AwayAtRecord(till.calls)), job, has_slot=True) == "job_a left"
    await till.lapse()
    await till.feed()
    assert (await till.job()).status is Status.UNKNOWN
    await attempt(desk, await till.claimed(), has_slot=True)
    assert (await till.job()).status is Status.SUCCEEDED
    assert len(await till.entries()) == 1


@pytest.mark.parametrize("waits", [AFTER_DOUBT, AFTER_THROTTLE, AFTER_NOT_SENT])
def test_waits_double_up_to_their_most_and_are_shortened_by_up_to_half(waits: Backoff) -> None:
    for attempts in (1, 2, 3, 8, 40, 10_000):
        longest = min(waits.most, waits.first * 2 ** min(attempts - 1, 60)) * 1000
        drawn = [waits.ms(attempts, random.uniform) for _ in range(200)]
        assert longest / 2 - 1 <= min(drawn)
        assert max(drawn) <= longest
        assert len(set(drawn)) > 20, "retries are not spread"


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize(("outcome", "reach", "waits"), [
    ("throttled", True, AFTER_THROTTLE), ("silent", True, AFTER_DOUBT), ("not_sent", True, AFTER_NOT_SENT),
    ("not_sent", False, AFTER_NOT_SENT)])
@pytest.mark.parametrize("attempts", [1, 4])
async def test_each_attempt_waits_longer_before_the_next(till: Till, outcome: str, reach: bool, waits: Backoff,
                                                         attempts: int, earlier: bool) -> None:
    desk = make_desk(till, Scripted(OUTCOMES[outcome]), fallback=Fallback.MOCK if earlier else Fallback.DEFER)
    job = dataclasses.replace(await claimed(till, earlier_doubt=earlier), attempts=attempts)
    if not reach:
        await lose_stripe(till, desk)
    before = await till.now_ms()
    await attempt(desk, job, has_slot=reach)
    after = await till.now_ms()
    next_ms = (await till.job()).next_ms
    assert next_ms is not None
    longest = waits.first * 2 ** (attempts - 1) * 1000
    assert before + longest / 2 - 1 <= next_ms <= after + longest


@pytest.mark.parametrize(("age_seconds", "next_seconds"), [
    (0, 60), (61, 600), (601, 3600), (3601, 6 * 3600), (6 * 3600 + 1, DAY_SECONDS), (3 * DAY_SECONDS, None)])
@pytest.mark.parametrize("outcome", ["pending", "silent", "key_refused", "not_sent"])
async def test_a_pending_job_is_looked_at_ever_more_rarely_and_after_a_failed_look_within_a_minute(
        till: Till, age_seconds: int, next_seconds: int | None, outcome: str) -> None:
    stripe = Scripted(OUTCOMES[outcome])
    await till.record(waiting(await till.started()))
    look = await till.claimed()
    created_ms = look.created_ms - age_seconds * 1000
    now = await till.now_ms()
    await attempt(make_desk(till, stripe), dataclasses.replace(look, created_ms=created_ms), has_slot=True)
    job = await till.job()
    assert (job.status, stripe.sent, len(stripe.looked)) == (Status.PENDING, [], 1)
    expected = now + DAY_SECONDS * 1000 if next_seconds is None else created_ms + next_seconds * 1000
    if outcome != "pending":
        expected = min(expected, now + 60_000)
    assert job.next_ms is not None
    assert abs(job.next_ms - expected) < 5000


async def test_a_look_records_what_has_happened_since(till: Till) -> None:
    await till.record(waiting(await till.started()))
    await attempt(make_desk(till, Scripted(OUTCOMES["settled"])), await till.claimed(), has_slot=True)
    assert end_of(await till.job()) == End(Status.SUCCEEDED, 1, None, Book.TEST)
    assert len(await till.entries()) == 1


@pytest.mark.parametrize("outcome", ["other_amount", "other_mode", "other_job"])
async def test_a_look_at_something_else_than_was_asked_for_parks(till: Till, outcome: str) -> None:
    await till.record(waiting(await till.started()))
    await attempt(make_desk(till, Scripted(OUTCOMES[outcome])), await till.claimed(), has_slot=True)
    assert (await till.job()).status is Status.PARKED


async def test_a_look_needs_a_slot_too(till: Till) -> None:
    stripe = Scripted(OUTCOMES["settled"])
    await till.record(waiting(await till.started()))
    await attempt(make_desk(till, stripe, connect=connects), await till.claimed(), has_slot=False)
    assert (stripe.looked, (await till.job()).status) == ([], Status.PENDING)


@pytest.mark.parametrize("key", [True, False])
async def test_a_charge_that_waits_in_the_mock_is_looked_at_no_more_often(till: Till, key: bool) -> None:
    stripe = Scripted(OUTCOMES["settled"])
    desk = make_desk(till, stripe if key else None)
    made = new(mode=Mode.NONE)
    await till.accept(dataclasses.replace(made, params={**made.params, "payment_method": AUTHENTICATION_REQUIRED}))
    [job] = await till.claim("job_a", mode=desk.terms.mode, account=desk.terms.account)
    await attempt(desk, job, has_slot=key)
    assert end_of(await till.job()) == End(Status.PENDING, 0, None, Book.MOCK)
    await till.put("job_a", next_ms=0)
    [look] = await till.claim("job_a", mode=desk.terms.mode, account=desk.terms.account)
    now = await till.now_ms()
    await attempt(desk, look, has_slot=key)
    after = await till.job()
    assert (after.status, after.book, stripe.looked, stripe.sent) == (Status.PENDING, Book.MOCK, [], [])
    assert after.next_ms is not None
    assert after.next_ms > now + 30_000
    assert await till.claim("job_a", mode=desk.terms.mode, account=desk.terms.account) == []


async def test_a_charge_that_waits_in_the_mock_is_no_work_for_ever(till: Till) -> None:
    desk = make_desk(till, None)
    made = new(mode=Mode.NONE)
    await till.accept(dataclasses.replace(made, params={**made.params, "payment_method": AUTHENTICATION_REQUIRED}))
    [job] = await till.claim("job_a", mode=desk.terms.mode, account=desk.terms.account)
    await attempt(desk, job, has_slot=False)
    await till.put("job_a", next_ms=0)
    [look] = await till.claim("job_a", mode=desk.terms.mode, account=desk.terms.account)
    await attempt(desk, dataclasses.replace(look, created_ms=look.created_ms - DAY_SECONDS * 1000), has_slot=False)
    next_ms = (await till.job()).next_ms
    assert next_ms is not None
    assert next_ms > await till.now_ms() + DAY_SECONDS * 900


async def test_a_refresh_that_cannot_be_answered_ends_and_moves_nothing(till: Till) -> None:
    for n, outcome in enumerate(("silent", "not_sent", "throttled", "refused")):
        await till.accept(new(f"job_{n}", kind=Kind.STATUS_REFRESH))
        stripe = Scripted(OUTCOMES[outcome])
        await attempt(make_desk(till, stripe), await till.claimed(f"job_{n}"), has_slot=True)
        assert (await till.job(f"job_{n}")).status is Status.FAILED
    assert await till.entries() == []


async def test_a_real_refresh_is_never_the_mocks(till: Till) -> None:
    desk = make_desk(till, Scripted(OUTCOMES["settled"]), connect=refuses)
    await till.accept(new(kind=Kind.STATUS_REFRESH))
    await lose_stripe(till, desk)
    await attempt(desk, await till.claimed(), has_slot=False)
    assert (await till.job()).book is not Book.MOCK
    assert await till.entries() == []


async def test_what_is_said_of_an_attempt_is_one_line_without_a_secret(till: Till) -> None:
    desk = make_desk(till, Scripted(OUTCOMES["pending"]))
    line = await attempt(desk, await claimed(till), has_slot=True)
    assert line == "job_a pending"
    assert (await till.record(succeeded(await till.job()))) is Recorded.RECORDED

"""Pending charges: every look of the schedule, and after seven days the cancel at Stripe (played by the stand-in)."""

import dataclasses
from collections.abc import AsyncIterator

import pytest

from shared.ids import Ids
from shared.jobs import Book, Job, Kind, Lane, Mode, Status
from shared.requests import ChargeRequest
from shared.settings import STRIPE_API_VERSION, Settings
from shared.store import Recorded
from shared.stripe_params import new_job
from shared.verify import differences
from standin.client import Standin
from tests.shared.till import ACCOUNT, Till, new, payment, waiting
from tests.worker.desks import Scripted, make_desk
from tests.worker.test_attempt import AwayAtRecord
from worker.attempt import attempt
from worker.desk import Desk
from worker.facts import OVERDUE_SECONDS
from worker.look import LOOK_AGAIN_MS
from worker.mock_processor import AUTHENTICATION_REQUIRED
from worker.processor import Outcome, Refused, Settled
from worker.stripe_processor import StripeProcessor

pytestmark = pytest.mark.anyio

SLACK_MS = 10_000
"""The clocks of two processes on a busy machine."""
DAY = 24 * 3600
SCHEDULE = [60, 600, 3600, 6 * 3600, *(day * DAY for day in range(1, 8))]


@pytest.fixture
def standin(running: Standin) -> Standin:
    running.reset()
    return running


@pytest.fixture
async def stripe(standin: Standin, anyio_backend: str) -> AsyncIterator[StripeProcessor]:
    made = StripeProcessor(api_key="sk_test_fake", api_base=standin.base_url, api_version=STRIPE_API_VERSION)
    yield made
    await made.close()


async def age(till: Till, seconds: int, job_id: str = "job_a") -> None:
    """Let a job have been accepted so long ago, and be due for a look."""
    await till.put(job_id, created_ms=await till.now_ms() - seconds * 1000, next_ms=0)


async def look(till: Till, desk: Desk) -> Job:
    """One look at job_a, as a worker does it; the job afterwards."""
    await till.put("job_a", next_ms=0)
    await attempt(desk, await till.claimed(), has_slot=True)
    return await till.job()


async def pending(till: Till, desk: Desk, seconds: int, payment_method_id: str = AUTHENTICATION_REQUIRED) -> str:
    """A charge of that age which waits for its customer at Stripe; its intent."""
    asked = ChargeRequest.model_validate({"amount": "50", "payment_method_id": payment_method_id})
    job = new_job(asked, job_id="job_a", caller="local", ids=Ids("a secret"), settings=Settings(_env_file=None))
    await till.accept(dataclasses.replace(job, mode=Mode.TEST, account=ACCOUNT))
    await attempt(desk, await till.claimed(), has_slot=True)
    waits = await till.job()
    assert waits.status is Status.PENDING
    assert waits.stripe_id is not None
    await age(till, seconds)
    return waits.stripe_id


def cancels(standin: Standin) -> list[tuple[str, str | None]]:
    return [(entry["path"], entry["key"]) for entry in standin.requests() if entry["path"].endswith("/cancel")]


def error_code(job: Job) -> str | None:
    return job.error["code"] if job.error else None


async def test_a_pending_job_is_looked_at_at_each_time_of_the_schedule_and_then_daily(till: Till) -> None:
    stripe = Scripted(lambda job: Settled(payment(job, "processing")))
    desk = make_desk(till, stripe)
    await till.record(waiting(await till.started(), look_ms=60_000))
    ages, aged = [], 0
    for _ in range(len(SCHEDULE) + 2):
        job = await till.job()
        assert job.next_ms is not None
        aged += round((job.next_ms - await till.now_ms()) / 1000)
        ages.append(aged)
        await age(till, aged)
        assert (await look(till, desk)).status is Status.PENDING
    assert all(abs(found - due) < SLACK_MS / 1000 for found, due in
               zip(ages, [*SCHEDULE, 8 * DAY, 9 * DAY], strict=True)), ages
    assert (stripe.sent, stripe.canceled, len(stripe.looked)) == ([], [], len(ages))


async def test_an_odd_age_still_comes_to_a_look_at_seven_days(till: Till) -> None:
    await till.record(waiting(await till.started()))
    await age(till, OVERDUE_SECONDS - 3600)
    job = await look(till, make_desk(till, Scripted(lambda job: Settled(payment(job, "requires_action")))))
    assert job.next_ms is not None
    assert abs(job.next_ms - (await till.now_ms() + 3_600_000)) < SLACK_MS


async def test_after_seven_days_it_is_canceled_at_stripe_and_fails(till: Till, standin: Standin,
                                                                   stripe: StripeProcessor) -> None:
    desk = make_desk(till, stripe)
    intent = await pending(till, desk, OVERDUE_SECONDS + 1)
    job = await look(till, desk)
    assert (job.status, error_code(job), job.book) == (Status.FAILED, "action_not_completed", Book.TEST)
    assert cancels(standin) == [(f"/v1/payment_intents/{intent}/cancel", "job_a:cancel")]
    assert standin.effects("charge") == []
    seen = await stripe.look(job)
    assert isinstance(seen, Settled)
    assert seen.made == payment(job, "canceled", id=intent)
    assert (await till.ledger.totals())[Book.TEST].failed == 1
    assert (await till.entries(), await differences(till.calls)) == ([], [])


async def test_before_seven_days_it_is_not(till: Till, standin: Standin, stripe: StripeProcessor) -> None:
    desk = make_desk(till, stripe)
    await pending(till, desk, OVERDUE_SECONDS - 60)
    assert (await look(till, desk)).status is Status.PENDING
    assert cancels(standin) == []


async def test_a_payment_that_somebody_canceled_earlier_says_so(till: Till, standin: Standin, stripe: StripeProcessor,
                                                                ) -> None:
    desk = make_desk(till, stripe)
    await pending(till, desk, 3600)
    assert isinstance(await stripe.cancel(await till.job()), Settled)
    assert error_code(await look(till, desk)) == "payment_canceled"


class PaysBefore(StripeProcessor):
    """Stripe as it is when the customer pays right before the cancel arrives."""

    standin: Standin

    async def cancel(self, job: Job) -> Outcome:
        assert job.stripe_id is not None
        self.standin.pay(job.stripe_id)
        outcome = await super().cancel(job)
        assert isinstance(outcome, Refused)
        assert outcome.code == "payment_intent_unexpected_state"
        return outcome


async def test_a_payment_that_came_before_the_cancel_is_recorded_as_what_it_is(till: Till, standin: Standin) -> None:
    stripe = PaysBefore(api_key="sk_test_fake", api_base=standin.base_url, api_version=STRIPE_API_VERSION)
    stripe.standin = standin
    desk = make_desk(till, stripe)
    intent = await pending(till, desk, OVERDUE_SECONDS + 1)
    job = await look(till, desk)
    await stripe.close()
    assert (job.status, job.stripe_id, job.error) == (Status.SUCCEEDED, intent, None)
    assert [(entry["cents"], entry["object"]) for entry in await till.entries()] == [("5000", intent)]
    assert len(cancels(standin)) == len(standin.effects("charge")) == 1


@pytest.mark.parametrize("fault", ["close_after_effect", "status:500_before", "status:500_after", "status:429"])
async def test_a_cancel_without_an_answer_is_looked_at_again_soon(till: Till, standin: Standin,
                                                                  stripe: StripeProcessor, fault: str) -> None:
    desk = make_desk(till, stripe)
    await pending(till, desk, OVERDUE_SECONDS + 1)
    standin.fault(fault, path_end="/cancel")
    job = await look(till, desk)
    assert job.status is Status.PENDING
    assert job.next_ms is not None
    assert job.next_ms <= await till.now_ms() + LOOK_AGAIN_MS
    if fault == "status:500_before":
        standin.advance(25 * 3600)  # Stripe plays a saved 500 again until it forgets the key
    job = await look(till, desk)
    assert (job.status, error_code(job)) == (Status.FAILED, "action_not_completed")
    assert {key for _, key in cancels(standin)} == {"job_a:cancel"}


async def test_a_worker_that_dies_between_the_cancel_and_its_record_leaves_the_right_end(
        till: Till, standin: Standin, stripe: StripeProcessor) -> None:
    desk = make_desk(till, stripe)
    await pending(till, desk, OVERDUE_SECONDS + 1)
    assert (await look(till, dataclasses.replace(desk, store=AwayAtRecord(till.calls)))).status is Status.PENDING
    assert len(cancels(standin)) == 1
    await till.put("job_a", lease_until_ms=1)
    await till.calls.call("ZADD", "{pd}:due:interactive", 1, "job_a")
    await till.feed()
    job = await look(till, desk)
    assert (job.status, error_code(job), job.contradicted_by) == (Status.FAILED, "action_not_completed", None)
    assert len(cancels(standin)) == 1


async def test_what_a_late_worker_says_of_a_canceled_payment_changes_nothing(till: Till, stripe: StripeProcessor,
                                                                             ) -> None:
    desk = make_desk(till, stripe)
    await pending(till, desk, OVERDUE_SECONDS + 1)
    await till.put("job_a", next_ms=0)
    late = await till.claimed()
    await till.put("job_a", lease_until_ms=1)
    await till.calls.call("ZADD", "{pd}:due:interactive", 1, "job_a")
    await till.feed()
    done = await look(till, desk)
    assert await attempt(desk, late, has_slot=True) == f"job_a {Recorded.ALREADY}"
    assert await till.job() == done


@pytest.mark.parametrize("made", [
    {"status": "processing"}, {"amount_cents": 4999}, {"job_id": "job_x"}, {"job_id": None}, {"currency": "eur"},
    {"id": "pi_other"}, {"status": "a_new_word"}])
async def test_only_a_payment_of_its_own_that_can_be_canceled_is(till: Till, made: dict[str, str]) -> None:
    stripe = Scripted(lambda job: Settled(payment(job, **{"status": "requires_action", **made})))
    await till.record(waiting(await till.started()))
    await age(till, OVERDUE_SECONDS + 1)
    await look(till, make_desk(till, stripe))
    assert (len(stripe.looked), stripe.canceled) == (1, [])


async def test_what_is_no_charge_is_never_canceled(till: Till) -> None:
    """A payment intent's job ends when the intent exists; that its customer takes a month is nobody's business."""
    stripe = Scripted(lambda job: Settled(payment(job, "requires_action")))
    await till.record(waiting(await till.started(new(kind=Kind.PAYMENT_INTENT))))
    await age(till, OVERDUE_SECONDS + 1)
    await look(till, make_desk(till, stripe))
    assert stripe.canceled == []


async def test_a_cancel_refused_again_and_again_is_tried_once_a_look(till: Till) -> None:
    class Stubborn(Scripted):
        async def cancel(self, job: Job) -> Outcome:
            await super().cancel(job)
            return Refused("payment_intent_unexpected_state", "No.", 400, "req_1")

    stripe = Stubborn(lambda job: Settled(payment(job, "requires_action")))
    await till.record(waiting(await till.started()))
    await age(till, OVERDUE_SECONDS + 1)
    job = await look(till, make_desk(till, stripe))
    assert (job.status, len(stripe.canceled), len(stripe.looked)) == (Status.PENDING, 1, 2)
    assert job.next_ms is not None
    assert job.next_ms > await till.now_ms() + DAY * 1000 - SLACK_MS


async def test_without_another_slot_of_the_budget_nothing_more_is_asked(till: Till) -> None:
    stripe = Scripted(lambda job: Settled(payment(job, "requires_action")))
    await till.record(waiting(await till.started()))
    await age(till, OVERDUE_SECONDS + 1)
    desk = make_desk(till, stripe, calls_per_second=0.025)
    while (await desk.pacing.reserve(Lane.INTERACTIVE, 1)).granted:
        pass
    assert (await look(till, desk)).status is Status.PENDING
    assert (len(stripe.looked), stripe.canceled) == (1, [])


async def test_a_charge_that_waits_in_the_mock_waits_for_ever(till: Till) -> None:
    desk = make_desk(till, None)
    made = new(mode=Mode.NONE)
    await till.accept(dataclasses.replace(made, params={**made.params, "payment_method": AUTHENTICATION_REQUIRED}))
    [job] = await till.claim("job_a", mode=Mode.NONE, account="")
    await attempt(desk, job, has_slot=False)
    await age(till, 30 * DAY)
    [job] = await till.claim("job_a", mode=Mode.NONE, account="")
    await attempt(desk, job, has_slot=False)
    assert (await till.job()).status is Status.PENDING
    refused = await desk.mock.cancel(job)
    assert isinstance(refused, Refused)
    assert refused.code == "not_supported"

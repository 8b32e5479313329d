"""Stripe has it and nobody heard: the same key is asked again, and nothing is guessed."""

import pytest

from shared.jobs import Book, Status
from tests.faults.desk_processes import DeskProcesses, charge

pytestmark = pytest.mark.anyio

LONG_ENOUGH_FOR_A_CALL = pytest.mark.timeout(120)  # a call that hangs is given up after 30 s


@pytest.mark.parametrize(("action", "more"), [
    ("die_after_effect", {}),
    ("close_after_effect", {}),
    ("cut_answer", {"end": "rst"}),
    ("cut_answer", {"end": "fin"}),
    ("garbage", {}),
    ("oversize", {}),
    ("html", {"effect": True}),
    ("redirect", {"effect": True}),
    ("status:503", {}),
    ("status:409", {}),
    ("die_before_effect", {}),
    pytest.param("hang_after", {}, marks=[pytest.mark.long, LONG_ENOUGH_FOR_A_CALL]),
    pytest.param("hang_mid_body", {}, marks=[pytest.mark.long, LONG_ENOUGH_FOR_A_CALL]),
])
async def test_a_lost_answer_is_asked_for_again_and_charges_once(busy_desk: DeskProcesses, action: str,
                                                                 more: dict[str, object]) -> None:
    busy_desk.standin.fault(action, **more)  # type: ignore[arg-type]  # the parameters of `fault` by name
    job_id = await busy_desk.submit()

    job = await busy_desk.comes_to(job_id, Status.SUCCEEDED, within_seconds=60 if action.startswith("hang") else 10)

    assert (job.attempts, job.doubts, job.book) == (2, 2, Book.TEST)
    assert busy_desk.charges_made() == [job_id]


async def test_a_500_that_stripe_keeps_leaves_the_job_unknown(busy_desk: DeskProcesses) -> None:
    busy_desk.standin.fault("status:500_after")
    job_id = await busy_desk.submit()
    busy_desk.left[job_id] = Status.UNKNOWN

    async def asked_twice() -> bool:
        job = await busy_desk.job(job_id)
        assert job.status in (Status.QUEUED, Status.RUNNING, Status.UNKNOWN)
        return job.attempts >= 3 and job.status is Status.UNKNOWN

    await busy_desk.until(asked_twice, 25, "three attempts in doubt")
    assert (await busy_desk.job(job_id)).book is None
    assert busy_desk.charges_made() == [job_id]


async def test_a_refused_key_fails_the_job_and_mocks_nothing(busy_desk: DeskProcesses) -> None:
    busy_desk.standin.fault("status:401")

    job = await busy_desk.comes_to(await busy_desk.submit(), Status.FAILED)

    assert job.error is not None
    assert (job.error["code"], job.book) == ("stripe_auth_failed", Book.TEST)
    assert busy_desk.charges_made() == []


async def test_a_refused_key_after_a_doubt_proves_nothing_and_the_job_stays_unknown(busy_desk: DeskProcesses) -> None:
    busy_desk.standin.fault("die_after_effect")
    busy_desk.standin.fault("status:401", nth=2)
    job_id = await busy_desk.submit()

    async def refused_once() -> bool:
        job = await busy_desk.job(job_id)
        return job.attempts == 2 and job.status is Status.UNKNOWN

    await busy_desk.until(refused_once, 25, "unknown after the refusal")
    job = await busy_desk.comes_to(job_id, Status.SUCCEEDED)
    assert job.attempts == 3
    assert busy_desk.charges_made() == [job_id]


async def test_a_throttled_job_waits_and_is_charged_once(busy_desk: DeskProcesses) -> None:
    busy_desk.standin.fault("status:429", times=2)
    job_id = await busy_desk.submit()

    await busy_desk.comes_to(job_id, Status.RETRYING)
    job = await busy_desk.comes_to(job_id, Status.SUCCEEDED)

    assert (job.attempts, job.doubts) == (3, 1)
    assert busy_desk.charges_made() == [job_id]


@pytest.mark.parametrize(("payment_method", "decline_code"), [
    ("pm_card_visa_chargeDeclined", "generic_decline"),
    ("pm_card_visa_chargeDeclinedInsufficientFunds", "insufficient_funds"),
])
async def test_a_decline_is_final_and_asked_again_it_is_the_same(busy_desk: DeskProcesses, payment_method: str,
                                                                 decline_code: str) -> None:
    request = charge(payment_method_id=payment_method)
    accepted = await busy_desk.accept(request, key="declined")
    busy_desk.hint(accepted.job)
    declined = await busy_desk.comes_to(accepted.job.id, Status.FAILED)

    again = await busy_desk.accept(request, key="declined")
    busy_desk.hint(again.job)

    assert again.replayed
    assert again.job == declined
    assert declined.error is not None
    assert (declined.error["code"], declined.error["decline_code"]) == ("card_declined", decline_code)
    await busy_desk.settled()
    assert busy_desk.calls_made() == 1


async def test_a_lost_decline_is_the_same_decline_when_asked_again(busy_desk: DeskProcesses) -> None:
    busy_desk.standin.fault("die_after_effect")

    job = await busy_desk.comes_to(await busy_desk.submit(charge(payment_method_id="pm_card_visa_chargeDeclined")),
                                   Status.FAILED)

    assert job.error is not None
    assert (job.error["code"], job.attempts) == ("card_declined", 2)


@pytest.mark.parametrize("action", ["wrong_amount", "wrong_livemode"])
async def test_an_answer_that_is_not_what_was_asked_for_parks_the_job(busy_desk: DeskProcesses, action: str) -> None:
    busy_desk.standin.fault(action)
    job_id = await busy_desk.submit()
    busy_desk.left[job_id] = Status.PARKED

    job = await busy_desk.comes_to(job_id, Status.PARKED)

    assert job.error is not None
    assert job.error["code"] == "unexpected_answer"
    assert busy_desk.calls_made() == 1

"""Everything that can befall a call, in one desk at once, and then the network: only the promises are asked about.

Two real workers, and a script of faults for each job. What each fault does is tested elsewhere, one by one.
"""

import random

import pytest

from shared.jobs import Book, Job, Status
from shared.redis_calls import ROOT
from shared.requests import CustomerRequest, PaymentIntentRequest, Request
from tests.faults.desk_processes import DeskProcesses, charge

pytestmark = pytest.mark.anyio

LOSES_THE_ANSWER = ("die_after_effect", "close_after_effect", "cut_answer", "garbage", "oversize", "html", "redirect")
TURNS_AWAY = ("status:429", "status:409", "status:503", "lock_timeout", "die_before_effect")
LIES = ("wrong_amount", "wrong_livemode")
KEPT_500 = "status:500_after"
KEY_REFUSED = "status:401"
ASKS_ITS_HOLDER = "pm_card_authenticationRequired"
DECLINED = "pm_card_visa_chargeDeclined"


async def befalls(desk: DeskProcesses, request: Request, *faults: str, left: Status | None = None) -> str:
    """Submit a job whose first calls end so; answers its id."""
    job: Job = (await desk.accept(request)).job
    for nth, fault in enumerate(faults, 1):
        more = {"effect": True} if fault in ("html", "redirect") else {}
        desk.standin.fault(fault, method="POST", job_id=job.id, nth=nth, **more)  # type: ignore[arg-type]  # by name
    if left is not None:
        desk.left[job.id] = left
    desk.hint(job)
    return job.id


async def nothing_is_invented(desk: DeskProcesses) -> None:
    """Within reach of Stripe nobody is told a mock's answer, and of no decline that no bank made."""
    await desk.settled()
    for job_id, request in desk.accepted.items():
        job = await desk.job(job_id)
        assert job.book is not Book.MOCK, f"{job_id} was mocked within reach of Stripe"
        code = job.error["code"] if job.error is not None and job.status is Status.FAILED else None
        refused = code not in (None, "stripe_auth_failed")
        assert refused is (DECLINED in str(request)), f"{job_id} ended as {code}, and its bank said otherwise"


async def rest(desk: DeskProcesses) -> None:
    """Let nothing move any more, though jobs in doubt would be tried again."""
    await desk.calls.call("SET", f"{ROOT}hold", "1")

    async def at_rest() -> bool:
        return (await desk.jobs.counts())[Status.RUNNING] == 0

    await desk.until(at_rest, 20, "the end of every attempt")


@pytest.mark.parametrize("seed", range(1))
async def test_whatever_befalls_calls_the_promises_hold(busy_desk: DeskProcesses, seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311  # faults must be the same again
    amounts = [f"{dice.randint(1, 999)}.{dice.randint(0, 99):02d}" for _ in range(40)]
    for fault in LOSES_THE_ANSWER + TURNS_AWAY:
        await befalls(busy_desk, charge(amounts.pop()), fault)
        await befalls(busy_desk, charge(amounts.pop(), DECLINED), dice.choice(LOSES_THE_ANSWER))
    for second in (KEY_REFUSED, dice.choice(LOSES_THE_ANSWER), dice.choice(TURNS_AWAY)):
        await befalls(busy_desk, charge(amounts.pop()), dice.choice(LOSES_THE_ANSWER), second)
    await befalls(busy_desk, charge(amounts.pop()), KEY_REFUSED)
    for lie in LIES:
        await befalls(busy_desk, charge(amounts.pop()), lie, left=Status.PARKED)
    await befalls(busy_desk, charge(amounts.pop()), KEPT_500, left=Status.UNKNOWN)
    await befalls(busy_desk, charge(amounts.pop(), ASKS_ITS_HOLDER), left=Status.PENDING)
    for other in (PaymentIntentRequest.model_validate({"amount": amounts.pop()}),
                  CustomerRequest.model_validate({"email": "a@example.com"})):
        await befalls(busy_desk, other, dice.choice(LOSES_THE_ANSWER))

    await nothing_is_invented(busy_desk)
    await rest(busy_desk)


async def test_answers_lost_as_the_network_goes_are_no_reason_to_mock(busy_desk: DeskProcesses) -> None:
    lost = [await befalls(busy_desk, charge(f"{10 + n}.00"), fault, fault, fault)
            for n, fault in enumerate(LOSES_THE_ANSWER)]
    await busy_desk.until(lambda: set(lost) <= set(busy_desk.charges_made()), 10, "charges that nobody heard of")
    busy_desk.standin.refuse(drop="all")
    clean = await busy_desk.comes_to(await busy_desk.submit(), Status.SUCCEEDED, within_seconds=20)
    assert clean.book is Book.MOCK
    before = {job_id: (await busy_desk.job(job_id)).attempts for job_id in lost}

    async def tried_again() -> bool:
        jobs = [await busy_desk.job(job_id) for job_id in lost]
        return all(job.status.final or job.attempts > before[job.id] for job in jobs)

    await busy_desk.until(tried_again, 30, "an attempt of every job without a network")
    busy_desk.left |= dict.fromkeys(lost, Status.UNKNOWN)
    await rest(busy_desk)

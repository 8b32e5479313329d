"""Stripe out of reach: mocked only when nobody reaches it and nothing can have been sent, else it waits."""

import pytest

from shared.jobs import Book, FallbackReason, Status
from shared.redis_calls import ROOT
from tests.faults.desk_processes import DeskProcesses

pytestmark = pytest.mark.anyio

NO_SUCH_NAME = "https://stripe.invalid"


async def test_with_stripe_refusing_everybody_each_job_is_mocked(busy_desk: DeskProcesses) -> None:
    busy_desk.standin.refuse()
    for _ in range(2):
        job = await busy_desk.comes_to(await busy_desk.submit(), Status.SUCCEEDED)
        assert job.result is not None
        assert (job.book, job.result["fallback_reason"]) == (Book.MOCK, FallbackReason.NETWORK_ERROR)
        assert (await busy_desk.circuit.look()).open
    assert busy_desk.calls_made() == 0


async def test_a_mocked_job_stays_mocked_when_stripe_is_back_and_new_jobs_are_charged(busy_desk: DeskProcesses) -> None:
    busy_desk.standin.refuse()
    mocked = await busy_desk.comes_to(await busy_desk.submit(), Status.SUCCEEDED)
    busy_desk.standin.accept()

    async def closed() -> bool:
        return not (await busy_desk.circuit.look()).open

    await busy_desk.until(closed, 25, "the return of Stripe noticed")
    job = await busy_desk.comes_to(await busy_desk.submit(), Status.SUCCEEDED)

    assert job.book is Book.TEST
    assert await busy_desk.job(mocked.id) == mocked
    assert busy_desk.charges_made() == [job.id]


async def test_with_fallback_defer_jobs_wait_and_are_charged_when_stripe_is_back(desk: DeskProcesses) -> None:
    desk.standin.refuse()
    await desk.start_workers(2, STRIPE_FALLBACK="defer")
    jobs = [await desk.submit() for _ in range(3)]
    for job_id in jobs:
        assert (await desk.comes_to(job_id, Status.RETRYING)).doubts == 0

    desk.standin.accept()
    await desk.settled(within_seconds=30)

    assert sorted(desk.charges_made()) == sorted(jobs)


async def test_a_worker_that_alone_has_no_network_gets_nobody_mocked(desk: DeskProcesses) -> None:
    await desk.start_workers(1)
    await desk.start_workers(1, STRIPE_API_BASE=NO_SUCH_NAME)
    jobs = [await desk.submit() for _ in range(8)]

    await desk.settled(within_seconds=30)

    assert sorted(desk.charges_made()) == sorted(jobs)
    assert {(await desk.job(job_id)).book for job_id in jobs} == {Book.TEST}


async def _waits_ms(desk: DeskProcesses, job_id: str) -> list[int]:
    """How long the job rested before each of its later attempts, by the store's own clock."""
    waits, since_ms = list[int](), 0
    for number, fields in await desk.calls.call("XRANGE", f"{ROOT}events", "-", "+"):
        at_ms = int(number.partition("-")[0])
        if fields.get("job_id") == job_id and fields["event"] == "job.unknown":
            since_ms = at_ms
        elif fields.get("job_id") == job_id and fields["event"] == "job.running" and since_ms:
            waits.append(at_ms - since_ms)
    return waits


async def test_a_job_in_doubt_is_never_mocked_and_charged_once_when_stripe_is_back(busy_desk: DeskProcesses) -> None:
    busy_desk.standin.fault("die_after_effect")
    job_id = await busy_desk.submit()
    await busy_desk.until(busy_desk.charges_made, 25, "the charge whose answer is lost")
    busy_desk.standin.refuse()

    async def attempts(count: int) -> bool:
        job = await busy_desk.job(job_id)
        assert job.status in (Status.RUNNING, Status.UNKNOWN)
        return job.attempts >= count and job.status is Status.UNKNOWN

    await busy_desk.until(lambda: attempts(2), 25, "an attempt without a network")
    await busy_desk.until(lambda: attempts(4), 25, "two more")
    _, second, third = await _waits_ms(busy_desk, job_id)
    assert (second >= 990, third >= 1990) == (True, True), "it backs off while the network is away"
    other = await busy_desk.comes_to(await busy_desk.submit(), Status.SUCCEEDED)
    assert other.book is Book.MOCK, "a job without a doubt is mocked meanwhile"
    busy_desk.standin.accept()

    job = await busy_desk.comes_to(job_id, Status.SUCCEEDED, within_seconds=20)
    assert job.book is Book.TEST
    assert busy_desk.charges_made() == [job_id]

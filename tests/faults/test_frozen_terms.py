"""What a job was accepted for stays what it is: its mode and its account."""

import pytest

from shared.jobs import Book, FallbackReason, Mode, Status
from tests.faults.desk_processes import DeskProcesses

pytestmark = pytest.mark.anyio


async def test_a_job_accepted_without_a_key_stays_mocked_after_a_key_is_set(busy_desk: DeskProcesses) -> None:
    settings = busy_desk.settings(stripe_secret_key=None)
    job = await busy_desk.comes_to(await busy_desk.submit(settings=settings), Status.SUCCEEDED)

    assert job.result is not None
    assert (job.mode, job.book) == (Mode.NONE, Book.MOCK)
    assert job.result["fallback_reason"] == FallbackReason.NO_API_KEY
    assert busy_desk.calls_made() == 0


async def test_a_job_of_another_account_is_parked_and_not_sent(busy_desk: DeskProcesses) -> None:
    job_id = await busy_desk.submit(settings=busy_desk.settings(stripe_secret_key="sk_test_another"))
    busy_desk.left[job_id] = Status.PARKED

    job = await busy_desk.comes_to(job_id, Status.PARKED)

    assert job.error is not None
    assert (job.error["code"], job.doubts) == ("other_account", 0)
    assert busy_desk.calls_made() == 0


async def test_a_job_with_a_key_waits_parked_on_a_desk_without_one(desk: DeskProcesses) -> None:
    job_id = await desk.submit()
    desk.left[job_id] = Status.PARKED
    await desk.start_workers(1, STRIPE_SECRET_KEY="")

    assert (await desk.comes_to(job_id, Status.PARKED)).book is None
    assert desk.calls_made() == 0

"""Workers that die, freeze or stop at the worst moment: every job ends once, and is charged once."""

import signal

import pytest

from shared.failpoints import EXIT_CODE
from shared.jobs import Book, Status
from tests.faults.desk_processes import LEASE_SECONDS, DeskProcesses, WorkerProcess

pytestmark = pytest.mark.anyio

SOON_DUE_MS = 1_500
"""For jobs whose hint dies with the worker: due again earlier than a front door would set it, to save time."""


async def _died_there(desk: DeskProcesses, worker: WorkerProcess) -> None:
    await desk.until(lambda: worker.exit_code is not None, 20, "the worker's death")
    assert worker.exit_code == EXIT_CODE


async def test_a_worker_killed_while_its_calls_hang_is_replaced_within_its_lease(desk: DeskProcesses) -> None:
    desk.standin.fault("hang_after", times=5)
    [first] = await desk.start_workers()
    jobs = [await desk.submit() for _ in range(5)]
    await desk.until(lambda: len(desk.charges_made()) == len(jobs), 25, "five charges at Stripe")
    await desk.start_workers()

    first.end()
    await desk.settled(within_seconds=LEASE_SECONDS + 20)

    assert sorted(desk.charges_made()) == sorted(jobs)
    assert {(await desk.job(job_id)).attempts for job_id in jobs} == {2}


@pytest.mark.parametrize("failpoint", [
    "reserve.before", "reserve.after", "claim.before", "claim.after", "send.before", "send.after", "record.before",
    "record.after"])
async def test_a_worker_that_dies_at_any_step_leaves_a_job_that_is_done_and_charged_once(desk: DeskProcesses,
                                                                                         failpoint: str) -> None:
    job_id = await desk.submit(delay_ms=SOON_DUE_MS)
    await _died_there(desk, desk.launch(PAYDESK_FAILPOINTS=f"{failpoint}=exit", PAYDESK_LEASE_SECONDS="1.5"))

    desk.launch()
    job = await desk.comes_to(job_id, Status.SUCCEEDED, within_seconds=25)

    assert desk.charges_made() == [job_id]
    claimed_before_the_death = failpoint in {"claim.after", "send.before", "send.after", "record.before"}
    assert job.crashes == int(claimed_before_the_death)
    assert job.doubts == 1 + claimed_before_the_death


@pytest.mark.parametrize("failpoint", ["release.before", "release.after"])
async def test_a_worker_that_dies_as_it_gives_a_job_back_leaves_it_due(desk: DeskProcesses, failpoint: str) -> None:
    desk.standin.fault("status:429")
    job_id = await desk.submit()
    await _died_there(desk, desk.launch(PAYDESK_FAILPOINTS=f"{failpoint}=exit", PAYDESK_LEASE_SECONDS="1.5"))

    desk.launch()
    job = await desk.comes_to(job_id, Status.SUCCEEDED, within_seconds=25)

    assert desk.charges_made() == [job_id]
    assert job.doubts == (2 if failpoint == "release.before" else 1)


@pytest.mark.parametrize("failpoint", ["feed.before", "feed.after"])
async def test_a_worker_that_dies_as_it_hands_out_jobs_loses_none(desk: DeskProcesses, failpoint: str) -> None:
    job_id = (await desk.accept(delay_ms=0)).job.id
    await _died_there(desk, desk.launch(PAYDESK_FAILPOINTS=f"{failpoint}=exit"))

    desk.launch()
    await desk.comes_to(job_id, Status.SUCCEEDED, within_seconds=25)

    assert desk.charges_made() == [job_id]


@pytest.mark.parametrize("failpoint", ["claim.after", "send.before"])
async def test_a_job_whose_worker_died_after_its_claim_is_never_mocked(desk: DeskProcesses, failpoint: str) -> None:
    desk.standin.refuse()
    job_id = await desk.submit()
    await _died_there(desk, desk.launch(PAYDESK_FAILPOINTS=f"{failpoint}=exit", PAYDESK_LEASE_SECONDS="1.5"))

    await desk.start_workers()
    mocked = await desk.submit()  # the circuit does open: a job without a doubt is answered by the mock
    assert (await desk.comes_to(mocked, Status.SUCCEEDED, within_seconds=25)).book is Book.MOCK

    async def tried_again() -> bool:
        job = await desk.job(job_id)
        return job.attempts >= 3 and job.status is Status.UNKNOWN

    await desk.until(tried_again, 25, "two more attempts without an answer")
    assert (await desk.job(job_id)).book is None
    desk.left[job_id] = Status.UNKNOWN


async def test_a_frozen_worker_that_wakes_after_its_lease_changes_nothing(desk: DeskProcesses) -> None:
    job_id = await desk.submit()
    frozen = desk.launch(PAYDESK_FAILPOINTS="record.before=freeze", PAYDESK_LEASE_SECONDS="2")
    await desk.until(lambda: desk.charges_made() == [job_id], 25, "the charge at Stripe")

    await desk.start_workers()
    done = await desk.comes_to(job_id, Status.SUCCEEDED, within_seconds=25)
    frozen.signal(signal.SIGCONT)
    frozen.signal(signal.SIGTERM)
    await desk.until(lambda: frozen.exit_code is not None, 20, "the end of the worker that was frozen")

    assert frozen.exit_code == 0
    assert await desk.job(job_id) == done
    assert (done.attempts, done.crashes) == (2, 1)


async def test_a_frozen_worker_that_wakes_without_a_network_does_not_clear_anothers_doubt(desk: DeskProcesses) -> None:
    job_id = await desk.submit()
    frozen = desk.launch(PAYDESK_FAILPOINTS="send.before=freeze", PAYDESK_LEASE_SECONDS="2")
    await desk.comes_to(job_id, Status.RUNNING)
    desk.standin.fault("status:500_before", times=100)  # no effect yet, but the desk cannot know
    [other] = await desk.start_workers()

    async def in_doubt_twice() -> bool:
        job = await desk.job(job_id)
        return job.status is Status.UNKNOWN and job.doubts >= 2

    await desk.until(in_doubt_twice, 25, "a second attempt in doubt")
    other.end()
    desk.standin.refuse()
    frozen.signal(signal.SIGCONT)
    frozen.signal(signal.SIGTERM)
    await desk.until(lambda: frozen.exit_code is not None, 30, "the end of the worker that was frozen")

    job = await desk.job(job_id)
    assert (job.status, job.book) == (Status.UNKNOWN, None)
    assert job.doubts >= 2
    desk.left[job_id] = Status.UNKNOWN


async def test_a_worker_asked_to_stop_finishes_its_calls_and_loses_nothing(desk: DeskProcesses) -> None:
    desk.standin.settings(latency_ms=1_000)
    [stopped] = await desk.start_workers(PAYDESK_WORKER_THREADS="4", PAYDESK_LEASE_SECONDS="30")
    jobs = [await desk.submit() for _ in range(12)]
    await desk.until(lambda: desk.calls_made() >= 4, 25, "four calls in flight")

    stopped.signal(signal.SIGTERM)
    await desk.until(lambda: stopped.exit_code is not None, 20, "the worker's end")
    assert stopped.exit_code == 0
    counts = await desk.jobs.counts()
    assert counts[Status.RUNNING] == 0
    assert counts[Status.SUCCEEDED] >= 4

    desk.standin.settings(latency_ms=0)
    await desk.start_workers()
    await desk.settled(within_seconds=20)
    assert {(await desk.job(job_id)).attempts for job_id in jobs} == {1}

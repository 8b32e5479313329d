"""A worker that lives and gets nothing any more: noticed by what it does not begin, and started anew."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from celery import Celery

from shared.broker import create_celery
from shared.jobs import Lane
from tests.faults.desk_processes import DeskProcesses, WorkerProcess
from worker.main import STALLED_EXIT_CODE
from worker.progress import STALLED_AFTER_SECONDS

pytestmark = pytest.mark.anyio

JOBS = 40
NOTICED_SECONDS = STALLED_AFTER_SECONDS + 30
"""It is meant to take 30; the rest is for a machine that does other work."""


@contextmanager
def remote_control(desk: DeskProcesses) -> Iterator[Celery]:
    """Celery's own way to tell its workers something."""
    app = create_celery(desk.servers.broker.url)
    try:
        yield app
    finally:
        app.close()


async def stall(desk: DeskProcesses) -> None:
    """Have every worker's consumer take nothing any more, as a broker's restart can leave it: alive and idle."""
    with remote_control(desk) as app:
        for lane in Lane:
            said = await asyncio.to_thread(app.control.cancel_consumer, lane.value, reply=True, timeout=5)
            assert said, "no worker heard it"


async def ended(desk: DeskProcesses, worker: WorkerProcess) -> None:
    await desk.until(lambda: worker.exit_code is not None, NOTICED_SECONDS, "the end of the worker that stalled")
    assert worker.exit_code == STALLED_EXIT_CODE
    assert "consumer_stalled" in worker.log.read_text()


@pytest.mark.timeout(150)
async def test_a_stalled_worker_ends_and_once_started_anew_finishes_every_job(desk: DeskProcesses) -> None:
    [worker] = await desk.start_workers()
    await desk.submit()
    await desk.settled()
    await stall(desk)
    jobs = [await desk.submit() for _ in range(JOBS)]

    await ended(desk, worker)
    desk.restart_ended_workers()
    await desk.settled(within_seconds=60)

    assert set(jobs) < set(desk.charges_made())
    assert {(await desk.job(job_id)).attempts for job_id in jobs} == {1}


@pytest.mark.timeout(150)
async def test_a_call_in_flight_ends_before_the_stalled_worker_does(desk: DeskProcesses) -> None:
    [worker] = await desk.start_workers(PAYDESK_LEASE_SECONDS="60")
    desk.standin.settings(latency_ms=int(STALLED_AFTER_SECONDS * 1000) + 4_000)
    slow = await desk.submit()
    await desk.until(lambda: desk.calls_made(slow), 25, "the slow call")
    await stall(desk)
    desk.standin.settings(latency_ms=0)
    jobs = [await desk.submit() for _ in range(JOBS)]

    await ended(desk, worker)
    job = await desk.job(slow)
    assert (job.status.final, job.attempts, job.crashes) == (True, 1, 0)
    desk.restart_ended_workers()
    await desk.settled(within_seconds=60)
    assert sorted(desk.charges_made()) == sorted([slow, *jobs])


@pytest.mark.parametrize("restarts", [3, pytest.param(20, marks=[pytest.mark.long, pytest.mark.timeout(1200)])])
@pytest.mark.timeout(240)
async def test_restarts_of_the_broker_under_load_stop_nobody(own_desk: DeskProcesses, restarts: int) -> None:
    own_desk.standin.settings(latency_ms=100)
    await own_desk.start_workers(2, PAYDESK_WORKER_THREADS="4", PAYDESK_LEASE_SECONDS="30")
    for _ in range(restarts):
        for _ in range(JOBS):
            await own_desk.submit()
        await charging(own_desk, len(own_desk.charges_made()))
        own_desk.servers.broker.kill()
        await asyncio.to_thread(own_desk.servers.broker.start)
        await charging(own_desk, len(own_desk.charges_made()))

    async def done() -> bool:
        own_desk.restart_ended_workers()
        return not await unfinished(own_desk)

    await own_desk.until(done, 120, "every job's end")
    assert sorted(own_desk.charges_made()) == sorted(own_desk.accepted)


async def charging(desk: DeskProcesses, made: int) -> None:
    """Return once there are more charges, or none left to make; a worker that ended is started anew."""
    async def moving() -> bool:
        desk.restart_ended_workers()
        return len(desk.charges_made()) > made or not await unfinished(desk)

    await desk.until(moving, NOTICED_SECONDS + 30, "charges")


async def unfinished(desk: DeskProcesses) -> int:
    counts = await desk.jobs.counts()
    return len(desk.accepted) - sum(count for status, count in counts.items() if status.final)

"""Store, broker and hints that go away: nothing accepted is lost, and it moves again soon after they are back."""

import asyncio

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from shared.jobs import Lane, Status
from tests.faults.desk_processes import HINTED_MS, DeskProcesses

pytestmark = pytest.mark.anyio

A_TICK_AND_A_CALL_SECONDS = 15.0
"""It takes two; the rest is for a machine that does other work."""
_INTERACTIVE_LIST = "q:interactive"


async def test_a_store_killed_under_load_loses_nothing_and_jobs_move_again(own_desk: DeskProcesses) -> None:
    own_desk.standin.settings(latency_ms=100)
    await own_desk.start_workers(2, STRIPE_RATE_PER_SECOND="40")
    submitting = asyncio.create_task(_submit_many(own_desk, 100))
    await own_desk.until(lambda: len(own_desk.charges_made()) >= 20, 25, "the load")

    own_desk.servers.store.kill()
    made = len(own_desk.charges_made())
    await asyncio.to_thread(own_desk.servers.store.start)
    await own_desk.until(lambda: len(own_desk.charges_made()) > made + 16, 30, "charges after the restart")

    jobs = await submitting
    await own_desk.settled(within_seconds=20)
    assert sorted(own_desk.charges_made()) == sorted(jobs)


async def _submit_many(desk: DeskProcesses, count: int) -> list[str]:
    return [await desk.submit_until_accepted(f"under load {number}") for number in range(count)]


async def test_a_store_that_is_away_for_seconds_loses_no_answer_of_stripe(own_desk: DeskProcesses) -> None:
    own_desk.standin.settings(latency_ms=500)
    await own_desk.start_workers(1, PAYDESK_LEASE_SECONDS="30")
    jobs = [await own_desk.submit() for _ in range(8)]
    await own_desk.until(lambda: own_desk.calls_made() >= 8, 25, "eight calls in flight")

    own_desk.servers.store.kill()
    await own_desk.until(lambda: len(own_desk.charges_made()) == 8, 25, "their charges while the store is away")
    await asyncio.to_thread(own_desk.servers.store.start)

    await own_desk.settled(within_seconds=25)
    assert own_desk.calls_made() == len(jobs), "each result was kept until the store took it"


async def test_a_broker_killed_and_restarted_empty_leaves_no_job_behind(own_desk: DeskProcesses) -> None:
    own_desk.standin.settings(latency_ms=200)
    await own_desk.start_workers(2, STRIPE_RATE_PER_SECOND="20")
    jobs = [await own_desk.submit() for _ in range(60)]
    await own_desk.until(lambda: len(own_desk.charges_made()) >= 10, 25, "some charges")

    own_desk.servers.broker.kill()
    await asyncio.to_thread(own_desk.servers.broker.start)

    async def all_done() -> bool:
        own_desk.restart_ended_workers()
        return (await own_desk.jobs.counts())[Status.SUCCEEDED] == len(jobs)

    await own_desk.until(all_done, 35, "every job's end")
    assert sorted(own_desk.charges_made()) == sorted(jobs)


async def test_a_job_accepted_while_the_broker_is_away_runs_when_it_is_back(own_desk: DeskProcesses) -> None:
    await own_desk.start_workers(1)
    own_desk.servers.broker.kill()
    job_id = await own_desk.submit()
    assert (await own_desk.job(job_id)).status is Status.QUEUED
    await asyncio.to_thread(own_desk.servers.broker.start)

    async def done() -> bool:
        own_desk.restart_ended_workers()
        return (await own_desk.job(job_id)).status is Status.SUCCEEDED

    # Celery itself takes up to 8.5 s to notice that a broker is back (FAULTS.md 2, row 23: measured).
    await own_desk.until(done, HINTED_MS / 1000 + 15, "the job's end")


async def test_a_job_that_nobody_was_told_of_runs_when_it_is_due(busy_desk: DeskProcesses) -> None:
    job_id = (await busy_desk.accept()).job.id

    await busy_desk.comes_to(job_id, Status.SUCCEEDED, within_seconds=HINTED_MS / 1000 + A_TICK_AND_A_CALL_SECONDS)


async def test_a_job_whose_hint_was_lost_by_the_broker_runs_when_it_is_due(desk: DeskProcesses) -> None:
    job_id = await desk.submit()
    await desk.until(lambda: desk.backlog.waiting(Lane.INTERACTIVE), 25, "the hint in Celery's list")
    with redis.Redis.from_url(desk.servers.broker.url, retry=Retry(NoBackoff(), 0)) as broker:
        assert broker.lpop(_INTERACTIVE_LIST) is not None

    await desk.start_workers()
    await desk.comes_to(job_id, Status.SUCCEEDED, within_seconds=HINTED_MS / 1000 + A_TICK_AND_A_CALL_SECONDS)

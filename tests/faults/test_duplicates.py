"""Hints that come more than once: one call to Stripe."""

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from shared.jobs import Status
from tests.faults.desk_processes import DeskProcesses

pytestmark = pytest.mark.anyio


async def test_the_same_hint_five_times_makes_one_call(busy_desk: DeskProcesses) -> None:
    busy_desk.standin.settings(latency_ms=300)
    job = (await busy_desk.accept()).job
    for _ in range(5):
        busy_desk.hint(job)

    done = await busy_desk.comes_to(job.id, Status.SUCCEEDED)
    busy_desk.hint(job)
    after = await busy_desk.submit()
    await busy_desk.comes_to(after, Status.SUCCEEDED)

    assert busy_desk.calls_made(job.id) == 1
    assert await busy_desk.job(job.id) == done


async def test_a_hint_delivered_again_while_its_job_runs_makes_no_second_call(busy_desk: DeskProcesses) -> None:
    busy_desk.standin.fault("delay_ms", delay_ms=14_000)
    job_id = await busy_desk.submit()
    await busy_desk.until(lambda: busy_desk.calls_made(job_id), 25, "the call")
    published = await busy_desk.messages_published()
    with redis.Redis.from_url(busy_desk.servers.broker.url, retry=Retry(NoBackoff(), 0)) as broker:
        # As if its visibility had run out long ago: kombu restores what is that old within ten seconds.
        [tag] = broker.zrange("q:unacked_index", 0, -1)
        broker.zadd("q:unacked_index", {tag: 0})

        async def delivered_again() -> bool:
            return await busy_desk.messages_published() > published and broker.zscore("q:unacked_index", tag) != 0

        await busy_desk.until(delivered_again, 13, "the hint's second delivery")

    await busy_desk.comes_to(job_id, Status.SUCCEEDED, within_seconds=20)
    assert busy_desk.calls_made(job_id) == 1


async def test_one_key_submitted_twenty_times_is_one_job_and_one_charge(busy_desk: DeskProcesses) -> None:
    accepted = [await busy_desk.accept(key="double click") for _ in range(20)]
    for each in accepted:
        busy_desk.hint(each.job)

    await busy_desk.settled()

    assert [each.replayed for each in accepted] == [False] + [True] * 19
    assert busy_desk.charges_made() == [accepted[0].job.id]

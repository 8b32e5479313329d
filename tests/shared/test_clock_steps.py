"""The store's clock is put back or forward by an hour: what was to happen takes as long as it should, and no longer."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from cli.servers import EmbeddedServer
from shared.jobs import Lane, Status
from shared.redis_calls import ROOT, RedisCalls
from shared.store import BLIND_RESEND_MS, Recorded
from tests.shared.moved_clock import MovedClock
from tests.shared.till import LEASE_MS, Till, new, succeeded, waiting

pytestmark = pytest.mark.anyio

HOUR_MS = 3_600_000
STRIPE_KEEPS_KEYS_MS = 24 * HOUR_MS
NOTICED_MS = 2_000
"""A step that is shorter is waited out."""
SLACK_MS = 60_000
"""What a test itself may take."""


@pytest.fixture
async def clock(valkey: EmbeddedServer, calls: RedisCalls, anyio_backend: str) -> AsyncIterator[MovedClock]:
    """The emptied store, with a clock that can be put."""
    made = MovedClock.connect(valkey.url, deadline_seconds=30)
    yield made
    await made.close()


@pytest.fixture
def till(clock: MovedClock) -> Till:
    return Till(clock)


async def number(till: Till, job_id: str, field: str) -> int:
    return int(await till.calls.call("HGET", f"{ROOT}job:{job_id}", field))


async def left_ms(till: Till, job_id: str, lane: Lane = Lane.INTERACTIVE) -> int:
    """How long until a job is due."""
    due = await till.due_ms(job_id, lane)
    assert due is not None
    return due - await till.now_ms()


async def noted(till: Till) -> None:
    """A feed that takes the time down."""
    await till.feed(grace_ms=600_000)


async def test_a_step_back_moves_all_that_waits_with_it_whichever_lane_is_fed(till: Till, clock: MovedClock) -> None:
    await till.accept(new("job_hinted"), delay_ms=200_000)
    await till.accept(new("job_row", lane=Lane.BULK), delay_ms=300_000)
    await till.release(await till.started(new("job_retrying")), unsent=True, delay_ms=400_000)
    await till.record(waiting(await till.started(new("job_pending")), look_ms=500_000))
    await till.started(new("job_running"), lease_ms=600_000)
    await noted(till)

    await clock.step(-HOUR_MS)
    await till.feed(Lane.BULK)

    for job_id, wait_ms, lane in (("job_hinted", 200_000, Lane.INTERACTIVE), ("job_row", 300_000, Lane.BULK),
                                  ("job_retrying", 400_000, Lane.INTERACTIVE),
                                  ("job_pending", 500_000, Lane.INTERACTIVE),
                                  ("job_running", 600_000, Lane.INTERACTIVE)):
        assert wait_ms - SLACK_MS <= await left_ms(till, job_id, lane) <= wait_ms, job_id
    now = await till.now_ms()
    assert 600_000 - SLACK_MS <= await number(till, "job_running", "lease_until_ms") - now <= 600_000
    assert 400_000 - SLACK_MS <= await number(till, "job_retrying", "next_ms") - now <= 400_000
    assert 500_000 - SLACK_MS <= await number(till, "job_pending", "next_ms") - now <= 500_000
    [told] = await till.events("clock.stepped_back")
    assert HOUR_MS - SLACK_MS <= int(told["jump_ms"]) <= HOUR_MS
    assert told["jobs"] == "5"


async def test_after_a_step_back_what_was_due_is_handed_out_and_what_ran_keeps_its_lease(
        till: Till, clock: MovedClock) -> None:
    await till.accept(new("job_due"))
    running = await till.started(new("job_running"))
    await till.calls.call("HSET", f"{ROOT}fed", "at_ms", await till.now_ms())
    await clock.step(-HOUR_MS)
    assert await till.feed(grace_ms=1000) == ["job_due"]
    assert not await till.claim("job_running"), "a live lease is never taken over"
    assert await till.record(succeeded(running)) is Recorded.RECORDED
    assert (await till.job("job_running")).crashes == 0

    lost = await till.claimed("job_due")
    await clock.step(LEASE_MS + 1)
    assert await till.feed() == [lost.id]
    assert (await till.job(lost.id)).crashes == 1


async def test_a_lease_of_a_dead_worker_ends_in_its_time_after_a_step_back(till: Till, clock: MovedClock) -> None:
    await till.started()
    await noted(till)
    await clock.step(-HOUR_MS)
    assert await till.feed() == []
    await clock.step(LEASE_MS + 1)
    assert await till.feed() == ["job_a"]
    assert ((await till.job()).status, (await till.job()).crashes) == (Status.UNKNOWN, 1)
    assert len(await till.claim("job_a")) == 1


async def test_a_lease_taken_after_the_step_and_before_it_is_noticed_is_left_whole(till: Till, clock: MovedClock,
                                                                                    ) -> None:
    await till.accept(new())
    await noted(till)
    await clock.step(-HOUR_MS)
    job = await till.claimed()
    before = await number(till, job.id, "lease_until_ms")
    assert await till.feed() == []
    assert await number(till, job.id, "lease_until_ms") == before
    assert await till.due_ms() == before
    assert (await till.job()).crashes == 0


async def test_feeders_at_once_move_everything_once(till: Till, clock: MovedClock) -> None:
    await till.accept(new(), delay_ms=200_000)
    await noted(till)
    await clock.step(-HOUR_MS)
    await asyncio.gather(*(till.feed(lane) for lane in [*Lane] * 5))
    assert 200_000 - SLACK_MS <= await left_ms(till, "job_a") <= 200_000
    assert len(await till.events("clock.stepped_back")) == 1


async def test_each_step_is_noticed_and_small_ones_add_up(till: Till, clock: MovedClock) -> None:
    await till.accept(new(), delay_ms=200_000)
    await noted(till)
    for _ in range(3):
        await clock.step(-HOUR_MS)
        await till.feed()
    assert len(await till.events("clock.stepped_back")) == 3
    assert 200_000 - SLACK_MS <= await left_ms(till, "job_a") <= 200_000

    for _ in range(100):
        await clock.step(-NOTICED_MS // 2)
        await till.feed()
    assert await left_ms(till, "job_a") <= 200_000 + NOTICED_MS


async def test_while_on_hold_a_step_back_is_noticed_too(till: Till, clock: MovedClock) -> None:
    await till.accept(new(), delay_ms=200_000)
    await noted(till)
    await till.calls.call("SET", f"{ROOT}hold", "1")
    await clock.step(-HOUR_MS)
    assert await till.feed() == []
    assert await left_ms(till, "job_a") <= 200_000


async def test_a_clock_that_runs_is_no_step(till: Till, clock: MovedClock) -> None:
    await till.accept(new(), delay_ms=100 * HOUR_MS)
    for _ in range(5):
        await till.feed()
        await clock.step(HOUR_MS)
    assert await till.events("clock.stepped_back") == []
    assert 95 * HOUR_MS - SLACK_MS <= await left_ms(till, "job_a") <= 95 * HOUR_MS


async def planted(till: Till, count: int) -> int:
    """So many jobs in doubt that wait, three of them due at each moment; answers the time they count from."""
    now = await till.now_ms()
    await asyncio.gather(*(till.calls.call(
        "HSET", f"{ROOT}job:job_{n:05}", "status", "unknown", "updated_ms", now, "next_ms", now + 100_000 + n // 3,
        "first_sent_ms", now) for n in range(count)))
    scores = [part for n in range(count) for part in (now + 100_000 + n // 3, f"job_{n:05}")]
    await till.calls.call("ZADD", f"{ROOT}due:bulk", *scores)
    await till.calls.call("HSET", f"{ROOT}fed", "at_ms", now)
    return now


async def test_thousands_of_jobs_are_moved_a_portion_at_a_time_and_each_once(till: Till, clock: MovedClock) -> None:
    count = 4_321
    now = await planted(till, count)
    await clock.step(-HOUR_MS)
    await till.feed()
    assert await till.calls.call("HGET", f"{ROOT}fed", "bulk"), "one feed does not move them all"
    rounds = 0
    while await till.calls.call("HEXISTS", f"{ROOT}fed", "jump_ms"):
        await till.feed()
        rounds += 1
    assert 1 < rounds <= count // 1000 + 1

    jump = int((await till.events("clock.stepped_back"))[0]["jump_ms"])
    moved = await till.calls.call("ZRANGE", f"{ROOT}due:bulk", 0, -1, "WITHSCORES")
    assert moved[::2] == [f"job_{n:05}" for n in range(count)]
    assert [int(score) for score in moved[1::2]] == [now + 100_000 + n // 3 - jump for n in range(count)]
    records = [await number(till, f"job_{n:05}", field) for n in range(0, count, 97) for field in (
        "next_ms", "first_sent_ms")]
    assert records == [ms - jump for n in range(0, count, 97) for ms in (now + 100_000 + n // 3, now)]


async def test_a_step_while_another_is_moved_moves_each_job_by_both(till: Till, clock: MovedClock) -> None:
    count = 3_000
    now = await planted(till, count)
    for _ in range(2):
        await clock.step(-HOUR_MS)
        await till.feed()
    while await till.calls.call("HEXISTS", f"{ROOT}fed", "jump_ms"):
        await till.feed()
    jump = sum(int(told["jump_ms"]) for told in await till.events("clock.stepped_back"))
    scores = (await till.calls.call("ZRANGE", f"{ROOT}due:bulk", 0, -1, "WITHSCORES"))[1::2]
    assert [int(score) for score in scores] == [now + 100_000 + n // 3 - jump for n in range(count)]


async def test_a_step_forward_ends_leases_early_and_the_fact_of_who_still_calls_is_kept(
        till: Till, clock: MovedClock) -> None:
    first = await till.started()
    await clock.step(HOUR_MS)
    assert await till.feed() == ["job_a"]
    assert await till.feed() == ["job_a"]
    job = await till.job()
    assert (job.status, job.crashes, job.doubts) == (Status.UNKNOWN, 1, 1), "one crash, and its doubt stays"

    second = await till.claimed()
    assert (second.id, second.params) == (first.id, first.params), "Stripe gets the same key and the same bytes"
    assert await till.record(succeeded(first)) is Recorded.RECORDED
    done = await till.job()
    assert await till.record(succeeded(second)) is Recorded.ALREADY
    assert await till.job() == done
    assert len(await till.entries()) == 1
    assert await till.ledger.differences() == []


async def test_blind_sends_end_in_time_however_often_the_clock_is_put_back(till: Till, clock: MovedClock) -> None:
    """12 h by the clock that really passed: each noticed step moves `first_sent_ms` too."""
    await till.release(await till.started())
    passed_ms = 0
    for _ in range(6):
        await till.calls.call("HSET", f"{ROOT}fed", "at_ms", await till.now_ms())
        await clock.step(-HOUR_MS)
        await till.feed()
        await clock.step(2 * HOUR_MS - SLACK_MS)
        passed_ms += 2 * HOUR_MS - SLACK_MS
        await till.feed()
        [job] = await till.claim("job_a")
        await till.release(job)
    await clock.step(BLIND_RESEND_MS - passed_ms + SLACK_MS)
    assert not await till.claim("job_a")
    assert passed_ms < BLIND_RESEND_MS
    assert (await till.job()).status is Status.UNKNOWN


async def test_even_a_step_that_nobody_noticed_leaves_blind_sends_within_stripes_day(till: Till, clock: MovedClock,
                                                                                     ) -> None:
    """With no feed before the step it stretches the 12 h by itself; 24 h less 12 h less any such jump is left."""
    await till.release(await till.started())
    await clock.step(-HOUR_MS)
    await clock.step(BLIND_RESEND_MS + HOUR_MS - SLACK_MS)
    [job] = await till.claim("job_a")
    await till.release(job)
    await clock.step(2 * SLACK_MS)
    assert not await till.claim("job_a")
    assert BLIND_RESEND_MS + HOUR_MS + SLACK_MS < STRIPE_KEEPS_KEYS_MS - 10 * HOUR_MS


async def test_the_budget_and_the_circuit_go_on_after_a_step_either_way(till: Till, clock: MovedClock) -> None:
    for jump in (-HOUR_MS, 2 * HOUR_MS, -HOUR_MS):
        await till.circuit.beat("w1", threads=1)
        assert (await till.calls.script("reserve", "test", 20, 5, 10, 30_000))[0] == 10
        await clock.step(jump)
        granted, wait_ms, _ = await till.calls.script("reserve", "test", 20, 5, 1, 30_000)
        assert (granted, wait_ms <= 1000) == (1, True)
        reach = await till.circuit.beat("w1", threads=1)
        assert (reach.open, reach.fresh_workers) == (False, 1)
        await till.open_circuit()
        assert not (await till.circuit.answered()).open

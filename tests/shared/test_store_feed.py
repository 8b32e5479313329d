"""feed: what is due, oldest first, handed out once a grace; a lease that ended counts a crash."""

import asyncio

import pytest

from shared.jobs import Lane, Mode, Status
from shared.redis_calls import ROOT
from shared.store import Due
from tests.shared.till import Till, new, succeeded, waiting

pytestmark = pytest.mark.anyio


async def test_the_oldest_due_comes_first_and_no_more_than_asked(till: Till) -> None:
    for n, job_id in enumerate(("job_c", "job_a", "job_b")):
        await till.accept(new(job_id))
        await till.calls.call("ZADD", f"{ROOT}due:interactive", 1000 + n, job_id)
    assert await till.feed(most=2, grace_ms=60_000) == ["job_c", "job_a"]
    assert await till.feed(most=2, grace_ms=60_000) == ["job_b"]


async def test_a_job_handed_out_is_due_again_after_the_grace(till: Till) -> None:
    await till.accept(new())
    before = await till.now_ms()
    assert await till.feed(grace_ms=5000) == ["job_a"]
    due = await till.due_ms()
    assert due is not None
    assert before + 5000 <= due <= await till.now_ms() + 5000
    assert await till.feed() == []


async def test_what_is_not_due_stays(till: Till) -> None:
    await till.accept(new(), delay_ms=60_000)
    assert await till.feed() == []


async def test_the_lanes_are_apart(till: Till) -> None:
    await till.accept(new("job_a", lane=Lane.INTERACTIVE))
    await till.accept(new("job_b", lane=Lane.BULK))
    assert await till.feed(Lane.BULK) == ["job_b"]
    assert await till.feed(Lane.INTERACTIVE) == ["job_a"]


async def test_a_live_lease_is_left_to_its_worker_until_it_ends(till: Till) -> None:
    await till.started()
    ends = await till.due_ms()
    await till.calls.call("ZADD", f"{ROOT}due:interactive", 1, "job_a")
    assert await till.feed() == []
    assert await till.due_ms() == ends


@pytest.mark.parametrize(("mode", "status"), [(Mode.TEST, Status.UNKNOWN), (Mode.NONE, Status.RETRYING)])
async def test_a_lease_that_ended_counts_a_crash_and_leaves_its_doubt(till: Till, mode: Mode, status: Status) -> None:
    await till.accept(new(mode=mode))
    [lost] = await till.claim("job_a", lease_ms=1)
    await till.lapse()
    [due] = await till.store.feed(Lane.INTERACTIVE, most=10, grace_ms=0)
    assert due == Due("job_a", "charge")
    job = await till.job()
    assert (job.status, job.crashes, job.doubts) == (status, 1, lost.doubts)
    [told] = await till.events(f"job.{status}")
    assert told["error_code"] == "lease_ended"


async def test_a_look_whose_lease_ended_counts_a_crash_and_the_job_stays_pending(till: Till) -> None:
    await till.record(waiting(await till.started()))
    await till.claimed(lease_ms=1)
    await till.lapse()
    assert await till.feed() == ["job_a"]
    job = await till.job()
    assert (job.status, job.crashes) == (Status.PENDING, 1)
    assert await till.feed() == ["job_a"]
    assert (await till.job()).crashes == 1, "one lease that ended counted twice"


async def test_nothing_is_handed_out_on_hold(till: Till) -> None:
    await till.accept(new())
    await till.calls.call("SET", f"{ROOT}hold", "1")
    assert await till.feed() == []
    await till.calls.call("DEL", f"{ROOT}hold")
    assert await till.feed() == ["job_a"]


async def test_what_is_finished_parked_or_gone_is_removed(till: Till) -> None:
    await till.record(succeeded(await till.started(new("job_a"))))
    await till.release(await till.started(new("job_b")), park=True)
    await till.calls.call("ZADD", f"{ROOT}due:interactive", 1, "job_a", 1, "job_b", 1, "job_gone")
    assert await till.feed() == []
    assert await till.calls.call("ZCARD", f"{ROOT}due:interactive") == 0


async def test_many_feeders_at_once_hand_each_job_out_once(till: Till) -> None:
    for n in range(40):
        await till.accept(new(f"job_{n}"))
    rounds = await asyncio.gather(*(till.feed(most=10, grace_ms=60_000) for _ in range(10)))
    handed = [job_id for each in rounds for job_id in each]
    assert len(handed) == len(set(handed)) == 40

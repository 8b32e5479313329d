"""After a loss of the store: what may have been sent is in doubt, and no two attempts pass for each other."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from shared.jobs import Certainty, Job, Mode, Status
from shared.redis_calls import ROOT
from shared.store import BLIND_RESEND_MS, Answer, Recorded
from tests.shared.till import Till, mocked, new, refused, succeeded, waiting

pytestmark = pytest.mark.anyio

DAY_MS = 24 * 3600 * 1000
FENCES_A_LOSS = 1_000_000


async def lose(till: Till, *, count: int = 1, ago_ms: int = 0, since_ms: int | None = None) -> None:
    """Let the store have noted a loss."""
    at = await till.now_ms() - ago_ms
    await till.calls.call("HSET", f"{ROOT}epoch", "losses", count, "loss_ms", at, "lost_since_ms",
                          at if since_ms is None else since_ms)


async def forgotten(till: Till, job: Job, fields: dict[str, str]) -> None:
    """What an AOF without its last second has: the job as it was before its claim."""
    await till.calls.call("DEL", f"{ROOT}job:{job.id}")
    await till.put(job.id, **fields)
    await till.calls.call("ZREM", f"{ROOT}jobs:running", job.id)
    await till.calls.call("ZADD", f"{ROOT}jobs:{fields['status']}", job.created_ms, job.id)


async def claimed_in_what_was_lost(till: Till) -> Job:
    """An attempt that the store forgot; the loss is noted."""
    await till.accept(new())
    before = await till.calls.call("HGETALL", f"{ROOT}job:job_a")
    lost = await till.claimed()
    await forgotten(till, lost, before)
    await lose(till)
    return lost


async def test_what_is_submitted_again_after_a_loss_may_have_been_sent(till: Till) -> None:
    await lose(till)
    accepted = await till.accept(new())
    assert not accepted.replayed
    for job in (accepted.job, await till.job()):
        assert (job.status, job.doubts, job.certainty) == (Status.QUEUED, 1, Certainty.POSSIBLY_SENT)
    await till.open_circuit()
    assert await till.record(mocked(await till.claimed())) is Recorded.IN_DOUBT


@pytest.mark.parametrize(("changes", "ago_ms"), [({"fresh": True}, 0), ({"mode": Mode.NONE}, 0), ({}, DAY_MS + 1)])
async def test_what_cannot_have_been_sent_is_in_no_doubt(till: Till, changes: dict[str, Any], ago_ms: int) -> None:
    await lose(till, ago_ms=ago_ms)
    made = dataclasses.replace(new(), **changes)
    assert (await till.accept(made)).job.doubts == 0
    [job] = await till.claim("job_a", mode=made.mode)
    assert job.doubts == (0 if made.mode is Mode.NONE else 1)


async def test_without_a_loss_nothing_is_in_doubt(till: Till) -> None:
    assert (await till.accept(new())).job.doubts == 0
    job = await till.claimed()
    assert (job.doubts, job.fence) == (1, 1)


async def test_a_job_from_before_a_loss_has_one_more_doubt_for_it_and_only_once(till: Till) -> None:
    await till.accept(new())
    await lose(till)
    first = await till.claimed()
    assert (first.doubts, first.first_sent_ms is not None) == (2, True)
    assert await till.release(first, unsent=True) is Status.UNKNOWN
    again = await till.claimed()
    assert again.doubts == 2
    await till.release(again, unsent=True)
    await lose(till, count=2)
    assert (await till.claimed()).doubts == 3


async def test_a_job_from_before_a_loss_is_never_mocked(till: Till) -> None:
    await till.accept(new())
    await lose(till)
    await till.open_circuit()
    job = await till.claimed()
    assert await till.record(mocked(job)) is Recorded.IN_DOUBT
    assert await till.record(refused(job, only_without_doubt=True)) is Recorded.IN_DOUBT


async def test_a_desk_without_a_key_goes_on_as_before(till: Till) -> None:
    await till.accept(new(mode=Mode.NONE))
    await lose(till)
    [job] = await till.claim("job_a", mode=Mode.NONE, account="")
    assert (job.doubts, job.fence) == (0, FENCES_A_LOSS + 1)
    await lose(till, count=2)
    assert await till.record(mocked(job)) is Recorded.RECORDED


async def test_two_attempts_never_have_one_fence(till: Till) -> None:
    lost = await claimed_in_what_was_lost(till)
    await till.open_circuit()
    later = await till.claimed()
    assert (lost.fence, later.fence) == (1, FENCES_A_LOSS + 1)
    assert await till.release(lost, unsent=True) is None
    assert await till.record(mocked(lost)) is Recorded.FENCED
    assert await till.record(refused(lost)) is Recorded.FENCED
    job = await till.job()
    assert (job.status, job.doubts) == (Status.RUNNING, 2)


async def test_a_fact_of_an_attempt_that_the_store_forgot_is_kept(till: Till) -> None:
    lost = await claimed_in_what_was_lost(till)
    later = await till.claimed()
    assert await till.record(succeeded(lost)) is Recorded.RECORDED
    assert await till.record(succeeded(later)) is Recorded.ALREADY
    assert len(await till.entries()) == 1


@pytest.mark.parametrize("guess", [mocked, refused])
async def test_a_guess_that_spans_a_loss_is_none(till: Till, guess: Callable[[Job], Answer]) -> None:
    job = await till.started()
    await till.open_circuit()
    await lose(till)
    assert await till.record(guess(job)) is Recorded.FENCED
    assert await till.record(succeeded(job)) is Recorded.RECORDED


async def test_an_attempt_that_spans_a_loss_takes_back_its_own_doubt_and_not_that_of_the_loss(till: Till) -> None:
    job = await till.started()
    await lose(till)
    assert await till.release(job, unsent=True) is Status.RETRYING
    assert (await till.claimed()).doubts == 2


async def test_a_pending_job_is_only_looked_at_and_its_fence_is_new_too(till: Till) -> None:
    job = await till.started()
    await till.record(waiting(job))
    await lose(till)
    look = await till.claimed()
    assert (look.status, look.doubts, look.fence) == (Status.PENDING, job.doubts, FENCES_A_LOSS + 1)


@pytest.mark.parametrize(("since_ago_ms", "goes_on"), [(1000, True), (BLIND_RESEND_MS + 60_000, False)])
async def test_what_may_have_been_sent_too_long_ago_waits(till: Till, since_ago_ms: int, goes_on: bool) -> None:
    await till.accept(new())
    now = await till.now_ms()
    await till.put("job_a", created_ms=now - 2 * DAY_MS)
    await lose(till, since_ms=now - since_ago_ms)
    claimed: Sequence[Job] = await till.claim("job_a")
    assert bool(claimed) is goes_on
    job = await till.job()
    assert (job.status, job.certainty) == (Status.RUNNING if goes_on else Status.UNKNOWN, Certainty.POSSIBLY_SENT)
    assert (await till.index_of(["job_a"]))["job_a"] == [job.status]
    assert await till.due_ms() is not None


async def test_of_two_losses_the_earlier_may_have_been_long_ago(till: Till) -> None:
    await till.accept(new())
    await till.put("job_a", created_ms=await till.now_ms() - 2 * DAY_MS)
    await lose(till, count=2)
    assert await till.claim("job_a") == []
    assert (await till.job()).status is Status.UNKNOWN


async def test_a_lost_reply_of_claim_answers_the_same_attempt_after_a_loss(till: Till) -> None:
    await till.accept(new())
    [first] = await till.claim("job_a", claim_token="t")
    await lose(till)
    assert await till.claim("job_a", claim_token="t") == [first]

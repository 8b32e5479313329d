"""release: a job given back without a fact, by its live lease only, with no more than its own doubt."""

import pytest

from shared.circuit import Reach
from shared.jobs import Mode, Status
from shared.redis_calls import ROOT
from tests.shared.till import ERROR, Till, new, succeeded, waiting

pytestmark = pytest.mark.anyio


async def test_proof_that_nothing_left_takes_the_doubt_away_and_the_job_retries(till: Till) -> None:
    job = await till.started()
    assert await till.release(job, unsent=True, delay_ms=5000) is Status.RETRYING
    now = await till.now_ms()
    back = await till.job()
    assert (back.doubts, back.first_sent_ms, back.error) == (0, None, ERROR)
    assert back.next_ms is not None
    assert now < back.next_ms <= now + 5000
    assert await till.due_ms() == back.next_ms


async def test_without_proof_the_doubt_stays_and_the_job_is_unknown(till: Till) -> None:
    job = await till.started()
    assert await till.release(job) is Status.UNKNOWN
    back = await till.job()
    assert (back.doubts, back.first_sent_ms) == (1, job.first_sent_ms)


async def test_proof_takes_away_no_other_attempts_doubt(till: Till) -> None:
    await till.accept(new())
    await till.crash()
    second = await till.claimed()
    assert await till.release(second, unsent=True) is Status.UNKNOWN
    assert (await till.job()).doubts == 1


async def test_a_late_release_changes_nothing_and_its_doubt_stays(till: Till) -> None:
    late = await till.started(lease_ms=1)
    await till.lapse()
    assert await till.release(late, unsent=True) is None
    assert ((await till.job()).status, (await till.job()).doubts) == (Status.RUNNING, 1)
    await till.feed()
    before = await till.job()
    assert await till.release(late, unsent=True) is None
    assert await till.job() == before


async def test_a_stale_fence_does_not_clear_the_doubt_of_the_attempt_that_runs_now(till: Till) -> None:
    await till.accept(new())
    stale = await till.crash()
    await till.claimed()
    before = await till.job()
    assert await till.release(stale, unsent=True) is None
    assert await till.job() == before


async def test_a_release_said_twice_has_one_effect(till: Till) -> None:
    job = await till.started()
    await till.release(job, unsent=True)
    before = await till.job()
    assert await till.release(job, unsent=True) is None
    assert await till.job() == before


async def test_mode_none_retries_and_is_never_unknown(till: Till) -> None:
    await till.accept(new(mode=Mode.NONE))
    [job] = await till.claim("job_a", mode=Mode.NONE, account="")
    assert await till.release(job, unsent=False) is Status.RETRYING


async def test_a_parked_job_is_due_no_more_and_keeps_its_doubt(till: Till) -> None:
    job = await till.started()
    assert await till.release(job, park=True) is Status.PARKED
    assert (await till.job()).doubts == 1
    assert await till.due_ms() is None
    assert await till.feed() == []
    assert await till.claim("job_a") == []


async def test_a_look_that_learned_nothing_leaves_the_job_pending(till: Till) -> None:
    await till.record(waiting(await till.started()))
    look = await till.claimed()
    before = await till.events()
    assert await till.release(look, unsent=True, delay_ms=5000) is Status.PENDING
    job = await till.job()
    assert (job.status, job.error, job.doubts) == (Status.PENDING, None, 1)
    assert job.next_ms == await till.due_ms()
    assert await till.events() == before


async def test_a_look_that_saw_something_wrong_parks(till: Till) -> None:
    await till.record(waiting(await till.started()))
    assert await till.release(await till.claimed(), park=True) is Status.PARKED


async def test_a_final_job_is_not_given_back(till: Till) -> None:
    job = await till.started()
    await till.record(succeeded(job))
    assert await till.release(job) is None
    assert (await till.job()).status is Status.SUCCEEDED


@pytest.mark.parametrize("answered", [True, False])
async def test_an_answer_from_stripe_closes_the_circuit_even_when_the_lease_is_lost(till: Till, answered: bool) -> None:
    late = await till.started(lease_ms=1)
    await till.open_circuit()
    await till.lapse()
    await till.pass_ms(await till.now_ms())
    assert await till.release(late, answered=answered) is None
    reach: Reach = await till.circuit.look()
    assert reach.open is not answered
    assert await till.calls.call("HEXISTS", f"{ROOT}circuit", "answered_ms") == answered

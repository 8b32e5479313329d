"""accept: a job once, the same answer for the same question, nothing for another body."""

import asyncio
import json

import pytest

from shared.errors import IdempotencyConflict
from shared.ids import token
from shared.jobs import Certainty, Lane, Mode, Status
from shared.redis_calls import ROOT
from tests.shared.till import ACCOUNT, Till, new

pytestmark = pytest.mark.anyio


async def test_an_accepted_job_is_queued_due_indexed_and_told(till: Till) -> None:
    before = await till.now_ms()
    accepted = await till.accept(new(), delay_ms=5000)
    after = await till.now_ms()
    job = accepted.job
    assert not accepted.replayed
    assert (job.status, job.certainty, job.attempts, job.doubts) == (Status.QUEUED, Certainty.NOT_SENT, 0, 0)
    assert (job.mode, job.account, job.params["amount"]) == (Mode.TEST, ACCOUNT, 5000)
    assert before <= job.created_ms == job.updated_ms <= after
    assert await till.due_ms() == job.created_ms + 5000
    assert await till.index_of(["job_a"]) == {"job_a": [Status.QUEUED]}
    assert await till.calls.call("ZSCORE", f"{ROOT}jobs", "job_a") is not None
    [told] = await till.events()
    assert told == {"event": "job.queued", "job_id": "job_a", "kind": "charge", "status": "queued",
                    "amount_cents": "5000", "currency": "usd"}


async def test_what_accept_answers_is_what_get_reads(till: Till) -> None:
    accepted = await till.accept(new())
    assert accepted.job == await till.job()


async def test_a_bulk_job_is_due_in_its_own_lane(till: Till) -> None:
    await till.accept(new(lane=Lane.BULK))
    assert await till.due_ms(lane=Lane.BULK) is not None
    assert await till.due_ms(lane=Lane.INTERACTIVE) is None


async def test_the_same_request_again_answers_the_job_as_it_now_stands(till: Till) -> None:
    await till.started()
    again = await till.accept(new())
    assert again.replayed
    assert again.job.status is Status.RUNNING
    assert len(await till.events("job.queued")) == 1


async def test_another_body_under_the_same_id_is_refused_and_changes_nothing(till: Till) -> None:
    await till.accept(new())
    before = await till.job()
    with pytest.raises(IdempotencyConflict):
        await till.accept(new(body_hash="b2"))
    assert await till.job() == before


async def test_a_replay_leaves_the_due_time_alone(till: Till) -> None:
    await till.accept(new(), delay_ms=5000)
    due = await till.due_ms()
    await till.accept(new(), delay_ms=0)
    assert await till.due_ms() == due


async def test_the_same_token_again_gets_the_first_answer(till: Till) -> None:
    job, said = new(), token()
    arguments = (job.id, said, job.body_hash, 0, json.dumps(job.fields()))
    first = await till.calls.script("accept", *arguments)
    assert first[0] == "created"
    assert await till.calls.script("accept", *arguments) == first
    assert (await till.calls.script("accept", job.id, token(), *arguments[2:]))[0] == "replayed"


async def test_fifty_accepts_of_one_id_at_once_make_one_job(till: Till) -> None:
    accepted = await asyncio.gather(*(till.accept(new()) for _ in range(50)))
    assert sum(not one.replayed for one in accepted) == 1
    assert {one.job.created_ms for one in accepted} == {accepted[0].job.created_ms}
    assert len(await till.events("job.queued")) == 1
    assert (await till.store.counts())[Status.QUEUED] == 1


async def test_links_to_other_jobs_are_kept(till: Till) -> None:
    await till.accept(new(retry_of="job_x"))
    assert (await till.job()).retry_of == "job_x"

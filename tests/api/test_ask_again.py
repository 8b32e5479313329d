"""Asking again: an unknown or parked job is due now, under its own key; nothing else is touched."""

import httpx2
import pytest

from shared.jobs import Lane, Mode, NewJob, Status, job_error
from shared.operator import AUDIT_STREAM
from shared.redis_calls import ROOT
from tests.api.front import Front, job_id_of

pytestmark = pytest.mark.anyio


async def again(front: Front, job_id: str, query: str = "") -> httpx2.Response:
    return await front.client.post(f"/api/jobs/{job_id}/ask-again{query}")


async def charged(front: Front) -> str:
    return job_id_of(await front.charge())


async def unknown(front: Front) -> str:
    """An unknown job, as one would be that had a doubt."""
    job_id = await charged(front)
    await front.desk.calls.call("HSET", f"{ROOT}job:{job_id}", "doubts", "1", "first_sent_ms", await now_ms(front))
    await front.worker.store.release(await front.worker.claim(job_id), delay_ms=3_600_000, unsent=False, answered=True,
                                     error=job_error("outcome_unknown", "Not known yet.", retryable=True))
    return job_id


async def now_ms(front: Front) -> int:
    return int((await front.desk.calls.call("TIME"))[0]) * 1000


async def test_an_unknown_job_is_due_now(front: Front) -> None:
    job_id = await unknown(front)
    response = await again(front, job_id)
    assert (response.status_code, response.headers["location"]) == (202, f"/api/jobs/{job_id}")
    job = response.json()
    assert (job["id"], job["status"], job["certainty"]) == (job_id, "unknown", "possibly_sent")
    assert [due.job_id for due in await front.worker.store.feed(Lane.INTERACTIVE, most=10, grace_ms=0)] == [job_id]


async def test_a_parked_job_leaves_and_asking_twice_changes_nothing_more(front: Front) -> None:
    job_id = await charged(front)
    await front.worker.park(job_id)
    assert [(await again(front, job_id)).json()["status"] for _ in range(2)] == ["retrying", "retrying"]
    await front.worker.succeed(job_id)
    response = await again(front, job_id)
    assert (response.status_code, response.json()["status"]) == (202, "succeeded")
    [(_, entry)] = await front.desk.calls.call("XRANGE", AUDIT_STREAM, "-", "+")
    assert (entry["who"], entry["verb"], entry["job_id"]) == ("local", "ask_again", job_id)


@pytest.mark.parametrize("status", [Status.QUEUED, Status.RUNNING, Status.SUCCEEDED])
async def test_a_job_that_stands_otherwise_conflicts(front: Front, status: Status) -> None:
    job_id = await charged(front)
    if status is Status.RUNNING:
        await front.worker.claim(job_id)
    elif status is Status.SUCCEEDED:
        await front.worker.succeed(job_id)
    response = await again(front, job_id)
    assert (response.status_code, response.json()["code"]) == (409, "state_conflict")
    assert f"The job is {status} " in response.json()["detail"]
    assert (await front.client.get(f"/api/jobs/{job_id}")).json()["status"] == status


async def test_a_job_sent_over_12_hours_ago_conflicts(front: Front) -> None:
    job_id = await unknown(front)
    await front.desk.calls.call("HSET", f"{ROOT}job:{job_id}", "first_sent_ms", await now_ms(front) - 13 * 3_600_000)
    response = await again(front, job_id)
    assert (response.status_code, response.json()["code"]) == (409, "too_old_to_resend")


async def test_anothers_job_is_like_none_and_stays_as_it_is(front: Front) -> None:
    other = NewJob(id="job_" + "b" * 32, kind="charge", caller="somebody", body_hash="h", request={}, params={},  # type: ignore[arg-type]  # as stored
                   mode=Mode.NONE, account="", api_version="", lane=Lane.INTERACTIVE)
    await front.worker.store.accept(other, delay_ms=0, deadline_seconds=2)
    await front.worker.park(other.id)
    for job_id in (other.id, "job_" + "c" * 32, "job_1"):
        response = await again(front, job_id)
        assert (response.status_code, response.json()["code"]) == (404, "not_found")
    job = await front.worker.store.get(other.id)
    assert job is not None
    assert job.status is Status.PARKED


async def test_other_ways_of_asking(front: Front) -> None:
    job_id = await unknown(front)
    assert (await again(front, job_id, "?now=1")).status_code == 422
    response = await front.client.get(f"/api/jobs/{job_id}/ask-again")
    assert (response.status_code, response.headers["allow"]) == (405, "POST")

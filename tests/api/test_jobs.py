"""Asking for jobs: one, its long poll, and the list."""

import asyncio

import pytest

from shared.jobs import Lane, Mode, NewJob
from tests.api.front import CHARGE, CHARGES, CUSTOMERS, PAYMENTS, Front, raced

pytestmark = pytest.mark.anyio


async def test_a_job_says_when_to_ask_again_until_it_is_final(front: Front) -> None:
    path = (await front.charge()).headers["location"]
    response = await front.client.get(path)
    assert response.headers["retry-after"] == "1"
    assert "paydesk-mode" not in response.headers
    await front.worker.succeed(path.rpartition("/")[2])
    response = await front.client.get(path)
    job = response.json()
    assert "retry-after" not in response.headers
    assert response.headers["paydesk-mode"] == "mock"
    assert (job["status"], job["final"], job["book"], job["mock_mode"]) == ("succeeded", True, "mock", True)
    assert job["result"]["payment_intent_id"].startswith("pi_mock_")
    assert job["finished_at"]


async def test_a_long_poll_is_woken(front: Front) -> None:
    path = (await front.charge()).headers["location"]
    waiting = asyncio.create_task(front.client.get(path, params={"wait": "20"}))
    await raced(waiting, front)
    await front.worker.succeed(path.rpartition("/")[2])
    async with asyncio.timeout(15):  # less than it would wait if nobody woke it
        assert (await waiting).json()["status"] == "succeeded"


@pytest.mark.parametrize("wait", ["0", "1"])
async def test_a_long_poll_ends(front: Front, wait: str) -> None:
    path = (await front.charge()).headers["location"]
    response = await front.client.get(path, params={"wait": wait})
    assert (response.status_code, response.json()["status"]) == (200, "queued")


@pytest.mark.parametrize("query", [
    "wait=", "wait=x", "wait=-1", "wait=1.5", "wait=%D9%A3", "wait=1&wait=1", "weight=1"])
async def test_a_malformed_wait(front: Front, query: str) -> None:
    path = (await front.charge()).headers["location"]
    assert (await front.client.get(f"{path}?{query}")).status_code == 422


@pytest.mark.parametrize("job_id", [
    "job_" + "a" * 32, "job_" + "A" * 32, "job_1", "..%2f..%2fetc", "*", "%00", "x" * 1024, "pi_1",
    "job_" + "a" * 31 + "%0A"])
async def test_an_unknown_job(front: Front, job_id: str) -> None:
    response = await front.client.get(f"/api/jobs/{job_id}")
    assert (response.status_code, response.json()["code"]) == (404, "not_found")
    assert (await front.client.get(f"/api/jobs/{job_id}?wait=20")).status_code == 404


async def test_anothers_job_is_like_none(front: Front) -> None:
    other = NewJob(id="job_" + "b" * 32, kind="charge", caller="somebody", body_hash="h", request={}, params={},  # type: ignore[arg-type]  # as stored
                   mode=Mode.NONE, account="", api_version="", lane=Lane.INTERACTIVE)
    await front.worker.store.accept(other, delay_ms=0, deadline_seconds=2)
    unknown = (await front.client.get("/api/jobs/job_" + "c" * 32, headers={"X-Request-ID": "r"})).content
    assert (await front.client.get(f"/api/jobs/{other.id}", headers={"X-Request-ID": "r"})).content == unknown
    assert (await front.client.get("/api/jobs")).json()["data"] == []
    assert (await front.client.get("/api/jobs", params={"starting_after": other.id})).status_code == 422


async def test_the_list_goes_on_page_by_page(front: Front) -> None:
    ids = [(await front.charge()).json()["id"] for _ in range(7)]
    found: list[str] = []
    query = {"limit": "3"}
    while True:
        page = (await front.client.get("/api/jobs", params=query)).json()
        assert list(page) == ["object", "data", "has_more"]
        found += [job["id"] for job in page["data"]]
        if not page["has_more"]:
            break
        query = {"limit": "3", "starting_after": found[-1]}
    assert sorted(found) == sorted(ids)
    assert len(found) == 7
    created = [job["created_at"] for job in (await front.client.get("/api/jobs")).json()["data"]]
    assert created == sorted(created, reverse=True)


async def test_the_list_is_filtered(front: Front) -> None:
    charge = (await front.client.post(CHARGES, json=CHARGE)).json()["id"]
    payment = (await front.client.post(PAYMENTS, json={"amount": "1.00"})).json()["id"]
    await front.client.post(CUSTOMERS, json={"email": "customer@example.com"})
    await front.worker.succeed(payment)

    async def ids(**query: str) -> list[str]:
        return [job["id"] for job in (await front.client.get("/api/jobs", params=query)).json()["data"]]

    assert await ids(kind="charge") == [charge]
    assert await ids(status="succeeded") == [payment]
    assert await ids(status="succeeded", kind="charge") == []
    listed = (await front.client.get("/api/jobs", params={"status": "succeeded"})).json()["data"][0]
    assert listed["result"]["client_secret"] is None
    assert (await front.client.get(f"/api/jobs/{payment}")).json()["result"]["client_secret"]


@pytest.mark.parametrize("query", [
    "limit=0", "limit=101", "limit=-1", "limit=1e9", "limit=", "limit=%D9%A3", "status=done", "kind=", "cursor=../../",
    "starting_after=../../", "starting_after=job_" + "a" * 32, "status=queued&status=queued"])
async def test_a_malformed_list(front: Front, query: str) -> None:
    assert (await front.client.get(f"/api/jobs?{query}")).status_code == 422

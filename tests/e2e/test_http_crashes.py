"""Processes killed in the middle of a burst of requests: nothing answered is lost, nothing is charged twice."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from tests.e2e.http_desk import CHARGE, CHARGES, READY_SECONDS, HttpDesk, http_desk, job_of

pytestmark = pytest.mark.anyio

CHARGES_IN_BURST = 120
AT_ONCE = 8
OUTAGE_SECONDS = 15.0
"""What nobody may wait longer to hear of an outage; it takes two, the rest is for a machine that does other work."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request came back with; no status when the connection broke."""

    status: int | None
    seconds: float
    headers: Mapping[str, str]
    job_id: str | None


async def test_web_killed_in_a_burst_is_asked_again_and_finds_the_same_jobs(tmp_path: Path) -> None:
    async with http_desk(tmp_path) as (desk, client):
        burst = asyncio.create_task(_burst(client))
        await desk.until(lambda: desk.charges_made(), 25, "the first charge")
        desk._processes[0].kill()
        first = await burst
        told = {key: answer.job_id for key, answer in first.items() if answer.status == 202}
        assert 0 < len(told) < len(first), "it was killed in the middle"

        desk.start_web()
        await desk.until(lambda: desk.ready(client, workers=1), READY_SECONDS, "web again")
        again = await _burst(client)
        assert {answer.status for answer in again.values()} == {202}
        assert told.items() <= {key: answer.job_id for key, answer in again.items()}.items()
        assert all(again[key].headers["idempotent-replayed"] == "true" for key in told)
        await _each_charged_once(desk, client, again)


async def test_the_store_killed_in_a_burst_is_told_at_once_and_nothing_is_lost(tmp_path: Path) -> None:
    async with http_desk(tmp_path) as (desk, client):
        burst = asyncio.create_task(_burst(client))
        await desk.until(lambda: desk.charges_made(), 25, "the first charge")
        await asyncio.to_thread(desk.servers.store.kill)
        during = [await _charge(client, "during") for _ in range(3)]
        first = await burst
        outage = [answer for answer in [*first.values(), *during] if answer.status != 202]
        assert {answer.status for answer in outage} == {503}
        assert all(answer.headers["retry-after"] for answer in outage)
        assert max(answer.seconds for answer in outage) < OUTAGE_SECONDS

        await asyncio.to_thread(desk.servers.store.start)

        async def accepted() -> bool:
            return (await _charge(client, "during")).status == 202

        await desk.until(accepted, OUTAGE_SECONDS, "accepting again")
        again = await _burst(client)
        assert {answer.status for answer in again.values()} == {202}
        promised = {key: answer.job_id for key, answer in first.items() if answer.job_id}
        assert promised.items() <= {key: answer.job_id for key, answer in again.items()}.items()
        await _each_charged_once(desk, client, again | {"during": await _charge(client, "during")})


async def _burst(client: httpx2.AsyncClient) -> dict[str, Answer]:
    """A charge for each key, some at once, whatever becomes of them."""
    keys = iter([f"order-{number}" for number in range(CHARGES_IN_BURST)])
    answers: dict[str, Answer] = {}

    async def customer() -> None:
        for key in keys:
            answers[key] = await _charge(client, key)

    await asyncio.gather(*(customer() for _ in range(AT_ONCE)))
    return answers


async def _charge(client: httpx2.AsyncClient, key: str) -> Answer:
    began = time.monotonic()
    try:
        response = await client.post(CHARGES, json=CHARGE, headers={"Idempotency-Key": key})
    except httpx2.TransportError:
        return Answer(None, time.monotonic() - began, {}, None)
    job_id = job_of(response) if "location" in response.headers else None
    return Answer(response.status_code, time.monotonic() - began, response.headers, job_id)


async def _each_charged_once(desk: HttpDesk, client: httpx2.AsyncClient, answers: Mapping[str, Answer]) -> None:
    """Each key's job ends charged, Stripe has one charge of each, and no other; the books say so too."""
    jobs = [answer.job_id for answer in answers.values() if answer.job_id is not None]
    assert len(set(jobs)) == len(answers)
    desk.remember(*jobs)
    await desk.settled(within_seconds=30)
    assert sorted(desk.charges_made()) == sorted(jobs)
    stats = (await client.get("/api/stripe/stats")).json()
    assert (stats["real_processed_usd"], stats["mock_processed_usd"]) == (50.0 * len(jobs), 0.0)
    assert (stats["successful_payments"], stats["failed_payments"]) == (len(jobs), 0)

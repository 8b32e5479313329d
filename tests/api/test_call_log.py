"""The log of API calls: a line for each call under /api/stripe/, with nothing in it that a caller typed."""

import asyncio
import json
from typing import Any

import anyio.lowlevel
import httpx2
import pytest
from structlog.testing import capture_logs

from api.call_log import MOST_KEPT, Call, CallLog
from cli.servers import free_port
from shared.errors import StoreUnavailable
from shared.events import START, Events, Log
from shared.redis_calls import RedisCalls
from shared.settings import Settings
from tests.api.front import CHARGE, CHARGES, INTENT, PAYMENTS, STATS, Front, job_id_of, serving

pytestmark = pytest.mark.anyio

TYPED = ("customer@example.com", "k-4711", "555.555", "BREW", "sk_test", "pi_1")


async def _lines(settings: Settings) -> list[dict[str, Any]]:
    """The log's lines of API calls, as the follower would write them, without what differs each time."""
    calls = RedisCalls.connect(settings.redis_url.get_secret_value(), deadline_seconds=2)
    text = "".join([page.text async for page in Events(calls).pages(Log.REVENUE, START)])
    await calls.close()
    assert not [typed for typed in TYPED if typed in text]
    found = [json.loads(line) for line in text.splitlines()]
    for line in found:
        assert line.pop("ts")
        assert line.pop("id")
        assert 0 <= line.pop("ms") < 30_000
        assert line.pop("event") == "api_call"
    return found


def _line(method: str, path: str, status: int, job_id: str | None = None) -> dict[str, Any]:
    return {"method": method, "path": path, "status": status, "job_id": job_id}


async def test_each_call_is_a_line_with_its_route_and_job(settings: Settings) -> None:
    async with serving(settings) as front:
        client = front.client
        charged = job_id_of(await front.charge(**{"Idempotency-Key": "k-4711"}))
        await front.charge(**{"Idempotency-Key": "k-4711"})
        made = job_id_of(await client.get(INTENT, params={"amount": "555", "email": "customer@example.com"},
                                          headers={"Prefer": "wait=0"}))
        await client.get(STATS)
        await client.head(STATS)
        await client.post(PAYMENTS, json={"amount": "555.555"})
    assert await _lines(settings) == [
        _line("POST", CHARGES, 202, charged), _line("POST", CHARGES, 202, charged), _line("GET", INTENT, 202, made),
        _line("GET", STATS, 200), _line("HEAD", STATS, 200), _line("POST", PAYMENTS, 422)]


async def test_a_waited_for_failure_names_its_job(settings: Settings) -> None:
    async with serving(settings) as front:
        job_id = job_id_of(await front.charge(**{"Idempotency-Key": "k"}))
        await front.worker.fail(job_id, "card_declined")
        await front.charge(Prefer="wait=5", **{"Idempotency-Key": "k"})
    assert await _lines(settings) == [_line("POST", CHARGES, 202, job_id), _line("POST", CHARGES, 402, job_id)]


@pytest.mark.parametrize(("method", "path", "line"), [
    ("GET", "/api/stripe/sk_test_1234567890/customer@example.com", _line("GET", "unknown", 404)),
    ("POST", f"{CHARGES}/", _line("POST", "unknown", 404)),
    ("POST", "/api/stripe/", _line("POST", "unknown", 404)),
    ("PUT", CHARGES, _line("PUT", CHARGES, 405)),
    ("BREW", CHARGES, _line("unknown", CHARGES, 405)),
    ("BREW", "/api/stripe/pi_1_secret_2", _line("unknown", "unknown", 404)),
    ("GET", "/api/stripe/payment-status?payment_intent_id=pi_mock_a",
     _line("GET", "/api/stripe/payment-status", 404))])
async def test_what_is_no_route_of_ours_is_unknown(settings: Settings, method: str, path: str,
                                                   line: dict[str, Any]) -> None:
    async with serving(settings) as front:
        transport = httpx2.ASGITransport(front.app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://desk") as client:
            await client.request(method, path)
    assert await _lines(settings) == [line]


async def test_other_addresses_and_preflights_are_no_calls(settings: Settings) -> None:
    async with serving(settings) as front:
        await front.client.get("/livez")
        await front.client.get("/api/jobs")
        await front.client.get("/api/stripe")
        await front.preflight(CHARGES, {"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"})
    assert await _lines(settings) == []


async def test_with_the_store_away_calls_are_answered_and_their_lines_counted(settings: Settings) -> None:
    away = settings.model_copy(update={"redis_url": type(settings.redis_url)(f"redis://127.0.0.1:{free_port()}/0")})
    with capture_logs() as said:
        async with serving(away) as front:
            assert [(await front.charge()).status_code for _ in range(3)] == [503] * 3
    dropped = [line for line in said if line["event"] == "api_calls_dropped"]
    assert sum(line["count"] for line in dropped) == 3
    assert {line["reason"] for line in dropped} == {"StoreUnavailable"}


async def test_the_lines_come_within_a_second_or_two_while_it_serves(front: Front, settings: Settings) -> None:
    await front.charge(CHARGE)
    async with asyncio.timeout(20):
        while not await _lines(settings):
            await anyio.lowlevel.checkpoint()


async def test_no_more_is_kept_than_there_is_room_for() -> None:
    written: list[Call] = []

    async def write(calls: list[Call]) -> None:
        written.extend(calls)

    with capture_logs() as said:
        await _filled(MOST_KEPT + 7).write_left(write)
    assert len(written) == MOST_KEPT
    assert [(line["event"], line["count"]) for line in said] == [("api_calls_dropped", 7)]


async def test_what_could_not_be_written_is_not_tried_again() -> None:
    async def refuse(calls: list[Call]) -> None:
        raise StoreUnavailable("away")

    log = _filled(MOST_KEPT + 7)
    with capture_logs() as said:
        await log.write_left(refuse)
        await log.write_left(refuse)
    assert [line["count"] for line in said] == [MOST_KEPT + 7]


def _filled(count: int) -> CallLog:
    log = CallLog()
    for number in range(count):
        log.add({"path": str(number)})
    return log

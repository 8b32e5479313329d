"""Polling how a payment stands over HTTP: Stripe is asked at most once in a window, revenue counts once."""

import asyncio
import time
from pathlib import Path

import httpx2
import pytest

from shared.payments import FRESH_MS
from tests.e2e.http_desk import PAYMENT_STATUS, PAYMENTS, STATS, http_desk

pytestmark = pytest.mark.anyio

WINDOWS = 2
POLLERS = 3


async def test_polling_a_payment_asks_stripe_once_a_window_and_books_it_once(tmp_path: Path) -> None:
    async with http_desk(tmp_path, workers=({}, {})) as (desk, client):
        made = await client.post(PAYMENTS, json={"amount": 25.50}, headers={"Prefer": "wait=20"})
        payment = made.json()["payment_intent_id"]
        begun = time.monotonic()
        end = begun + WINDOWS * FRESH_MS / 1000 + 2

        async def poll() -> int:
            polls = 0
            while time.monotonic() < end:
                assert await _status(client, payment) == "requires_payment_method"
                polls += 1
            return polls

        polls = sum(await asyncio.gather(*(poll() for _ in range(POLLERS))))
        reads = [request["started_at"] for request in desk.standin.requests() if request["method"] == "GET"]
        windows = 1 + (time.monotonic() - begun) * 1000 / FRESH_MS
        assert 1 <= len(reads) <= windows + 1, f"{len(reads)} reads for {polls} polls"
        assert polls > 2 * len(reads)

        desk.standin.pay(payment)

        async def paid() -> bool:
            return set(await asyncio.gather(*(_status(client, payment) for _ in range(POLLERS)))) == {"succeeded"}

        await desk.until(paid, 20, "the payment seen as paid")
        stats = (await client.get(STATS)).json()
        assert (stats["real_processed_usd"], stats["successful_payments"]) == (25.5, 1)
        assert [entry["cents"] async for _, entry in desk.ledger.entries()] == ["2550"]


async def _status(client: httpx2.AsyncClient, payment: str) -> str:
    response = await client.get(PAYMENT_STATUS, params={"payment_intent_id": payment})
    assert response.status_code == 200, response.text
    status: str = response.json()["status"]
    return status

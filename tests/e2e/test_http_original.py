"""The original system's requests, unchanged, against a whole desk: in the mock without a key, and at the stand-in."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.e2e.http_desk import CHARGE, CHARGES, CUSTOMERS, PAYMENT_STATUS, PAYMENTS, STATS, http_desk, job_of

pytestmark = pytest.mark.anyio

INTENT = "/api/stripe/payment-intent?amount=10.00&email=customer@example.com&description=Payment"
PAYMENT = {"amount": 25.50, "email": "customer@example.com", "description": "Premium API Access",
           "metadata": {"plan": "premium"}}
CUSTOMER = {"email": "customer@example.com", "name": "John Doe", "phone": "+1234567890", "metadata": {"source": "api"}}
NO_KEY = {"STRIPE_SECRET_KEY": ""}
MOCKED = {"mock_mode": True, "fallback_reason": "no_api_key"}


@pytest.mark.parametrize(("settings", "marks"), [(NO_KEY, MOCKED), ({}, {})], ids=["without a key", "at the stand-in"])
async def test_every_original_request_works_as_it_stands(tmp_path: Path, settings: Mapping[str, str],
                                                         marks: Mapping[str, Any]) -> None:
    async with http_desk(tmp_path, settings=settings) as (desk, client):
        intent = await _got(client, INTENT)
        name = intent.pop("payment_intent_id")
        assert name.startswith("pi_mock_" if marks else "pi_")
        assert intent.pop("client_secret").startswith(f"{name}_secret_")
        assert intent == {"success": True, "amount": 10.0, "currency": "usd", "status": "requires_payment_method",
                          **marks}

        created = await _result(client, PAYMENTS, PAYMENT)
        assert (created["amount"], created["status"]) == (25.5, "requires_payment_method")
        customer = await _result(client, CUSTOMERS, CUSTOMER)
        assert customer.pop("customer_id").startswith("cus_mock_" if marks else "cus_")
        assert customer == {"success": True, "email": "customer@example.com", "name": "John Doe", **marks}
        charged = await _result(client, CHARGES, CHARGE)
        assert charged.pop("payment_intent_id").startswith("pi_mock_" if marks else "pi_")
        assert charged == {"success": True, "amount": 50.0, "currency": "usd", "status": "succeeded", **marks}

        if not marks:  # the mock's customer pays by itself
            for payment in (name, created["payment_intent_id"]):
                desk.standin.pay(payment)
        expected = 85.5

        async def paid() -> Mapping[str, Any] | None:
            for payment in (name, created["payment_intent_id"]):
                await client.get(PAYMENT_STATUS, params={"payment_intent_id": payment})
            found: Mapping[str, Any] = (await client.get(STATS)).json()
            return found if found["total_processed_usd"] == expected else None

        stats = await desk.until(paid, 30, "two intents paid and one charge")
        assert stats is not None
        assert stats.items() >= {"successful_payments": 3, "failed_payments": 0, "success_rate": 100.0,
                                 "mock_mode": bool(marks)}.items()
        status = await _got(client, f"{PAYMENT_STATUS}?payment_intent_id={name}")
        assert (status["status"], status["amount_received"]) == ("succeeded", 10.0)
        assert status.get("mock_mode", False) is bool(marks)
        assert (stats["real_processed_usd"], stats["mock_processed_usd"]) == ((0, 85.5) if marks else (85.5, 0))
        assert await _bytes_after_the_headers_of_head(desk.url) == b""


async def _bytes_after_the_headers_of_head(url: str) -> bytes:
    """A client that keeps its connection would take them for the next answer."""
    reader, writer = await asyncio.open_connection(urlsplit(url).hostname, urlsplit(url).port)
    writer.write(f"HEAD {STATS} HTTP/1.1\r\nHost: desk\r\nConnection: close\r\n\r\n".encode())
    _, _, after = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return after


async def _got(client: httpx2.AsyncClient, address: str) -> dict[str, Any]:
    response = await client.get(address)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


async def _result(client: httpx2.AsyncClient, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """A submission's result, by polling the job that it answers."""
    accepted = await client.post(path, json=body)
    assert accepted.status_code == 202, accepted.text
    job = await _got(client, f"/api/jobs/{job_of(accepted)}?wait=20")
    assert job["status"] == "succeeded", job
    found: dict[str, Any] = job["result"]
    return found

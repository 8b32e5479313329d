"""An independent peer agrees on the wire: encoding, ids, statuses and signatures, by the few calls that it supports."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
import stripe

from tests.contract import localstripe_process
from tests.standin.asking import KEY
from tests.standin.listening import Heard, Listener
from worker.stripe_http import StripeHTTP

pytestmark = pytest.mark.anyio

INTENTS, CUSTOMERS, REFUNDS = "/v1/payment_intents", "/v1/customers", "/v1/refunds"
SECRET = "whsec_second_peer"
# it knows neither automatic_payment_methods nor description, and reads no Idempotency-Key
CHARGE = {"amount": 500, "currency": "usd", "payment_method": "pm_card_visa", "confirm": True}
_WEBHOOK_SECONDS = 15.0

Call = Callable[..., Awaitable[dict[str, Any]]]


@pytest.fixture(scope="module")
def peer() -> Iterator[str]:
    with localstripe_process.running() as url:
        yield url


@pytest.fixture
async def call(peer: str, anyio_backend: str) -> AsyncIterator[Call]:
    """The desk's own HTTP client and the SDK's raw request, as the processor puts them together."""
    http = StripeHTTP()
    client = stripe.StripeClient(KEY, base_addresses={"api": peer}, max_network_retries=0, http_client=http)

    async def ask(method: str, path: str, **params: Any) -> dict[str, Any]:
        response = await client.raw_request_async(method, path, **params)
        found: dict[str, Any] = response.data
        return found

    yield ask
    await http.close_async()


async def test_customers(call: Call) -> None:
    made = await call("post", CUSTOMERS, email="ann@example.com", name="Ann Ö", metadata={"order": "ö & 7 = [x]"})
    assert made["id"].startswith("cus_")
    assert (made["object"], made["email"], made["name"], made["livemode"]) == (
        *("customer", "ann@example.com", "Ann Ö"),
        False,
    )
    assert made["metadata"] == {"order": "ö & 7 = [x]"}
    listed = await call("get", CUSTOMERS, email="ann@example.com")
    assert [shown["id"] for shown in listed["data"]] == [made["id"]]
    assert (await call("get", f"{CUSTOMERS}/{made['id']}"))["metadata"] == made["metadata"]


async def test_a_charge_and_its_refund(call: Call) -> None:
    paid = await call("post", INTENTS, **CHARGE, metadata={"paydesk_job_id": "job_1"})
    assert paid["id"].startswith("pi_")
    assert (paid["object"], paid["status"], paid["amount"], paid["currency"]) == (
        *("payment_intent", "succeeded"),
        500,
        "usd",
    )
    assert paid["metadata"] == {"paydesk_job_id": "job_1"}
    assert (await call("get", f"{INTENTS}/{paid['id']}"))["status"] == "succeeded"
    refund = await call("post", REFUNDS, payment_intent=paid["id"], amount=200)
    assert refund["id"].startswith("re_")
    assert (refund["object"], refund["amount"], refund["status"]) == ("refund", 200, "succeeded")


async def test_an_intent_for_a_browser(call: Call) -> None:
    made = await call("post", INTENTS, amount=50, currency="usd")
    assert (made["status"], made["livemode"]) == ("requires_payment_method", False)
    assert made["client_secret"].startswith(made["id"] + "_secret_")


async def test_refusals_are_the_sdks_errors(call: Call) -> None:
    with pytest.raises(stripe.InvalidRequestError) as missing:
        await call("get", f"{INTENTS}/pi_none")
    assert missing.value.http_status == 404
    with pytest.raises(stripe.InvalidRequestError) as unknown:
        await call("post", INTENTS, **CHARGE, colour="red")
    assert unknown.value.http_status == 400


async def test_its_signature_and_ours_are_read_by_the_same_rule(peer: str, call: Call, ear: Listener) -> None:
    body = json.dumps({"url": ear.url, "secret": SECRET, "events": ["customer.created"]}).encode()
    request = urllib.request.Request(  # noqa: S310 - always http on loopback
        f"{peer}/_config/webhooks/one", data=body, headers={"Content-Type": "application/json"}
    )
    localstripe_process.OPENER.open(request, timeout=10).close()
    made = await call("post", CUSTOMERS, email="ann@example.com")
    heard = _await_webhook(ear, made["id"])
    event = stripe.Webhook.construct_event(heard.raw, heard.signature, SECRET)
    assert (event.type, event.data.object["id"]) == ("customer.created", made["id"])
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.Webhook.construct_event(heard.raw, heard.signature, "whsec_other")


def _await_webhook(ear: Listener, name: str) -> Heard:
    """It posts a second later, also what other tests made."""
    deadline = time.monotonic() + _WEBHOOK_SECONDS
    while True:
        found = [heard for heard in ear.heard if heard.event["data"]["object"]["id"] == name]
        if found:
            return found[0]
        assert time.monotonic() < deadline, "no webhook came"
        time.sleep(0.05)

"""stripe-python drives the stand-in: its encoding is understood, and each error becomes its class."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import stripe

from standin.client import Standin
from tests.standin.asking import KEY

CREATE: stripe.params.PaymentIntentCreateParams = {
    "amount": 500,
    "currency": "usd",
    "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
    "metadata": {"paydesk_job_id": "job_1"},
}
CHARGE: stripe.params.PaymentIntentCreateParams = {**CREATE, "confirm": True, "payment_method": "pm_card_visa"}


@pytest.fixture(autouse=True)
def no_telemetry() -> Iterator[None]:
    before, stripe.enable_telemetry = stripe.enable_telemetry, False
    yield
    stripe.enable_telemetry = before


@pytest.fixture
def http(standin: Standin) -> Iterator[stripe.RequestsClient]:
    client = stripe.RequestsClient()
    yield client
    client.close()  # type: ignore[no-untyped-call]  # the SDK has no types here


def client_for(standin: Standin, http: stripe.RequestsClient, key: str = KEY) -> stripe.StripeClient:
    return stripe.StripeClient(key, base_addresses={"api": standin.base_url}, max_network_retries=0, http_client=http)


@pytest.fixture
def client(standin: Standin, http: stripe.RequestsClient) -> stripe.StripeClient:
    return client_for(standin, http)


def test_the_calls_of_the_desk(standin: Standin, client: stripe.StripeClient) -> None:
    customer = client.v1.customers.create({"email": "ann@example.com", "name": "Ann", "phone": "+15555550100"})
    made = client.v1.payment_intents.create({**CREATE, "customer": customer.id}, {"idempotency_key": "k:pi"})
    paid = client.v1.payment_intents.confirm(made.id, {"payment_method": "pm_card_visa"}, {"idempotency_key": "k:co"})
    assert (paid.status, paid.amount_received, paid.livemode) == ("succeeded", 500, False)
    assert paid.last_response is not None
    assert paid.last_response.headers["Stripe-Version"] == "2026-10-28.endive"
    assert client.v1.payment_intents.retrieve(made.id).status == "succeeded"
    listed = client.v1.payment_intents.list({"created": {"gte": made.created}, "limit": 3})
    assert [intent.metadata["paydesk_job_id"] for intent in listed.data] == ["job_1"]
    assert [c.id for c in client.v1.customers.list({"email": "ann@example.com"}).data] == [customer.id]
    assert client.v1.customers.retrieve(customer.id).email == "ann@example.com"
    refund = client.v1.refunds.create({"payment_intent": made.id, "amount": 100, "metadata": {"a": "b"}})
    assert client.v1.refunds.retrieve(refund.id).amount == 100
    assert client.v1.balance.retrieve().pending[0].amount == 400
    assert client.v1.accounts.retrieve_current().id.startswith("acct_")
    other = client.v1.payment_intents.create(CREATE)
    assert client.v1.payment_intents.cancel(other.id).status == "canceled"
    assert [e["kind"] for e in standin.effects(job_id="job_1")] == ["payment_intent", "charge", "payment_intent"]


def test_pages_are_walked(client: stripe.StripeClient) -> None:
    for _ in range(5):
        client.v1.payment_intents.create(CREATE)
    assert len(list(client.v1.payment_intents.list({"limit": 2}).auto_paging_iter())) == 5


def test_a_decline_is_a_card_error(client: stripe.StripeClient) -> None:
    with pytest.raises(stripe.CardError) as caught:
        client.v1.payment_intents.create({**CHARGE, "payment_method": "pm_card_visa_chargeDeclinedInsufficientFunds"})
    error = caught.value
    assert (error.http_status, error.code, error.request_id is not None) == (402, "card_declined", True)
    assert error.error is not None
    assert error.error.decline_code == "insufficient_funds"
    assert error.error.payment_intent is not None
    assert error.error.payment_intent.status == "requires_payment_method"


def test_requires_action(client: stripe.StripeClient) -> None:
    paid = client.v1.payment_intents.create({**CHARGE, "payment_method": "pm_card_authenticationRequired"})
    assert paid.status == "requires_action"
    assert paid.next_action is not None


@pytest.mark.parametrize(
    ("key", "expected"),
    [("sk_test_invalid1", stripe.AuthenticationError), ("sk_test_forbidden1", stripe.PermissionError)],
)
def test_a_bad_key(standin: Standin, http: stripe.RequestsClient, key: str, expected: type[stripe.StripeError]) -> None:
    with pytest.raises(expected) as caught:
        client_for(standin, http, key).v1.payment_intents.create(CREATE)
    assert key not in str(caught.value.http_body)


def test_an_invalid_request(client: stripe.StripeClient) -> None:
    with pytest.raises(stripe.InvalidRequestError) as caught:
        client.v1.payment_intents.create({**CREATE, "amount": 49})
    assert (caught.value.code, caught.value.param) == ("amount_too_small", "amount")
    with pytest.raises(stripe.InvalidRequestError) as caught:
        client.v1.payment_intents.retrieve("pi_none")
    assert (caught.value.http_status, caught.value.code) == (404, "resource_missing")


def test_an_idempotency_error(client: stripe.StripeClient) -> None:
    client.v1.payment_intents.create(CREATE, {"idempotency_key": "k"})
    with pytest.raises(stripe.IdempotencyError):
        client.v1.payment_intents.create(CHARGE, {"idempotency_key": "k"})


@pytest.mark.parametrize(
    ("action", "expected", "status"),
    [
        ("status:429", stripe.RateLimitError, 429),
        ("lock_timeout", stripe.RateLimitError, 429),
        ("status:409", stripe.APIError, 409),
        ("status:500_before", stripe.APIError, 500),
        ("status:500_after", stripe.APIError, 500),
        ("status:503", stripe.APIError, 503),
        ("html", stripe.APIError, 200),
        ("die_before_effect", stripe.APIConnectionError, None),
        ("die_after_effect", stripe.APIConnectionError, None),
        ("close_after_effect", stripe.APIConnectionError, None),
        ("cut_answer", stripe.APIConnectionError, None),
        ("reset_before_read", stripe.APIConnectionError, None),
    ],
)
def test_faults_become_the_sdks_errors(
    standin: Standin, client: stripe.StripeClient, action: str, expected: type[stripe.StripeError], status: int | None
) -> None:
    standin.fault(action)
    with pytest.raises(expected) as caught:
        client.v1.payment_intents.create(CHARGE, {"idempotency_key": "k"})
    assert (type(caught.value), caught.value.http_status) == (expected, status)
    assert len(standin.effects("charge")) == ("after" in action or action == "cut_answer")


def test_refused_is_a_connection_error(standin: Standin, client: stripe.StripeClient) -> None:
    standin.refuse()
    with pytest.raises(stripe.APIConnectionError, match="Connection refused"):
        client.v1.payment_intents.create(CHARGE)
    standin.accept()
    assert client.v1.payment_intents.create(CHARGE).status == "succeeded"

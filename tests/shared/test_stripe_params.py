"""The parameters that Stripe gets: frozen at accept, and what the pinned version of the API takes."""

import json
from pathlib import Path
from typing import Any

import pytest

from shared.ids import Ids
from shared.jobs import Kind, Mode, NewJob
from shared.requests import ChargeRequest, CustomerRequest, PaymentIntentRequest, Request
from shared.settings import STRIPE_API_VERSION, Settings
from shared.stripe_params import idempotency_key, mock_payment_job, new_job
from tests.shared.till import new

OPENAPI = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "stripe-openapi-subset.json"
METADATA = {"order": "7"}
COMMON = {"amount": "25.50", "email": "a@example.com", "description": "Two cups", "metadata": METADATA}
INTENT = PaymentIntentRequest.model_validate(COMMON)
CHARGE = ChargeRequest.model_validate({**COMMON, "payment_method_id": "pm_1", "customer_id": "cus_1"})
CUSTOMER = CustomerRequest.model_validate(
    {"email": "a@example.com", "name": "Ada", "phone": "+4930123456", "metadata": METADATA})
IDS = Ids("a secret")
REQUESTS = {"/v1/payment_intents": (INTENT, CHARGE), "/v1/customers": (CUSTOMER,)}
EVERY = [INTENT, CHARGE, CUSTOMER]


def frozen(request: Request, key: str = "sk_test_fake") -> NewJob:
    settings = Settings(_env_file=None, stripe_secret_key=key)
    return new_job(request, job_id="job_a", caller="local", ids=IDS, settings=settings)


def marks(kind: str) -> dict[str, str]:
    return {"paydesk_job_id": "job_a", "paydesk_desk": IDS.fingerprint()[:12], "paydesk_kind": kind}


def test_an_intent_is_paid_later_by_whatever_method_the_account_has_on() -> None:
    assert frozen(INTENT).params == {
        "amount": 2550, "currency": "usd", "description": "Two cups", "receipt_email": "a@example.com",
        "metadata": {"order": "7", **marks("payment_intent")}, "automatic_payment_methods": {"enabled": True}}


def test_a_charge_is_confirmed_at_once_and_never_redirects() -> None:
    assert frozen(CHARGE).params == {
        "amount": 2550, "currency": "usd", "description": "Two cups", "receipt_email": "a@example.com",
        "metadata": {"order": "7", **marks("charge")}, "confirm": True, "payment_method": "pm_1",
        "customer": "cus_1", "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"}}


def test_a_customer_is_who_was_named() -> None:
    assert frozen(CUSTOMER).params == {"email": "a@example.com", "name": "Ada", "phone": "+4930123456",
                                       "metadata": {"order": "7", **marks("customer")}}


def test_what_was_not_given_is_not_sent() -> None:
    least = ChargeRequest.model_validate({"amount": "1", "payment_method_id": "pm_1"})
    assert set(frozen(least).params) == {"amount", "currency", "metadata", "confirm", "payment_method",
                                         "automatic_payment_methods"}


@pytest.mark.parametrize("request_", EVERY, ids=lambda request: request.kind)
def test_every_object_names_its_job_and_no_list_of_methods(request_: Request) -> None:
    params = frozen(request_).params
    assert params["metadata"].items() >= marks(request_.kind).items()
    assert "payment_method_types" not in params


@pytest.mark.parametrize("request_", EVERY, ids=lambda request: request.kind)
def test_mode_account_and_version_are_frozen_with_the_parameters(request_: Request) -> None:
    job = frozen(request_)
    assert (job.mode, job.api_version, job.kind) == (Mode.TEST, "2026-10-28.endive", request_.kind)
    assert job.account.startswith("key_")
    assert (frozen(request_, key="").mode, frozen(request_, key="").account) == (Mode.NONE, "")
    assert job.body_hash == request_.body_hash() == frozen(request_, key="").body_hash


def test_amounts_are_integers() -> None:
    assert type(frozen(CHARGE).params["amount"]) is int
    assert frozen(CHARGE).amount_cents == 2550
    assert frozen(CUSTOMER).amount_cents is None


def test_the_idempotency_key_is_the_job_and_the_operation_and_fits() -> None:
    job_id = Ids("s").job("local", "/r", "k")
    keys = {idempotency_key(job_id, kind) for kind in Kind}
    assert len(keys) == len(Kind)
    assert all(len(key) <= 255 and key.isascii() for key in keys)


def test_the_simulated_payment_is_one_job_for_each_intent_and_calls_nobody() -> None:
    ids = Ids("s")
    intent = new().queued(0)
    one, again = (mock_payment_job(ids, intent=intent, payment_intent_id="pi_mock_a") for _ in range(2))
    assert one == again
    assert (one.kind, one.mode, one.account, one.caller, one.amount_cents, one.links) == (
        Kind.STATUS_REFRESH, Mode.NONE, intent.account, intent.caller, 5000, {"pays": "job_a"})


def unknown_names(given: dict[str, Any], schema: dict[str, Any], place: str = "") -> list[str]:
    """The given names that a request schema does not have."""
    if "anyOf" in schema:
        return min((unknown_names(given, option, place) for option in schema["anyOf"]), key=len)
    known, rest = schema.get("properties", {}), schema.get("additionalProperties")
    found = [] if isinstance(rest, dict) else [f"{place}{name}" for name in given if name not in known]
    for name, value in given.items():
        if isinstance(value, dict) and name in known:
            found += unknown_names(value, known[name], f"{place}{name}.")
    return found


@pytest.mark.parametrize("path", REQUESTS)
def test_stripe_has_every_parameter_that_is_sent(path: str) -> None:
    if not OPENAPI.exists():
        pytest.skip("stripe-openapi-subset.json is not in ../shared/data beside this checkout: names are NOT checked")
    document = json.loads(OPENAPI.read_text())
    assert STRIPE_API_VERSION in document["info"]["x-overlay"]
    body = document["paths"][path]["post"]["requestBody"]["content"]["application/x-www-form-urlencoded"]["schema"]
    assert unknown_names({"nonsense": 1, "metadata": {"a": "b"}}, body) == ["nonsense"]
    for request in REQUESTS[path]:
        assert unknown_names(dict(frozen(request).params), body) == []
        assert set(body.get("required", [])) <= set(frozen(request).params)

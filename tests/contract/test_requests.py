"""Every request that the desk sends is one that Stripe publishes and the SDK knows, as the peer saw it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import stripe

from shared.ids import Ids
from shared.jobs import Job, Kind
from shared.requests import ChargeRequest, CustomerRequest, PaymentIntentRequest, Request
from shared.results import Payment
from shared.settings import STRIPE_API_VERSION, Settings
from shared.stripe_params import idempotency_key, new_job
from standin.client import Standin
from tests.contract import forms, sdk_types
from tests.contract.schema import Schemas, load
from tests.standin.asking import KEY, Asker
from worker.processor import Refused, Settled
from worker.stripe_processor import StripeProcessor

pytestmark = pytest.mark.anyio

JOB_ID = "job_a1"
INTENTS, INTENT, CUSTOMERS = "/v1/payment_intents", "/v1/payment_intents/{intent}", "/v1/customers"
CANCEL = f"{INTENT}/cancel"
METADATA = {"order": "ö 7", "0": "zero"}
PARAMS = {
    ("post", INTENTS): stripe.params.PaymentIntentCreateParams,
    ("post", CUSTOMERS): stripe.params.CustomerCreateParams,
    ("get", INTENT): stripe.params.PaymentIntentRetrieveParams,
    ("post", CANCEL): stripe.params.PaymentIntentCancelParams,
}
ASKED: list[tuple[Request, str]] = [
    (PaymentIntentRequest.model_validate({"amount": "0.50"}), INTENTS),
    (
        PaymentIntentRequest.model_validate(
            {"amount": "999999.99", "email": "ann@example.com", "description": "d" * 1000, "metadata": METADATA}
        ),
        INTENTS,
    ),
    (ChargeRequest.model_validate({"amount": "50", "payment_method_id": "pm_card_visa"}), INTENTS),
    (
        ChargeRequest.model_validate(
            {
                "amount": "50",
                "payment_method_id": "pm_card_visa",
                "email": "ann@example.com",
                "description": "Tea & cake = 50 %",
                "customer_id": "cus_1",
                "metadata": {f"k{n}": "v" * 500 for n in range(45)},
            }
        ),
        INTENTS,
    ),
    (CustomerRequest.model_validate({"email": "ann@example.com"}), CUSTOMERS),
    (
        CustomerRequest.model_validate(
            {"email": "ann@example.com", "name": "Ann Ö", "phone": "+15555550100", "metadata": METADATA}
        ),
        CUSTOMERS,
    ),
]
NOT_SENT = {Kind.REFUND}
"""Kinds that the processor refuses; one that it begins to send must be added above."""


def job_for(asked: Request, **changes: str) -> Job:
    new = new_job(asked, job_id=JOB_ID, caller="local", ids=Ids("a secret"), settings=Settings(_env_file=None))
    times = {"created_ms": "0", "updated_ms": "0"}
    return Job.from_hash({**new.fields(), "status": "running", **times, **changes})


@pytest.fixture(scope="module")
def schemas() -> Schemas:
    return Schemas(load("stripe-openapi-subset.json"))


@pytest.fixture
async def desk(standin: Standin, anyio_backend: str) -> AsyncIterator[StripeProcessor]:
    standin.settings(capture=True)
    processor = StripeProcessor(api_key=KEY, api_base=standin.base_url, api_version=STRIPE_API_VERSION)
    yield processor
    await processor.close()


def sent(standin: Standin) -> dict[str, Any]:
    """The one request that came."""
    (entry,) = standin.requests()
    found: dict[str, Any] = entry
    return found


def check(schemas: Schemas, entry: dict[str, Any], path: str) -> dict[str, Any]:
    """Hold a captured request against what Stripe publishes and against what the SDK knows; give it decoded."""
    method = str(entry["method"]).lower()
    form = forms.decode(entry["sent"]["body" if method == "post" else "query"])
    assert schemas.form_problems(form, schemas.request_schema(method, path)) == []
    assert sdk_types.form_problems(form, PARAMS[method, path]) == []
    assert "payment_method_types" not in form
    assert entry["sent"]["headers"]["stripe-version"] == STRIPE_API_VERSION
    return form


@pytest.mark.parametrize(("asked", "path"), ASKED, ids=lambda value: getattr(value, "kind", None))
async def test_what_is_sent(
    schemas: Schemas, standin: Standin, desk: StripeProcessor, asked: Request, path: str
) -> None:
    job = job_for(asked)
    if "customer" in job.params:  # only an existing one is taken, and its id is Stripe's to choose
        asker = Asker(standin.base_url)
        made = asker.post(CUSTOMERS, {}).body["id"]
        asker.close()
        job = job_for(asked.model_copy(update={"customer_id": made}))
    before = len(standin.requests())
    outcome = await desk.send(job)
    assert isinstance(outcome, Settled), outcome
    (entry,) = standin.requests()[before:]
    form = check(schemas, entry, path)
    assert entry["key"] == idempotency_key(JOB_ID, job.kind)
    assert entry["job_id"] == form["metadata"]["paydesk_job_id"] == JOB_ID
    assert entry["sent"]["headers"]["content-type"].startswith("application/x-www-form-urlencoded")
    assert set(form) == set(job.params)


async def test_every_optional_field_is_tried() -> None:
    """So that a field that a request gains is not forgotten here."""
    for kind in {type(request) for request, _ in ASKED}:
        given = set().union(*(request.model_fields_set for request, _ in ASKED if type(request) is kind))
        assert set(kind.model_fields) - given <= {"currency"}, kind


async def test_what_is_read(schemas: Schemas, standin: Standin, desk: StripeProcessor, ask: Asker) -> None:
    name = ask.create().body["id"]
    request = PaymentIntentRequest.model_validate({"amount": "5"})
    looked = await desk.look(job_for(request, stripe_id=name))
    refresh = {"kind": Kind.STATUS_REFRESH.value, "request": f'{{"payment_intent_id": "{name}"}}', "params": "{}"}
    refreshed = await desk.send(job_for(request, **refresh))
    for outcome in (looked, refreshed):
        assert isinstance(outcome, Settled), outcome
    for entry in standin.requests()[1:]:
        assert (entry["method"], entry["path"]) == ("GET", f"{INTENTS}/{name}")
        assert check(schemas, entry, INTENT) == {}
        assert entry["key"] is None


async def test_what_is_canceled(schemas: Schemas, standin: Standin, desk: StripeProcessor, ask: Asker) -> None:
    name = ask.create().body["id"]
    job = job_for(PaymentIntentRequest.model_validate({"amount": "5"}), stripe_id=name)
    for _ in range(2):
        outcome = await desk.cancel(job)
        assert isinstance(outcome, Settled), outcome
        assert isinstance(outcome.made, Payment)
        assert (outcome.made.id, outcome.made.status) == (name, "canceled")
    asked = standin.requests()[1:]
    assert len(asked) == 2
    for entry in asked:
        assert (entry["method"], entry["path"]) == ("POST", f"{INTENTS}/{name}/cancel")
        assert entry["key"] == f"{JOB_ID}:cancel"
        assert check(schemas, entry, CANCEL) == {"cancellation_reason": "abandoned"}
    assert ask.get(f"{INTENTS}/{name}").body["cancellation_reason"] == "abandoned"


@pytest.mark.parametrize("stripe_id", ["", "pi_mock_1", "pi_1/../../customers", "cus_1"])
async def test_nothing_else_than_a_payment_of_stripes_is_canceled(
    standin: Standin, desk: StripeProcessor, stripe_id: str
) -> None:
    outcome = await desk.cancel(job_for(ASKED[0][0], stripe_id=stripe_id))
    assert isinstance(outcome, Refused)
    assert standin.requests() == []


async def test_every_kind_is_checked_or_sends_nothing(standin: Standin, desk: StripeProcessor) -> None:
    assert {request.kind for request, _ in ASKED} | {Kind.STATUS_REFRESH} | NOT_SENT == set(Kind)
    for kind in NOT_SENT:
        outcome = await desk.send(job_for(ASKED[0][0], kind=kind.value))
        assert isinstance(outcome, Refused), kind
    assert standin.requests() == []


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("amount=500&currency=usd&payment_method_types[0]=card", "payment_method_types is unknown"),
        ("amount=500&currency=usd&colour=red", "colour is unknown"),
        ("amount=12.5&currency=usd", "$.amount: "),
        ("amount=-5&currency=usd", "$.amount: "),
        ("amount=500", "currency is missing"),
        ("amount=500&currency=usd&confirm=yes", "$.confirm: "),
        ("amount=500&currency=usd&automatic_payment_methods[allow_redirects]=never", "enabled is missing"),
        (
            "amount=500&currency=usd&automatic_payment_methods[enabled]=true&automatic_payment_methods[x]=1",
            "x is unknown",
        ),
        ("amount=500&currency=usd&metadata=v", "$.metadata: "),
        ("amount=500&currency=usd&capture_method=later", "$.capture_method: "),
    ],
)
def test_the_checkers_see_what_is_wrong(schemas: Schemas, body: str, expected: str) -> None:
    form = forms.decode(body)
    for found in (
        schemas.form_problems(form, schemas.request_schema("post", INTENTS)),
        sdk_types.form_problems(form, stripe.params.PaymentIntentCreateParams),
    ):
        assert any(expected in problem for problem in found), found


def test_a_parameter_that_the_sdk_drops_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    params = stripe.params.PaymentIntentCreateParams
    assert sdk_types.form_problems({"amount": "5", "currency": "usd", "description": "d"}, params) == []
    monkeypatch.delitem(params.__annotations__, "description")
    found = sdk_types.form_problems({"amount": "5", "currency": "usd", "description": "d"}, params)
    assert found == ["$: description is unknown to PaymentIntentCreateParams"]

"""Every answer has the shape that Stripe publishes."""

from __future__ import annotations

from typing import Any

import pytest

from standin.client import Standin
from tests.standin.asking import Asker, Told
from tests.standin.schema import Schemas, load

INTENT, INTENTS = "/v1/payment_intents/{intent}", "/v1/payment_intents"


@pytest.fixture(scope="module")
def schemas() -> Schemas:
    return Schemas(load("stripe-openapi-subset.json"))


def check(schemas: Schemas, told: Told, method: str, path: str, status: str = "200") -> dict[str, Any]:
    found = schemas.problems(told.body, schemas.answer_schema(method, path, status))
    # younger than the published subset; the SDK's ErrorObject has it
    assert [p for p in found if not p.endswith(": advice_code is unknown")] == []
    return told.body


def test_the_checker_sees_what_is_wrong(schemas: Schemas, ask: Asker) -> None:
    body = ask.create().body
    schema = schemas.answer_schema("post", INTENTS)
    assert schemas.problems(body, schema) == []
    wrongs: list[dict[str, Any]] = [{"amount": "500"}, {"status": "paid"}, {"livemode": None}, {"colour": "red"}]
    for wrong in wrongs:
        assert schemas.problems({**body, **wrong}, schema)
    del body["currency"]
    assert schemas.problems(body, schema) == ["$: currency is missing"]


def test_the_checker_takes_stripes_own_fixtures(schemas: Schemas) -> None:
    fixtures = load("stripe-fixtures-subset.json")["resources"]
    for name in ["payment_intent", "customer", "refund", "balance", "account"]:
        assert schemas.problems(fixtures[name], {"$ref": f"#/components/schemas/{name}"}) == []


def test_intents(schemas: Schemas, standin: Standin, ask: Asker) -> None:
    made = check(schemas, ask.create(description="d", **{"metadata[a]": "b"}), "post", INTENTS)
    confirm = {"payment_method": "pm_card_visa", "return_url": "https://example.com"}
    told = ask.post(f"/v1/payment_intents/{made['id']}/confirm", confirm)
    check(schemas, told, "post", INTENT + "/confirm")
    check(schemas, ask.get(f"/v1/payment_intents/{made['id']}"), "get", INTENT)
    other = ask.create().body["id"]
    check(schemas, ask.post(f"/v1/payment_intents/{other}/cancel", {}), "post", INTENT + "/cancel")
    for payment_method in ["pm_card_authenticationRequired", "pm_processing"]:
        check(schemas, ask.charge(payment_method=payment_method), "post", INTENTS)
    redirected = {"payment_method": "pm_card_authenticationRequired", "return_url": "https://example.com"}
    check(schemas, ask.charge(**redirected), "post", INTENTS)
    check(schemas, ask.get(INTENTS), "get", INTENTS)


def test_customers_and_refunds(schemas: Schemas, standin: Standin, ask: Asker) -> None:
    made = check(schemas, ask.post("/v1/customers", {"email": "a@example.com"}), "post", "/v1/customers")
    check(schemas, ask.get(f"/v1/customers/{made['id']}"), "get", "/v1/customers/{customer}")
    check(schemas, ask.get("/v1/customers"), "get", "/v1/customers")
    paid = ask.charge(payment_method="pm_card_refundFail").body["id"]
    refund = check(schemas, ask.post("/v1/refunds", {"payment_intent": paid}), "post", "/v1/refunds")
    standin.advance(61)
    check(schemas, ask.get(f"/v1/refunds/{refund['id']}"), "get", "/v1/refunds/{refund}")
    check(schemas, ask.get("/v1/refunds"), "get", "/v1/refunds")


def test_balance_and_account(schemas: Schemas, ask: Asker) -> None:
    check(schemas, ask.get("/v1/balance"), "get", "/v1/balance")
    check(schemas, ask.get("/v1/account"), "get", "/v1/account")


@pytest.mark.parametrize("action", ["status:401", "status:409", "status:429", "lock_timeout", "status:500_before"])
def test_refusals(schemas: Schemas, standin: Standin, ask: Asker, action: str) -> None:
    standin.fault(action)
    check(schemas, ask.charge("k"), "post", INTENTS, "default")


def test_declines(schemas: Schemas, ask: Asker) -> None:
    for more in [{"payment_method": "pm_card_chargeDeclined"}, {"amount": "1"}, {"payment_method": "pm_missing"}]:
        check(schemas, ask.charge(**more), "post", INTENTS, "default")

"""Payment intents: the test payment methods, states, lists, and the money that moved."""

from __future__ import annotations

import pytest

from standin.client import Standin, StandinFailed
from tests.standin.asking import CHARGE, CREATE, Asker

CONFIRM = {"payment_method": "pm_card_visa", "return_url": "https://example.com/back"}


def test_create_moves_no_money_and_confirm_moves_it_once(standin: Standin, ask: Asker) -> None:
    made = ask.create(**{"metadata[paydesk_job_id]": "job_1"}).body
    assert (made["status"], made["amount_received"], made["latest_charge"]) == ("requires_payment_method", 0, None)
    assert made["client_secret"].startswith(made["id"] + "_secret_")
    paid = ask.post(f"/v1/payment_intents/{made['id']}/confirm", CONFIRM).body
    assert (paid["status"], paid["amount_received"]) == ("succeeded", 500)
    assert paid["latest_charge"].startswith("ch_")
    again = ask.post(f"/v1/payment_intents/{made['id']}/confirm", CONFIRM)
    assert (again.status, again.error["code"]) == (400, "payment_intent_unexpected_state")
    assert again.error["payment_intent"]["status"] == "succeeded"
    assert [(e["kind"], e["amount"], e["job_id"], e["payment_intent"]) for e in standin.effects()] == [
        ("payment_intent", 500, "job_1", made["id"]),
        ("charge", 500, "job_1", made["id"]),
    ]
    assert ask.get(f"/v1/payment_intents/{made['id']}").body == paid
    assert ask.get("/v1/balance").body["pending"][0]["amount"] == 500


@pytest.mark.parametrize(
    ("payment_method", "code", "decline_code"),
    [
        ("pm_card_visa_chargeDeclined", "card_declined", "generic_decline"),
        ("pm_card_chargeDeclined", "card_declined", "generic_decline"),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "card_declined", "insufficient_funds"),
        ("pm_card_visa_chargeDeclinedLostCard", "card_declined", "lost_card"),
        ("pm_card_visa_chargeDeclinedStolenCard", "card_declined", "stolen_card"),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card", "expired_card"),
        ("pm_card_chargeDeclinedIncorrectCvc", "incorrect_cvc", "incorrect_cvc"),
        ("pm_card_chargeDeclinedProcessingError", "processing_error", "processing_error"),
        ("pm_card_chargeCustomerFail", "card_declined", "generic_decline"),
    ],
)
def test_declines(standin: Standin, ask: Asker, payment_method: str, code: str, decline_code: str) -> None:
    told = ask.charge(payment_method=payment_method)
    error = told.error
    assert (told.status, error["type"], error["code"]) == (402, "card_error", code)
    assert (error["decline_code"], bool(error["message"])) == (decline_code, True)
    intent = error["payment_intent"]
    assert (intent["status"], intent["payment_method"]) == ("requires_payment_method", None)
    assert intent["last_payment_error"]["decline_code"] == decline_code
    assert standin.effects("charge") == []
    paid = ask.post(f"/v1/payment_intents/{intent['id']}/confirm", {"payment_method": "pm_card_visa"}).body
    assert (paid["status"], paid["last_payment_error"]) == ("succeeded", None)


@pytest.mark.parametrize("payment_method", ["pm_card_createDispute", "pm_1AnyOther", "pm_card_mastercard"])
def test_any_other_payment_method_succeeds(ask: Asker, payment_method: str) -> None:
    assert ask.charge(payment_method=payment_method).body["status"] == "succeeded"


@pytest.mark.parametrize("payment_method", ["pm_missing", "pm_missing_7", "card_1", "pm_", "pm_a-b"])
def test_a_missing_payment_method(standin: Standin, ask: Asker, payment_method: str) -> None:
    told = ask.charge(payment_method=payment_method)
    assert (told.status, told.error["code"], told.error["param"]) == (400, "resource_missing", "payment_method")
    assert standin.effects() == []


def test_authentication_is_asked_of_the_customer_who_pays(standin: Standin, ask: Asker) -> None:
    made = ask.charge(payment_method="pm_card_authenticationRequired").body
    assert (made["status"], made["next_action"]["type"]) == ("requires_action", "use_stripe_sdk")
    assert standin.effects("charge") == []
    assert standin.pay(made["id"])["status"] == "succeeded"
    assert [e["amount"] for e in standin.effects("charge")] == [500]
    with pytest.raises(StandinFailed, match="unexpected_state"):
        standin.pay(made["id"])


def test_authentication_off_session_is_a_decline(ask: Asker) -> None:
    told = ask.charge(payment_method="pm_card_authenticationRequired", off_session="true")
    assert (told.status, told.error["code"]) == (402, "authentication_required")
    assert told.error["decline_code"] == "authentication_required"
    assert told.error["payment_intent"]["status"] == "requires_payment_method"


def test_processing_moves_money_later(standin: Standin, ask: Asker) -> None:
    made = ask.charge(payment_method="pm_processing_1").body
    assert (made["status"], standin.effects("charge")) == ("processing", [])
    assert standin.pay(made["id"])["amount_received"] == 500


def test_a_customer_pays_a_new_intent(standin: Standin, ask: Asker) -> None:
    made = ask.create().body
    assert standin.pay(made["id"])["status"] == "succeeded"
    with pytest.raises(StandinFailed, match="resource_missing"):
        standin.pay("pi_unknown")


def test_cancel(standin: Standin, ask: Asker) -> None:
    name = ask.create().body["id"]
    gone = ask.post(f"/v1/payment_intents/{name}/cancel", {"cancellation_reason": "abandoned"}).body
    assert (gone["status"], gone["cancellation_reason"]) == ("canceled", "abandoned")
    assert ask.post(f"/v1/payment_intents/{name}/confirm", CONFIRM).error["code"] == "payment_intent_unexpected_state"
    paid = ask.charge().body["id"]
    assert ask.post(f"/v1/payment_intents/{paid}/cancel", {}).status == 400
    assert len(standin.effects("charge")) == 1


def test_lists_are_newest_first_in_pages(standin: Standin, ask: Asker) -> None:
    customer = ask.post("/v1/customers", {"email": "a@example.com"}).body["id"]
    names = []
    for place in range(5):
        standin.advance(100)
        more = {"customer": customer} if place % 2 else {}
        names.append(ask.create(**more).body["id"])
    names.reverse()
    first = ask.get("/v1/payment_intents?limit=2").body
    assert ([o["id"] for o in first["data"]], first["has_more"]) == (names[:2], True)
    rest = ask.get(f"/v1/payment_intents?limit=3&starting_after={names[1]}").body
    assert ([o["id"] for o in rest["data"]], rest["has_more"]) == (names[2:], False)
    created = first["data"][1]["created"]
    for query, expected in [
        (f"created[gte]={created}", names[:2]),
        (f"created[gt]={created}", names[:1]),
        (f"created[lt]={created}", names[2:]),
        (f"created[lte]={created}&created[gte]={created}", names[1:2]),
        (f"created={created}", names[1:2]),
        (f"customer={customer}", [names[1], names[3]]),
    ]:
        assert [o["id"] for o in ask.get(f"/v1/payment_intents?{query}").body["data"]] == expected


def test_another_account_sees_nothing(ask: Asker) -> None:
    other = "sk_test_" + "z" * 8
    name = ask.charge().body["id"]
    assert ask.get(f"/v1/payment_intents/{name}", key=other).error["code"] == "resource_missing"
    assert ask.get("/v1/payment_intents", key=other).body["data"] == []
    assert ask.post(f"/v1/payment_intents/{name}/cancel", {}, key=other).status == 404
    assert ask.get("/v1/account").body["id"] != ask.get("/v1/account", key=other).body["id"]
    assert ask.get("/v1/balance", key=other).body["pending"][0]["amount"] == 0


def test_a_rolled_key_keeps_its_account(ask: Asker) -> None:
    part = "sk_test_" + "a" * 16
    assert ask.get("/v1/account", key=part + "1").body["id"] == ask.get("/v1/account", key=part + "2").body["id"]


def test_refunds(standin: Standin, ask: Asker) -> None:
    paid = ask.charge().body
    part = ask.post("/v1/refunds", {"payment_intent": paid["id"], "amount": "200"}).body
    assert (part["amount"], part["status"], part["charge"]) == (200, "succeeded", paid["latest_charge"])
    assert ask.post("/v1/refunds", {"payment_intent": paid["id"], "amount": "301"}).error["param"] == "amount"
    rest = ask.post("/v1/refunds", {"charge": paid["latest_charge"], "reason": "duplicate"}).body
    assert (rest["amount"], rest["reason"]) == (300, "duplicate")
    assert ask.post("/v1/refunds", {"payment_intent": paid["id"]}).error["code"] == "charge_already_refunded"
    assert ask.get(f"/v1/refunds/{part['id']}").body == part
    listed = ask.get(f"/v1/refunds?payment_intent={paid['id']}").body["data"]
    assert [r["id"] for r in listed] == [rest["id"], part["id"]]
    assert [(e["amount"], e["payment_intent"]) for e in standin.effects("refund")] == [
        (200, paid["id"]),
        (300, paid["id"]),
    ]
    unpaid = ask.create().body["id"]
    assert ask.post("/v1/refunds", {"payment_intent": unpaid}).status == 400
    assert ask.post("/v1/refunds", {"payment_intent": "pi_none"}).status == 404
    assert ask.post("/v1/refunds", {}).error["code"] == "parameter_missing"


def test_a_refund_that_fails_later_gives_the_money_back(standin: Standin, ask: Asker) -> None:
    paid = ask.charge(payment_method="pm_card_refundFail").body
    made = ask.post("/v1/refunds", {"payment_intent": paid["id"]}).body
    assert (made["status"], ask.get("/v1/balance").body["pending"][0]["amount"]) == ("succeeded", 0)
    standin.advance(61)
    assert [e["object_id"] for e in standin.effects("refund_failed")] == [made["id"]]
    failed = ask.get(f"/v1/refunds/{made['id']}").body
    assert (failed["status"], failed["failure_reason"]) == ("failed", "expired_or_canceled_card")
    assert ask.get("/v1/balance").body["pending"][0]["amount"] == 500
    assert ask.post("/v1/refunds", {"payment_intent": paid["id"]}).status == 200


def test_customers_are_never_merged(standin: Standin, ask: Asker) -> None:
    email = "ann@example.com"
    names = [ask.post("/v1/customers", {"email": email, "name": "Ann"}).body["id"] for _ in range(2)]
    ask.post("/v1/customers", {"email": "Ann@example.com"})
    assert [c["id"] for c in ask.get(f"/v1/customers?email={email}").body["data"]] == names[::-1]
    assert ask.get(f"/v1/customers/{names[0]}").body["name"] == "Ann"
    assert ask.get("/v1/customers/cus_none").status == 404
    assert len(standin.effects("customer")) == 3
    told = ask.post("/v1/payment_intents", {**CREATE, "customer": "cus_none"})
    assert (told.status, told.error["param"]) == (400, "customer")
    assert ask.post("/v1/payment_intents", {**CHARGE, "customer": names[0]}).body["customer"] == names[0]

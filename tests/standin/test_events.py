"""Events: which change makes which, and how they are listed."""

from __future__ import annotations

import re
import sqlite3
from typing import Any

import pytest

from standin.client import Standin, StandinFailed
from tests.standin.asking import Asker

CREATED, SUCCEEDED, CHARGED = "payment_intent.created", "payment_intent.succeeded", "charge.succeeded"
CONFIRM = {"payment_method": "pm_card_visa", "return_url": "https://example.com/back"}
DAY = 24 * 3600


def events(ask: Asker, query: str = "limit=100") -> list[dict[str, Any]]:
    """Oldest first."""
    found: list[dict[str, Any]] = ask.get(f"/v1/events?{query}").body["data"]
    return found[::-1]


def types(ask: Asker, query: str = "limit=100") -> list[str]:
    return [event["type"] for event in events(ask, query)]


def test_a_charge_makes_its_events(ask: Asker) -> None:
    told = ask.charge("k", **{"metadata[paydesk_job_id]": "job_1"})
    made, charged, paid = events(ask)
    assert [made["type"], charged["type"], paid["type"]] == [CREATED, CHARGED, SUCCEEDED]
    assert paid["data"]["object"] == told.body
    assert made["data"]["object"]["status"] == "requires_confirmation"
    charge = charged["data"]["object"]
    assert (charge["id"], charge["payment_intent"]) == (told.body["latest_charge"], told.body["id"])
    assert charge["metadata"] == {"paydesk_job_id": "job_1"}
    assert ask.get(f"/v1/charges/{charge['id']}").body == charge
    for event in [made, charged, paid]:
        assert re.fullmatch(r"evt_[A-Za-z0-9]{24}", event["id"])
        assert event["request"] == {"id": told.headers["request-id"], "idempotency_key": "k"}
        assert (event["api_version"], event["livemode"], event["pending_webhooks"]) == ("2026-10-28.endive", False, 0)
        assert ask.get(f"/v1/events/{event['id']}").body == event


@pytest.mark.parametrize(
    ("payment_method", "last"),
    [
        ("pm_card_chargeDeclined", "payment_intent.payment_failed"),
        ("pm_card_authenticationRequired", "payment_intent.requires_action"),
        ("pm_processing_1", "payment_intent.processing"),
        ("pm_card_createDispute", "charge.dispute.created"),
    ],
)
def test_what_a_card_makes(ask: Asker, payment_method: str, last: str) -> None:
    ask.charge(payment_method=payment_method)
    found = types(ask)
    assert (found[0], found[-1]) == (CREATED, last)
    assert (SUCCEEDED in found) is (last == "charge.dispute.created")


def test_what_ends_an_intent(standin: Standin, ask: Asker) -> None:
    one, two, three = (ask.create().body["id"] for _ in range(3))
    ask.post(f"/v1/payment_intents/{one}/cancel", {})
    ask.post(f"/v1/payment_intents/{two}/confirm", CONFIRM)
    standin.pay(three)
    assert types(ask)[3:] == ["payment_intent.canceled", CHARGED, SUCCEEDED, CHARGED, SUCCEEDED]
    assert events(ask)[-1]["request"] == {"id": None, "idempotency_key": None}
    assert events(ask)[3]["data"]["object"]["status"] == "canceled"


def test_a_customer(ask: Asker) -> None:
    customer = ask.post("/v1/customers", {"email": "ann@example.com"}).body
    assert [(e["type"], e["data"]["object"]) for e in events(ask)] == [("customer.created", customer)]


def test_nothing_new_makes_no_event(standin: Standin, ask: Asker) -> None:
    ask.charge("k")
    count = len(types(ask))
    ask.charge("k")
    ask.charge("k", amount="501")
    ask.charge("other", amount="1")
    standin.fault("status:500_before")
    ask.charge("k500")
    ask.get("/v1/payment_intents")
    assert len(types(ask)) == count


@pytest.mark.parametrize("action", ["die_after_effect", "hang_mid_body", "status:500_after", "garbage"])
def test_an_effect_without_an_answer_has_its_events(standin: Standin, ask: Asker, action: str) -> None:
    standin.fault(action)
    if action.startswith(("die", "hang")):
        ask.connection.timeout = 0.2
        with pytest.raises(OSError):  # noqa: PT011 - a reset or a timeout, by the fault
            ask.charge("k")
    else:
        ask.charge("k")
    assert types(ask) == [CREATED, CHARGED, SUCCEEDED]


def test_refunds_carry_what_was_given_back_in_all(ask: Asker) -> None:
    paid = ask.charge().body["id"]
    refunds = [ask.post("/v1/refunds", {"payment_intent": paid, "amount": n}).body for n in ("200", "300")]
    found = events(ask)[3:]
    assert [e["type"] for e in found] == ["refund.created", "charge.refunded"] * 2
    assert [found[0]["data"]["object"], found[2]["data"]["object"]] == refunds
    charges = [found[1]["data"]["object"], found[3]["data"]["object"]]
    assert [(c["amount_refunded"], c["refunded"]) for c in charges] == [(200, False), (500, True)]


def test_a_refund_that_fails_later(standin: Standin, ask: Asker) -> None:
    paid = ask.charge(payment_method="pm_card_refundFail").body
    ask.post("/v1/refunds", {"payment_intent": paid["id"]})
    standin.advance(61)
    failed = events(ask)[-2:]
    assert [e["type"] for e in failed] == ["refund.updated", "refund.failed"]
    assert failed[1]["data"]["object"]["status"] == "failed"
    assert failed[1]["request"]["id"] is None
    assert ask.get(f"/v1/charges/{paid['latest_charge']}").body["amount_refunded"] == 0


def test_a_pending_refund_moves_money_when_it_succeeds(standin: Standin, ask: Asker) -> None:
    paid = ask.charge(payment_method="pm_card_pendingRefund").body["id"]
    refund = ask.post("/v1/refunds", {"payment_intent": paid}).body
    assert (refund["status"], standin.effects("refund")) == ("pending", [])
    assert ask.post("/v1/refunds", {"payment_intent": paid}).error["code"] == "charge_already_refunded"
    standin.advance(61)
    assert ask.get(f"/v1/refunds/{refund['id']}").body["status"] == "succeeded"
    assert [e["amount"] for e in standin.effects("refund")] == [500]
    assert types(ask)[-1] == "refund.updated"


def test_a_dispute(standin: Standin, ask: Asker) -> None:
    paid = ask.charge(**{"payment_method": "pm_card_createDispute", "metadata[paydesk_job_id]": "job_1"}).body
    dispute = events(ask)[-1]["data"]["object"]
    assert (dispute["payment_intent"], dispute["amount"], dispute["status"]) == (paid["id"], 500, "needs_response")
    assert ask.get("/v1/balance").body["pending"][0]["amount"] == 500
    standin.dispute(dispute["id"], "withdraw")
    assert ask.get("/v1/balance").body["pending"][0]["amount"] == 0
    standin.dispute(paid["id"], "win")
    standin.dispute(dispute["id"], "reinstate")
    assert types(ask)[-3:] == [
        "charge.dispute.funds_withdrawn",
        "charge.dispute.closed",
        "charge.dispute.funds_reinstated",
    ]
    shown = ask.get(f"/v1/disputes/{dispute['id']}").body
    assert (shown["status"], [b["amount"] for b in shown["balance_transactions"]]) == ("won", [-500, 500])
    assert ask.get("/v1/balance").body["pending"][0]["amount"] == 500
    assert ask.get(f"/v1/charges/{paid['latest_charge']}").body["disputed"] is True
    kinds = [(e["kind"], e["amount"]) for e in standin.effects(job_id="job_1")[2:]]
    assert kinds == [("dispute", None), ("dispute_withdrawn", 500), ("dispute_reinstated", 500)]
    for step in ["withdraw", "reinstate", "win", "no_step"]:
        with pytest.raises(StandinFailed):
            standin.dispute(dispute["id"], step)


def test_a_dispute_opened_by_the_test_and_lost(standin: Standin, ask: Asker) -> None:
    paid, unpaid = ask.charge().body["id"], ask.create().body["id"]
    name = standin.dispute(paid, "open")["id"]
    assert standin.dispute(name, "lose")["status"] == "lost"
    for of, step in [(name, "win"), (name, "reinstate"), (paid, "open"), (unpaid, "open"), (unpaid, "win")]:
        with pytest.raises(StandinFailed):
            standin.dispute(of, step)


def test_lists(standin: Standin, ask: Asker) -> None:
    ask.charge()
    standin.advance(100)
    ask.post("/v1/customers", {})
    standin.advance(100)
    ask.charge()
    assert types(ask, "type=charge.succeeded") == [CHARGED] * 2
    assert types(ask, "type=payment_intent.*") == [CREATED, SUCCEEDED] * 2
    assert types(ask, "type=*.created") == [CREATED, "customer.created", CREATED]
    assert types(ask, "type=invoice.paid") == []
    assert types(ask, "types[]=customer.created&types[]=charge.succeeded") == [CHARGED, "customer.created", CHARGED]
    assert types(ask, "types[0]=customer.created") == ["customer.created"]
    middle = events(ask, "type=customer.created")[0]
    assert len(types(ask, f"created[gte]={middle['created']}")) == 4
    assert len(types(ask, f"created[gte]={middle['created']}&type=charge.*")) == 1
    assert len(types(ask, f"starting_after={middle['id']}")) == 3
    page = ask.get("/v1/events?limit=2").body
    assert (page["object"], page["url"], page["has_more"]) == ("list", "/v1/events", True)


@pytest.mark.parametrize(
    "query", ["type=a&types[]=b", "types=a", "delivery_success=true", "starting_after=evt_none", "colour=red"]
)
def test_a_list_that_cannot_be_read(ask: Asker, query: str) -> None:
    assert ask.get(f"/v1/events?{query}").status == 400


def test_more_than_twenty_types_are_refused(ask: Asker) -> None:
    assert ask.get("/v1/events?" + "&".join(["types[]=a"] * 21)).status == 400


def test_events_are_shown_for_thirty_days(standin: Standin, ask: Asker) -> None:
    ask.create()
    name = events(ask)[0]["id"]
    standin.advance(30 * DAY - 10)
    assert ask.get(f"/v1/events/{name}").status == 200
    standin.advance(20)
    assert ask.get(f"/v1/events/{name}").error["code"] == "resource_missing"
    assert types(ask) == []


def test_another_account_sees_no_events(ask: Asker) -> None:
    ask.create()
    other = "sk_test_" + "z" * 8
    assert ask.get("/v1/events", key=other).body["data"] == []
    assert ask.get(f"/v1/events/{events(ask)[0]['id']}", key=other).status == 404


def test_a_second_event_of_the_same_change(standin: Standin, ask: Asker) -> None:
    ask.create()
    first = events(ask)[0]
    second = standin.webhooks.twin(first["id"])
    assert second["id"] != first["id"]
    assert events(ask) == [first, second]
    assert second == {**first, "id": second["id"]}


def test_events_are_kept_with_the_change(standin: Standin, ask: Asker) -> None:
    ask.charge()
    connection = sqlite3.connect(f"file:{standin.db}?mode=ro", uri=True)
    try:
        rows = connection.execute("SELECT lookup FROM objects WHERE kind = 'event' ORDER BY seq").fetchall()
    finally:
        connection.close()
    assert [row[0] for row in rows] == [CREATED, CHARGED, SUCCEEDED]


@pytest.mark.parametrize(
    "path", ["/v1/charges/ch_none", "/v1/disputes/dp_none", "/v1/events/evt_none", "/v1/events/pi_1"]
)
def test_what_is_not_there(ask: Asker, path: str) -> None:
    assert (ask.get(path).status, ask.get(path).error["code"]) == (404, "resource_missing")


def test_a_declined_charge_is_not_shown(ask: Asker) -> None:
    intent = ask.charge(payment_method="pm_card_chargeDeclined").error["payment_intent"]
    assert ask.get(f"/v1/charges/{intent['latest_charge']}").status == 404


def test_memory_keeps_no_events() -> None:
    with Standin.start(memory=True) as standin:
        ask = Asker(standin.base_url)
        assert ask.charge().status == 200
        assert "--memory" in ask.get("/v1/events").error["message"]
        with pytest.raises(StandinFailed, match="--memory"):
            standin.webhooks.listen("http://127.0.0.1:9/", "whsec_x")
        ask.close()

"""Disputes: opened by a card or by a test, which plays the bank too; at Stripe the steps lie far apart."""

from __future__ import annotations

from standin.errors import ApiError, Json
from standin.events import Type, emit
from standin.objects import Call, only_known
from standin.records import EffectKind, Kind, Record, new_id

_EVIDENCE = (
    "access_activity_log",
    "billing_address",
    "cancellation_policy",
    "cancellation_policy_disclosure",
    "cancellation_rebuttal",
    "customer_communication",
    "customer_email_address",
    "customer_name",
    "customer_purchase_ip",
    "customer_signature",
    "duplicate_charge_documentation",
    "duplicate_charge_explanation",
    "duplicate_charge_id",
    "product_description",
    "receipt",
    "refund_policy",
    "refund_policy_disclosure",
    "refund_refusal_explanation",
    "service_date",
    "service_documentation",
    "shipping_address",
    "shipping_carrier",
    "shipping_date",
    "shipping_documentation",
    "shipping_tracking_number",
    "uncategorized_file",
    "uncategorized_text",
)
_ANSWER_SECONDS = 9 * 24 * 3600


def retrieve(call: Call, name: str) -> Json:
    """Give one dispute."""
    only_known(call)
    return call.find(Kind.DISPUTE, name, noun="dispute", param="dispute").body


def open_dispute(call: Call, intent: Record) -> Json:
    """Dispute a paid intent's charge; no money moves yet."""
    if intent.body["status"] != "succeeded" or "dispute" in intent.notes:
        raise ApiError(400, "Only a payment that succeeded and has no dispute can be disputed.")
    body = _new_body(call, intent)
    intent.notes["dispute"] = body["id"]
    call.store.put(intent)
    record = Record(call.account, body["id"], Kind.DISPUTE, call.created, intent.id, body)
    record.notes["job"] = intent.body["metadata"]
    _change(call, record, EffectKind.DISPUTE, None, Type.CHARGE_DISPUTE_CREATED)
    return body


def play(call: Call, name: str, step: str) -> Json:
    """Play a step of the bank: withdraw, reinstate, win or lose; open disputes an intent."""
    if step == "open":
        return open_dispute(call, call.find(Kind.PAYMENT_INTENT, name, noun="payment_intent", param="payment_intent"))
    if name.startswith("pi_"):
        intent = call.find(Kind.PAYMENT_INTENT, name, noun="payment_intent", param="payment_intent")
        name = str(intent.notes.get("dispute"))
    record = call.find(Kind.DISPUTE, name, noun="dispute", param="dispute")
    if step == "withdraw":
        _move(call, record, -int(record.body["amount"]))
    elif step == "reinstate":
        _move(call, record, int(record.body["amount"]))
    elif step in {"win", "lose"}:
        _close(call, record, "won" if step == "win" else "lost")
    else:
        raise ValueError("step is open, withdraw, reinstate, win or lose")
    return record.body


def _move(call: Call, record: Record, amount: int) -> None:
    moved: list[Json] = record.body["balance_transactions"]
    if len(moved) != (0 if amount < 0 else 1):
        raise ApiError(400, "A dispute's money is withdrawn once, and then reinstated at most once.")
    moved.append(_balance_transaction(call, record, amount))
    if amount < 0:
        _change(call, record, EffectKind.DISPUTE_WITHDRAWN, -amount, Type.CHARGE_DISPUTE_FUNDS_WITHDRAWN)
    else:
        _change(call, record, EffectKind.DISPUTE_REINSTATED, amount, Type.CHARGE_DISPUTE_FUNDS_REINSTATED)


def _close(call: Call, record: Record, status: str) -> None:
    if record.body["status"] in {"won", "lost"}:
        raise ApiError(400, "The dispute is closed already.")
    record.body["status"] = status
    call.store.put(record)
    emit(call, Type.CHARGE_DISPUTE_CLOSED, record.body)


def _change(call: Call, record: Record, effect: EffectKind, amount: int | None, kind: Type) -> None:
    call.store.put(record)
    # a dispute has metadata of its own, so the job is the intent's
    call.effect(effect, {**record.body, "metadata": record.notes["job"]}, amount)
    emit(call, kind, record.body)


def _new_body(call: Call, intent: Record) -> Json:
    return {
        "id": new_id("dp"),
        "object": "dispute",
        "amount": intent.body["amount_received"],
        "balance_transactions": [],
        "charge": intent.body["latest_charge"],
        "created": call.created,
        "currency": intent.body["currency"],
        "enhanced_eligibility_types": [],
        "evidence": {**dict.fromkeys(_EVIDENCE), "enhanced_evidence": {}},
        "evidence_details": {
            "due_by": call.created + _ANSWER_SECONDS,
            "enhanced_eligibility": {},
            "has_evidence": False,
            "past_due": False,
            "submission_count": 0,
            "submission_method": "not_submitted",
        },
        "is_charge_refundable": False,
        "livemode": False,
        "metadata": {},
        "payment_intent": intent.id,
        "payment_method_details": {
            "card": {"brand": "visa", "case_type": "chargeback", "network": "visa", "network_reason_code": "10.4"},
            "type": "card",
        },
        "reason": "fraudulent",
        "status": "needs_response",
    }


def _balance_transaction(call: Call, record: Record, amount: int) -> Json:
    return {
        "id": new_id("txn"),
        "object": "balance_transaction",
        "amount": amount,
        "available_on": call.created,
        "balance_type": "payments",
        "created": call.created,
        "currency": record.body["currency"],
        "description": None,
        "exchange_rate": None,
        "fee": 0,
        "fee_details": [],
        "net": amount,
        "reporting_category": "dispute" if amount < 0 else "dispute_reversal",
        "source": record.id,
        "status": "available",
        "type": "adjustment",
    }

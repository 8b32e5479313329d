"""Charges: shown from the intent that made them; only the one that took the money is kept."""

from __future__ import annotations

from standin import cards
from standin.errors import Json, missing
from standin.objects import Call, only_known
from standin.records import Record


def retrieve(call: Call, name: str) -> Json:
    """Give the charge that took an intent's money."""
    only_known(call)
    return body_of(intent_of(call, name, status=404, param="charge"))


def intent_of(call: Call, name: str, *, status: int, param: str) -> Record:
    """Give the intent of a successful charge: its id is the intent's with the number of the try behind it."""
    record = call.store.get(call.account, "pi_" + name.removeprefix("ch_")[:-1])
    if record is None or record.body["latest_charge"] != name or record.body["status"] != "succeeded":
        raise missing("charge", name, param=param, status=status)
    return record


def body_of(intent: Record) -> Json:
    """Give the charge as Stripe shows it; `amount_refunded` is the sum of all refunds."""
    body, notes = intent.body, intent.notes
    method = cards.payment_method_body(body["payment_method"], body["created"])
    refunded = int(notes.get("refunded", 0))
    return {
        "id": body["latest_charge"],
        "object": "charge",
        "amount": body["amount"],
        "amount_captured": body["amount_received"],
        "amount_refunded": refunded,
        "application": None,
        "application_fee": None,
        "application_fee_amount": None,
        "balance_transaction": None,
        "billing_details": method["billing_details"],
        "calculated_statement_descriptor": None,
        "captured": True,
        "created": notes.get("charged_at", body["created"]),
        "currency": body["currency"],
        "customer": body["customer"],
        "description": body["description"],
        "disputed": "dispute" in notes,
        "failure_balance_transaction": None,
        "failure_code": None,
        "failure_message": None,
        "fraud_details": {},
        "livemode": False,
        "metadata": body["metadata"],
        "on_behalf_of": None,
        "outcome": None,
        "paid": True,
        "payment_intent": intent.id,
        "payment_method": body["payment_method"],
        "payment_method_details": None,
        "receipt_email": body["receipt_email"],
        "receipt_number": None,
        "receipt_url": None,
        "refunded": refunded == body["amount_received"],
        "review": None,
        "shipping": None,
        "source_transfer": None,
        "statement_descriptor": body["statement_descriptor"],
        "statement_descriptor_suffix": body["statement_descriptor_suffix"],
        "status": "succeeded",
        "transfer_data": None,
        "transfer_group": None,
    }

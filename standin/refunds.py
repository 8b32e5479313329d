"""Refunds: never more than was taken; one card's refund fails after a while."""

from __future__ import annotations

from standin import cards
from standin import params as read
from standin.clock import Clock
from standin.errors import ApiError, Json
from standin.objects import Call, exclusive, list_objects, new_id, only_known
from standin.records import EffectKind, Kind, Record, Store

FAILS_AFTER_SECONDS = 60

_READERS: dict[str, read.Reader] = {
    "amount": read.integer,
    "charge": read.name_of_object,
    "metadata": read.metadata,
    "payment_intent": read.name_of_object,
    "reason": read.one_of("duplicate", "fraudulent", "requested_by_customer"),
    **dict.fromkeys(
        (
            "currency",
            "customer",
            "expand",
            "instructions_email",
            "origin",
            "refund_application_fee",
            "reverse_transfer",
        ),
        read.not_played,
    ),
}


def create(call: Call) -> Json:
    """Give money back, all that is left of the payment unless an amount is named."""
    asked = read.read(call.params, _READERS)
    exclusive(asked, "charge", "payment_intent")
    if asked.get("amount") == 0:
        raise ApiError(400, "Invalid positive integer", code="parameter_invalid_integer", param="amount")
    intent = _paid_intent(call, asked)
    amount = _refundable(intent, asked.get("amount"))
    body = _new_body(call, intent, amount, asked)
    record = Record(call.account, body["id"], Kind.REFUND, body["created"], intent.id, body)
    if intent.body["payment_method"] == cards.REFUND_FAIL:
        record.notes["fails_at"] = call.clock.now() + FAILS_AFTER_SECONDS
    intent.notes["refunded"] = intent.notes.get("refunded", 0) + amount
    call.store.put(intent)
    call.store.put(record)
    call.effect(EffectKind.REFUND, body, amount)
    return body


def retrieve(call: Call, name: str) -> Json:
    """Give one refund as it stands now."""
    only_known(call)
    record = call.find(Kind.REFUND, name, noun="refund", param="refund")
    _settle(call.store, call.clock, record)
    return record.body


def list_all(call: Call) -> Json:
    """Give refunds, newest first."""
    settle_all(call.store, call.clock)
    return list_objects(call, Kind.REFUND, "/v1/refunds", ("payment_intent",))


def settle_all(store: Store, clock: Clock) -> None:
    """Fail every refund whose time to fail has come."""
    for record in store.every(Kind.REFUND):
        _settle(store, clock, record)


def _paid_intent(call: Call, asked: Json) -> Record:
    if "payment_intent" in asked:
        name, noun, param = asked["payment_intent"], "payment_intent", "payment_intent"
        intent = call.find(Kind.PAYMENT_INTENT, name, noun=noun, param=param)
    elif "charge" in asked:
        # a charge's id is its intent's with the number of the try behind it
        name = "pi_" + asked["charge"].removeprefix("ch_")[:-1]
        intent = call.find(Kind.PAYMENT_INTENT, name, noun="charge", param="charge")
    else:
        raise ApiError(
            400,
            "One of the following params should be provided for this request: payment_intent or charge.",
            code="parameter_missing",
            param="payment_intent",
        )
    if intent.body["status"] != "succeeded":
        message = f"This PaymentIntent ({intent.id}) does not have a successful charge to refund."
        raise ApiError(400, message, param="payment_intent", saved=True)
    return intent


def _refundable(intent: Record, wish: int | None) -> int:
    left = int(intent.body["amount_received"]) - int(intent.notes.get("refunded", 0))
    charge = intent.body["latest_charge"]
    if left == 0:
        message = f"Charge {charge} has already been refunded."
        raise ApiError(400, message, code="charge_already_refunded", saved=True)
    if wish is not None and wish > left:
        message = f"Refund amount ({wish}) is greater than unrefunded amount on charge ({left})"
        raise ApiError(400, message, param="amount", saved=True)
    return left if wish is None else wish


def _new_body(call: Call, intent: Record, amount: int, asked: Json) -> Json:
    return {
        "id": new_id("re"),
        "object": "refund",
        "amount": amount,
        "balance_transaction": None,
        "charge": intent.body["latest_charge"],
        "created": call.created,
        "currency": intent.body["currency"],
        "metadata": asked.get("metadata", {}),
        "payment_intent": intent.id,
        "reason": asked.get("reason"),
        "receipt_number": None,
        "source_transfer_reversal": None,
        "status": "succeeded",
        "transfer_reversal": None,
    }


def _settle(store: Store, clock: Clock, refund: Record) -> None:
    fails_at = refund.notes.get("fails_at")
    if fails_at is None or clock.now() < fails_at:
        return
    del refund.notes["fails_at"]
    refund.body.update(status="failed", failure_reason="expired_or_canceled_card")
    store.put(refund)
    intent = store.get(refund.account, refund.body["payment_intent"])
    if intent is not None:
        intent.notes["refunded"] -= refund.body["amount"]
        store.put(intent)
    Call(store, clock, refund.account, None, {}).effect(EffectKind.REFUND_FAILED, refund.body, refund.body["amount"])

"""Refunds: never more than was taken; one card's refund fails after a while, another's is pending for a while."""

from __future__ import annotations

from dataclasses import replace

from standin import cards, charges
from standin import params as read
from standin.errors import ApiError, Json
from standin.events import Type, emit
from standin.objects import Call, exclusive, list_objects, only_known
from standin.records import EffectKind, Kind, Record, new_id

SETTLES_AFTER_SECONDS = 60
# what becomes of a refund after that time, by the card it goes back to
_LATER = {cards.PENDING_REFUND: "succeeded", cards.REFUND_FAIL: "failed"}

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
    if intent.body["payment_method"] in _LATER:
        becomes = _LATER[intent.body["payment_method"]]
        record.notes.update(becomes=becomes, settles_at=call.clock.now() + SETTLES_AFTER_SECONDS)
    intent.notes["refunded"] = intent.notes.get("refunded", 0) + amount
    call.store.put(intent)
    call.store.put(record)
    if body["status"] == "succeeded":
        call.effect(EffectKind.REFUND, body, amount)
    emit(call, Type.REFUND_CREATED, body)
    emit(call, Type.CHARGE_REFUNDED, charges.body_of(intent))
    return body


def retrieve(call: Call, name: str) -> Json:
    """Give one refund as it stands now."""
    only_known(call)
    record = call.find(Kind.REFUND, name, noun="refund", param="refund")
    _settle(call, record)
    return record.body


def list_all(call: Call) -> Json:
    """Give refunds, newest first."""
    settle_all(call)
    return list_objects(call, Kind.REFUND, "/v1/refunds", ("payment_intent",))


def settle_all(call: Call) -> None:
    """Let every refund fail or succeed whose time to do so has come, whoever's it is."""
    for record in call.store.every(Kind.REFUND):
        _settle(call, record)


def _paid_intent(call: Call, asked: Json) -> Record:
    if "payment_intent" in asked:
        name, noun, param = asked["payment_intent"], "payment_intent", "payment_intent"
        intent = call.find(Kind.PAYMENT_INTENT, name, noun=noun, param=param)
    elif "charge" in asked:
        intent = charges.intent_of(call, asked["charge"], status=404, param="charge")
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
        "status": "pending" if intent.body["payment_method"] == cards.PENDING_REFUND else "succeeded",
        "transfer_reversal": None,
    }


def _settle(call: Call, refund: Record) -> None:
    if call.clock.now() < refund.notes.get("settles_at", float("inf")):
        return
    by_time = replace(call, account=refund.account, key=None, request_id=None)
    del refund.notes["settles_at"]
    if refund.notes.pop("becomes") == "failed":
        _fail(by_time, refund)
    else:
        refund.body["status"] = "succeeded"
        call.store.put(refund)
        by_time.effect(EffectKind.REFUND, refund.body, refund.body["amount"])
        emit(by_time, Type.REFUND_UPDATED, refund.body)


def _fail(call: Call, refund: Record) -> None:
    refund.body.update(status="failed", failure_reason="expired_or_canceled_card")
    call.store.put(refund)
    intent = call.store.get(refund.account, refund.body["payment_intent"])
    if intent is not None:
        intent.notes["refunded"] -= refund.body["amount"]
        call.store.put(intent)
    call.effect(EffectKind.REFUND_FAILED, refund.body, refund.body["amount"])
    emit(call, Type.REFUND_UPDATED, refund.body)
    emit(call, Type.REFUND_FAILED, refund.body)

"""PaymentIntents: created, confirmed, paid, canceled; money moves at most once per intent."""

from __future__ import annotations

from enum import StrEnum

from standin import cards, charges, disputes
from standin import params as read
from standin.errors import ApiError, ErrorType, Json, missing
from standin.events import Type, emit
from standin.objects import Call, exclusive, list_objects, only_known
from standin.records import EffectKind, Kind, Record, new_id


class Status(StrEnum):
    """Where a PaymentIntent stands; `requires_capture` is not played."""

    CANCELED = "canceled"
    PROCESSING = "processing"
    REQUIRES_ACTION = "requires_action"
    REQUIRES_CONFIRMATION = "requires_confirmation"
    REQUIRES_PAYMENT_METHOD = "requires_payment_method"
    SUCCEEDED = "succeeded"


_OPEN = {Status.REQUIRES_ACTION, Status.REQUIRES_CONFIRMATION, Status.REQUIRES_PAYMENT_METHOD}

_CONFIRM_READERS: dict[str, read.Reader] = {
    "error_on_requires_action": read.boolean,
    "off_session": read.boolean,
    "payment_method": read.name_of_object,
    "payment_method_types": read.no_longer,
    "receipt_email": read.email,
    "return_url": read.name_of_object,
    "setup_future_usage": read.one_of("off_session", "on_session"),
    "use_stripe_sdk": read.boolean,
    **dict.fromkeys(
        (
            "allowed_payment_method_types",
            "amount_details",
            "amount_to_confirm",
            "capture_method",
            "confirmation_token",
            "excluded_payment_method_types",
            "expand",
            "hooks",
            "mandate",
            "mandate_data",
            "payment_details",
            "payment_method_data",
            "payment_method_options",
            "radar_options",
            "shipping",
        ),
        read.not_played,
    ),
}

_CREATE_READERS: dict[str, read.Reader] = {
    **{name: reader for name, reader in _CONFIRM_READERS.items() if name != "amount_to_confirm"},
    "allowed_payment_method_types": read.words,
    "amount": read.amount,
    "automatic_payment_methods": read.automatic_payment_methods,
    "capture_method": read.one_of("automatic", "automatic_async"),
    "confirm": read.boolean,
    "confirmation_method": read.one_of("automatic"),
    "currency": read.currency,
    "customer": read.name_of_object,
    "description": read.text(read.DESCRIPTION_MAX),
    "metadata": read.metadata,
    "statement_descriptor": read.text(22),
    "statement_descriptor_suffix": read.text(22),
    **dict.fromkeys(
        (
            "application_fee_amount",
            "customer_account",
            "on_behalf_of",
            "payment_method_configuration",
            "transfer_data",
            "transfer_group",
        ),
        read.not_played,
    ),
}

_CANCEL_READERS: dict[str, read.Reader] = {
    "cancellation_reason": read.one_of("abandoned", "duplicate", "fraudulent", "requested_by_customer"),
    "expand": read.not_played,
}


def create(call: Call) -> Json:
    """Make an intent, and confirm it at once when asked to."""
    asked = read.read(call.params, _CREATE_READERS, ("amount", "currency"))
    exclusive(asked, "automatic_payment_methods", "allowed_payment_method_types")
    automatic = _automatic(asked)
    if asked.get("confirm"):
        _check_confirmation(asked, automatic)
    elif "off_session" in asked or "return_url" in asked or "error_on_requires_action" in asked:
        raise ApiError(400, "off_session, return_url and error_on_requires_action need confirm=true.")
    _check_payment_method(asked)
    if "customer" in asked:
        call.find(Kind.CUSTOMER, asked["customer"], noun="customer", param="customer", status=400)
    if asked.get("confirm") and "payment_method" not in asked:
        raise _without_payment_method()
    body = _new_body(call, asked, automatic)
    record = Record(call.account, body["id"], Kind.PAYMENT_INTENT, body["created"], body["customer"], body)
    call.effect(EffectKind.PAYMENT_INTENT, {**body, "payment_intent": body["id"]}, body["amount"])
    emit(call, Type.PAYMENT_INTENT_CREATED, body)
    if asked.get("confirm"):
        return _pay_with(call, record, asked)
    call.store.put(record)
    return body


def confirm(call: Call, name: str) -> Json:
    """Try to take the money, once; an intent that has taken it refuses."""
    asked = read.read(call.params, _CONFIRM_READERS)
    record = call.find(Kind.PAYMENT_INTENT, name, noun="payment_intent", param="intent")
    _check_confirmation(asked, record.body["automatic_payment_methods"])
    _check_payment_method(asked)
    if record.body["status"] not in _OPEN:
        raise _unexpected_state(record.body, "confirm")
    if "payment_method" not in asked and record.body["payment_method"] is None:
        raise _without_payment_method(record.body)
    for field in ("payment_method", "receipt_email", "setup_future_usage"):
        if field in asked:
            record.body[field] = asked[field]
    return _pay_with(call, record, asked)


def cancel(call: Call, name: str) -> Json:
    """End an intent that has not taken money."""
    asked = read.read(call.params, _CANCEL_READERS)
    record = call.find(Kind.PAYMENT_INTENT, name, noun="payment_intent", param="intent")
    if record.body["status"] not in _OPEN:
        raise _unexpected_state(record.body, "cancel")
    record.body.update(
        status=Status.CANCELED.value,
        canceled_at=call.created,
        cancellation_reason=asked.get("cancellation_reason"),
        next_action=None,
    )
    call.store.put(record)
    emit(call, Type.PAYMENT_INTENT_CANCELED, record.body)
    return record.body


def retrieve(call: Call, name: str) -> Json:
    """Give one intent."""
    only_known(call)
    return call.find(Kind.PAYMENT_INTENT, name, noun="payment_intent", param="intent").body


def list_all(call: Call) -> Json:
    """Give intents, newest first."""
    return list_objects(call, Kind.PAYMENT_INTENT, "/v1/payment_intents", ("customer",))


def pay(call: Call, name: str) -> Json:
    """Play the customer, who finishes the payment in a browser, or the bank that ends its processing."""
    record = call.find(Kind.PAYMENT_INTENT, name, noun="payment_intent", param="payment_intent")
    if record.body["status"] not in _OPEN | {Status.PROCESSING}:
        raise _unexpected_state(record.body, "pay")
    if record.body["payment_method"] is None:
        record.body["payment_method"] = "pm_card_visa"
    if record.body["status"] != Status.PROCESSING:
        _next_charge(record)
    return _succeed(call, record)


def _automatic(asked: Json) -> Json | None:
    if "allowed_payment_method_types" in asked:
        return None
    given: Json = asked.get("automatic_payment_methods", {"allow_redirects": "always", "enabled": True})
    return given


def _check_confirmation(asked: Json, automatic: Json | None) -> None:
    if automatic is None or not automatic["enabled"]:
        return
    if asked.get("error_on_requires_action"):
        message = "error_on_requires_action cannot be used with automatic_payment_methods."
        raise ApiError(400, message, param="error_on_requires_action")
    if automatic["allow_redirects"] == "never" or asked.get("off_session") or asked.get("return_url"):
        return
    raise ApiError(
        400,
        "This PaymentIntent is configured to accept payment methods that may redirect your customer. Provide a "
        "`return_url`, or set `automatic_payment_methods[allow_redirects]` to `never`.",
        param="return_url",
    )


def _check_payment_method(asked: Json) -> None:
    name = asked.get("payment_method")
    if name is not None and not cards.exists(name):
        raise missing("PaymentMethod", name, param="payment_method")


def _without_payment_method(body: Json | None = None) -> ApiError:
    message = "You cannot confirm this PaymentIntent because it's missing a payment method."
    more = {} if body is None else {"payment_intent": body}
    return ApiError(400, message, code="payment_intent_unexpected_state", saved=True, more=more)


def _unexpected_state(body: Json, verb: str) -> ApiError:
    return ApiError(
        400,
        f"You cannot {verb} this PaymentIntent because it has a status of {body['status']}.",
        code="payment_intent_unexpected_state",
        saved=True,
        more={"payment_intent": body},
    )


def _new_body(call: Call, asked: Json, automatic: Json | None) -> Json:
    name = call.store.new_id("pi")
    status = Status.REQUIRES_CONFIRMATION if "payment_method" in asked else Status.REQUIRES_PAYMENT_METHOD
    return {
        "id": name,
        "object": "payment_intent",
        "allowed_payment_method_types": asked.get("allowed_payment_method_types"),
        "amount": asked["amount"],
        "amount_capturable": 0,
        "amount_details": {"tip": {}},
        "amount_received": 0,
        "application": None,
        "application_fee_amount": None,
        "automatic_payment_methods": automatic,
        "canceled_at": None,
        "cancellation_reason": None,
        "capture_method": asked.get("capture_method", "automatic_async"),
        "client_secret": f"{name}_secret_{new_id('s')[2:]}",
        "confirmation_method": "automatic",
        "created": call.created,
        "currency": asked["currency"],
        "customer": asked.get("customer"),
        "description": asked.get("description"),
        "last_payment_error": None,
        "latest_charge": None,
        "livemode": False,
        "metadata": asked.get("metadata", {}),
        "next_action": None,
        "on_behalf_of": None,
        "payment_method": asked.get("payment_method"),
        "payment_method_options": {},
        "payment_method_types": asked.get("allowed_payment_method_types", ["card"]),
        "processing": None,
        "receipt_email": asked.get("receipt_email"),
        "review": None,
        "setup_future_usage": asked.get("setup_future_usage"),
        "shipping": None,
        "statement_descriptor": asked.get("statement_descriptor"),
        "statement_descriptor_suffix": asked.get("statement_descriptor_suffix"),
        "status": status.value,
        "transfer_data": None,
        "transfer_group": None,
    }


def _pay_with(call: Call, record: Record, asked: Json) -> Json:
    payment_method = record.body["payment_method"]
    decline = cards.decline_of(payment_method)
    if payment_method == cards.AUTHENTICATION_REQUIRED:
        if not (asked.get("off_session") or asked.get("error_on_requires_action")):
            return _ask_customer(call, record, asked)
        decline = cards.NEEDS_AUTHENTICATION
    _next_charge(record)
    if decline is not None:
        raise _declined(call, record, decline)
    if payment_method.startswith(cards.PROCESSING_PREFIX):
        record.body.update(status=Status.PROCESSING.value, next_action=None, last_payment_error=None)
        call.store.put(record)
        emit(call, Type.PAYMENT_INTENT_PROCESSING, record.body)
        return record.body
    return _succeed(call, record)


def _next_charge(record: Record) -> None:
    number = (int(record.notes.get("charges", 0)) + 1) % 36
    record.notes["charges"] = number
    record.body["latest_charge"] = f"ch_{record.id[3:]}{'0123456789abcdefghijklmnopqrstuvwxyz'[number]}"


def _succeed(call: Call, record: Record) -> Json:
    body = record.body
    body.update(
        status=Status.SUCCEEDED.value, amount_received=body["amount"], next_action=None, last_payment_error=None
    )
    record.notes["charged_at"] = call.created
    call.store.put(record)
    charge = charges.body_of(record)
    call.effect(EffectKind.CHARGE, charge, body["amount"])
    emit(call, Type.CHARGE_SUCCEEDED, charge)
    emit(call, Type.PAYMENT_INTENT_SUCCEEDED, body)
    if body["payment_method"] == cards.CREATE_DISPUTE:
        disputes.open_dispute(call, record)
    return body


def _ask_customer(call: Call, record: Record, asked: Json) -> Json:
    action: Json = {"type": "use_stripe_sdk", "use_stripe_sdk": {"type": "three_d_secure_redirect"}}
    if asked.get("return_url"):
        url = f"https://hooks.stripe.example/authenticate/{record.id}"
        action = {
            "type": "redirect_to_url",
            "redirect_to_url": {"return_url": asked["return_url"], "url": url},
        }
    record.body.update(status=Status.REQUIRES_ACTION.value, next_action=action, last_payment_error=None)
    call.store.put(record)
    emit(call, Type.PAYMENT_INTENT_REQUIRES_ACTION, record.body)
    return record.body


def _declined(call: Call, record: Record, decline: cards.Decline) -> ApiError:
    body = record.body
    problem: Json = {
        "advice_code": decline.advice_code,
        "charge": body["latest_charge"],
        "code": decline.code,
        "decline_code": decline.decline_code,
        "doc_url": f"https://stripe.com/docs/error-codes/{decline.code.replace('_', '-')}",
        "message": decline.message,
        "payment_method": cards.payment_method_body(body["payment_method"], body["created"]),
        "type": ErrorType.CARD.value,
    }
    body.update(
        status=Status.REQUIRES_PAYMENT_METHOD.value,
        payment_method=None,
        next_action=None,
        last_payment_error=problem,
    )
    call.store.put(record)
    emit(call, Type.PAYMENT_INTENT_PAYMENT_FAILED, body)
    return ApiError(402, decline.message, kind=ErrorType.CARD, saved=True, more={**problem, "payment_intent": body})

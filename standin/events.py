"""Events: every change of an object makes one, kept with the change and listed for thirty days."""

from __future__ import annotations

import fnmatch
from enum import StrEnum

from standin import params as read
from standin.errors import ApiError, Json, missing
from standin.objects import LIST_READERS, Call, exclusive, give_page, only_known
from standin.records import Kind, Page, Record, new_id

API_VERSION = "2026-10-28.endive"
KEPT_SECONDS = 30 * 24 * 3600
_TYPES_MAX = 20


class Type(StrEnum):
    """The types that are played."""

    CHARGE_DISPUTE_CLOSED = "charge.dispute.closed"
    CHARGE_DISPUTE_CREATED = "charge.dispute.created"
    CHARGE_DISPUTE_FUNDS_REINSTATED = "charge.dispute.funds_reinstated"
    CHARGE_DISPUTE_FUNDS_WITHDRAWN = "charge.dispute.funds_withdrawn"
    CHARGE_REFUNDED = "charge.refunded"
    CHARGE_SUCCEEDED = "charge.succeeded"
    CUSTOMER_CREATED = "customer.created"
    PAYMENT_INTENT_CANCELED = "payment_intent.canceled"
    PAYMENT_INTENT_CREATED = "payment_intent.created"
    PAYMENT_INTENT_PAYMENT_FAILED = "payment_intent.payment_failed"
    PAYMENT_INTENT_PROCESSING = "payment_intent.processing"
    PAYMENT_INTENT_REQUIRES_ACTION = "payment_intent.requires_action"
    PAYMENT_INTENT_SUCCEEDED = "payment_intent.succeeded"
    REFUND_CREATED = "refund.created"
    REFUND_FAILED = "refund.failed"
    REFUND_UPDATED = "refund.updated"


def _types(value: object, name: str) -> list[str]:
    found = read.words(value, name)
    if len(found) > _TYPES_MAX:
        raise ApiError(400, f"Invalid array: at most {_TYPES_MAX} types.", param=name)
    return found


_READERS: dict[str, read.Reader] = {
    **LIST_READERS,
    "delivery_success": read.not_played,
    "type": read.name_of_object,
    "types": _types,
}


def emit(call: Call, kind: Type, shown: Json) -> None:
    """Make the event of a change, in the change's transaction; `shown` is the object as it now is."""
    if not call.store.keeps_events:
        return
    body = {
        "id": new_id("evt"),
        "object": "event",
        "api_version": API_VERSION,
        "created": call.created,
        "data": {"object": shown},
        "livemode": False,
        "pending_webhooks": 0,
        "request": {"id": call.request_id, "idempotency_key": call.key},
        "type": kind.value,
    }
    _keep(call, body)


def twin(call: Call, name: str) -> Json:
    """Make a second event of the same change, as Stripe now and then does."""
    return _keep(call, {**_find(call, name).body, "id": new_id("evt"), "pending_webhooks": 0})


def resend(call: Call, name: str) -> Json:
    """Deliver an event once more, however old, freshly signed."""
    record = _find(call, name)
    call.outbox.take(record)
    call.store.put(record)
    return record.body


def retrieve(call: Call, name: str) -> Json:
    """Give one event of the last thirty days."""
    only_known(call)
    record = _find(call, name)
    if record.created < _oldest(call):
        raise missing("event", name, param="id", status=404)
    return record.body


def list_all(call: Call) -> Json:
    """Give events of the last thirty days, newest first, of one type (`*` for any part), of some, or of all."""
    if not call.store.keeps_events:
        raise ApiError(400, "The stand-in keeps no events with --memory.")
    asked = read.read(call.params, _READERS)
    exclusive(asked, "type", "types")
    after = asked.get("starting_after")
    if after is not None:
        call.find(Kind.EVENT, after, noun="event", param="starting_after", status=400)
    wished = tuple(asked.get("types", ()))
    if "type" in asked:
        # a name that is not played stays in the filter, where it finds nothing
        wished = (asked["type"], *(t.value for t in Type if fnmatch.fnmatchcase(t.value, asked["type"])))
    low, high = asked.get("created", (0, read.INTEGER_MAX))
    page = Page(Kind.EVENT, asked.get("limit", 10), wished, max(low, _oldest(call)), high, after)
    return give_page(call, "/v1/events", page)


def _keep(call: Call, body: Json) -> Json:
    record = Record(call.account, body["id"], Kind.EVENT, body["created"], body["type"], body)
    call.outbox.take(record)
    call.store.put(record)
    return body


def _find(call: Call, name: str) -> Record:
    return call.find(Kind.EVENT, name, noun="event", param="id")


def _oldest(call: Call) -> int:
    return int(call.clock.now()) - KEPT_SECONDS

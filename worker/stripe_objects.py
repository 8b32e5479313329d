"""Reads the bodies of Stripe's objects, strictly: what lacks a part that it must have is malformed, never guessed."""

import re
from collections.abc import Mapping
from typing import Any

from shared.jobs import Kind
from shared.results import Customer, Payment
from shared.stripe_params import DESK_METADATA_KEY, JOB_METADATA_KEY, KIND_METADATA_KEY
from worker.processor import Declined, Listed, ListPage, Noun, Settled

MOST_CENTS = 10**12
"""More than Stripe charges in any currency, and far below where whole numbers stop being exact."""
SURROGATE = re.compile("[\ud800-\udfff]")
"""JSON may carry half a character, which cannot be stored."""
_OBJECT_ID = re.compile(r"[A-Za-z0-9_]{1,255}", re.ASCII)
"""An id becomes part of a key's name, so it may be nothing else."""
_JOB_ID = re.compile(r"job_[a-z0-9_]{1,64}", re.ASCII)
_CODE = re.compile(r"[a-z0-9_]{1,64}", re.ASCII)
_PREFIXES = {Noun.PAYMENT_INTENT: "pi_", Noun.CUSTOMER: "cus_"}
_WAITS_FOR_ANOTHER = "requires_payment_method"


class Malformed(Exception):
    """A successful answer lacks what it must have; its text names the part, never the value."""


def settled_payment(body: Mapping[str, Any]) -> Settled:
    """A payment intent that was asked for. Raises Malformed."""
    return Settled(read_payment(body), part(body, "client_secret", str, optional=True))


def settled_customer(body: Mapping[str, Any]) -> Settled:
    """A customer that was asked for. Raises Malformed."""
    return Settled(read_customer(body))


def read_payment(body: Mapping[str, Any]) -> Payment:
    """A payment intent. Raises Malformed."""
    amount, received = part(body, "amount", int), part(body, "amount_received", int)
    if not 0 <= received <= amount <= MOST_CENTS:
        raise Malformed("no possible amount")
    return Payment(id=_id(body, Noun.PAYMENT_INTENT), status=part(body, "status", str),
                   amount_cents=amount, received_cents=received,
                   currency=part(body, "currency", str), livemode=part(body, "livemode", bool),
                   job_id=_job_id(body))


def read_customer(body: Mapping[str, Any]) -> Customer:
    """A customer. Raises Malformed."""
    return Customer(id=_id(body, Noun.CUSTOMER), email=part(body, "email", str, optional=True),
                    name=part(body, "name", str, optional=True), livemode=part(body, "livemode", bool),
                    job_id=_job_id(body))


def read_page(body: Mapping[str, Any], noun: Noun) -> ListPage:
    """A page of a list. One bad object in it is told, and does not hide the others. Raises Malformed.

    Entries without an id at the end of a page cannot be gone on from; the next page begins with them again.
    """
    if body.get("object") != "list" or not isinstance(body.get("data"), list):
        raise Malformed("no list")
    has_more: bool = part(body, "has_more", bool)
    data = body["data"]
    if has_more:
        while data and _place(data[-1], noun) is None:
            data = data[:-1]
        if not data:
            raise Malformed("no object to go on from")
    objects = [read_listed(entry, noun) for entry in data if _place(entry, noun) is not None]
    return ListPage(objects, objects[-1].id if has_more else None, unreadable=len(data) - len(objects))


def read_listed(entry: object, noun: Noun) -> Listed:
    """An object of a list: what any desk made is read strictly, anybody else's only told apart. Raises Malformed."""
    place = _place(entry, noun)
    if place is None:
        raise Malformed(f"no {noun}")
    body = mapping(entry)
    object_id, created_ms = place
    try:
        marks = mapping(body.get("metadata") or {})
        job_id = part(marks, JOB_METADATA_KEY, str, optional=True)
        if job_id is None:
            return Listed(id=object_id, created_ms=created_ms)
    except Malformed as malformed:
        return Listed(id=object_id, created_ms=created_ms, malformed=str(malformed))
    known = job_id if _JOB_ID.fullmatch(job_id) else None
    try:
        return _marked(body, noun, marks, created_ms)
    except Malformed as malformed:
        desk = marks.get(DESK_METADATA_KEY)
        return Listed(id=object_id, created_ms=created_ms, job_id=known, desk=desk if isinstance(desk, str) else None,
                      malformed=str(malformed))


def _place(entry: object, noun: Noun) -> tuple[str, int] | None:
    """The id of an object and when it was created, as far as it tells them."""
    try:
        body = mapping(entry)
        return _id(body, noun), 1000 * int(part(body, "created", int))
    except Malformed:
        return None


def _marked(body: Mapping[str, Any], noun: Noun, marks: Mapping[str, Any], created_ms: int) -> Listed:
    job_id, kind = part(marks, JOB_METADATA_KEY, str), part(marks, KIND_METADATA_KEY, str, optional=True)
    if not _JOB_ID.fullmatch(job_id):
        raise Malformed("no usable job id")
    if kind is not None and (kind not in set(Kind) or Noun.of(Kind(kind)) is not noun):
        raise Malformed("another kind than its own")
    made = read_payment(body) if noun is Noun.PAYMENT_INTENT else read_customer(body)
    return Listed(id=made.id, created_ms=created_ms, job_id=job_id,
                  desk=part(marks, DESK_METADATA_KEY, str, optional=True), kind=None if kind is None else Kind(kind),
                  made=made, client_secret=part(body, "client_secret", str, optional=True),
                  declined=_declined(body, made))


def _declined(body: Mapping[str, Any], made: Payment | Customer) -> Declined | None:
    """What a bank's no leaves behind: the intent without money, and the last error beside it."""
    if not isinstance(made, Payment) or made.status != _WAITS_FOR_ANOTHER or made.received_cents:
        return None
    said = body.get("last_payment_error")
    error = said if isinstance(said, dict) else {}
    return Declined(_code(error, "code") or "card_declined", "The payment was declined.", _code(error, "decline_code"),
                    payment=made)


def _code(error: Mapping[str, Any], name: str) -> str | None:
    found = error.get(name)
    return found if isinstance(found, str) and _CODE.fullmatch(found) else None


def _id(body: Mapping[str, Any], noun: Noun) -> str:
    found: str = part(body, "id", str)
    if body.get("object") != noun or not found.startswith(_PREFIXES[noun]) or not _OBJECT_ID.fullmatch(found):
        raise Malformed(f"no {noun}")
    return found


def _job_id(body: Mapping[str, Any]) -> str | None:
    found: str | None = part(mapping(body.get("metadata") or {}), JOB_METADATA_KEY, str, optional=True)
    return found


def part(body: Mapping[str, Any], name: str, kind: type, *, optional: bool = False) -> Any:
    """A part of exactly this type (a bool is no int). Raises Malformed."""
    found = body.get(name)
    storable = not isinstance(found, str) or SURROGATE.search(found) is None
    if storable and (type(found) is kind or (optional and found is None)):
        return found
    raise Malformed(f"no usable {name}")


def mapping(found: object) -> Mapping[str, Any]:
    """An object of JSON. Raises Malformed."""
    if not isinstance(found, dict):
        raise Malformed("no object")
    return found

"""The shapes of the answers for /openapi.json; requests describe themselves in shared/requests.py."""

from collections.abc import Mapping
from typing import Any

from shared.jobs import FINAL, UNFINISHED, Book, Certainty, FallbackReason, Kind, Mode, Status

Schema = Mapping[str, Any]


def reference(name: str) -> Schema:
    """A pointer to a schema of this document."""
    return {"$ref": f"#/components/schemas/{name}"}


def _object(properties: Mapping[str, Schema], *, optional: tuple[str, ...] = (), description: str = "") -> Schema:
    required = [name for name in properties if name not in optional]
    shown = {"type": "object", "properties": dict(properties), "required": required}
    return shown | ({"description": description} if description else {})


def _nullable(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


_TEXT: Schema = {"type": "string"}
_FLAG: Schema = {"type": "boolean"}
_TRUE: Schema = {"type": "boolean", "const": True}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_USD: Schema = {"type": "number", "description": "US dollars"}
_TIME: Schema = {"type": "string", "format": "date-time"}
_OPTIONAL_TEXT = _nullable(_TEXT)
_OPTIONAL_TIME = _nullable(_TIME)
_MOCK: Mapping[str, Schema] = {
    "mock_mode": {**_TRUE, "description": "There, and true, when the mock answered."},
    "fallback_reason": {"type": "string", "enum": list(FallbackReason)}}
_BOOK: Schema = {"type": "string", "enum": list(Book)}

PAYMENT_RESULT = _object({
    "success": _TRUE, "payment_intent_id": _TEXT,
    "client_secret": {**_OPTIONAL_TEXT, "description": "For the customer's browser; kept 30 days, then null."},
    "amount": _USD, "amount_received": _USD, "currency": _TEXT,
    "status": {**_TEXT, "description": "Stripe's own word."}, **_MOCK},
    optional=("client_secret", "amount_received", *_MOCK))
PAYMENT_STATUS = _object({
    "success": _TRUE, "payment_intent_id": _TEXT, "status": {**_TEXT, "description": "Stripe's own word."},
    "amount": _USD, "amount_received": _USD, "currency": _TEXT, "as_of": _TIME,
    "stale": {"const": True, "description": "Stripe could not be asked: this is how it was last seen."},
    "mock_mode": _TRUE}, optional=("stale", "mock_mode"))
CUSTOMER_RESULT = _object(
    {"success": _TRUE, "customer_id": _TEXT, "email": _OPTIONAL_TEXT, "name": _OPTIONAL_TEXT, **_MOCK},
    optional=tuple(_MOCK))

JOB_ERROR = _object({"code": _TEXT, "message": _TEXT, "decline_code": _TEXT, "stripe_request_id": _TEXT,
                     "retryable": _FLAG}, optional=("decline_code", "stripe_request_id"))

JOB = _object({
    "object": {"const": "job"}, "id": _TEXT, "kind": {"type": "string", "enum": list(Kind)},
    "status": {"type": "string", "enum": list(Status)},
    "final": {**_FLAG, "description": f"True for {', '.join(sorted(FINAL))}: nothing changes it any more."},
    "certainty": {"type": "string", "enum": list(Certainty)}, "mock_mode": _FLAG, "book": _nullable(_BOOK),
    "attempts": _COUNT, "amount": _nullable(_USD), "currency": _OPTIONAL_TEXT, "reference": _OPTIONAL_TEXT,
    "batch_id": _OPTIONAL_TEXT,
    "result": {"anyOf": [reference("PaymentResult"), reference("CustomerResult"), {"type": "null"}]},
    "error": _nullable(reference("JobError")), "next_attempt_at": _OPTIONAL_TIME, "retry_of": _OPTIONAL_TEXT,
    "settles": _OPTIONAL_TEXT, "settlement": _OPTIONAL_TEXT, "contradicted_by": _OPTIONAL_TEXT, "created_at": _TIME,
    "updated_at": _TIME, "finished_at": _OPTIONAL_TIME, "links": _object({"self": _TEXT})})

JOB_LIST = _object({"object": {"const": "list"}, "data": {"type": "array", "items": reference("Job")},
                    "has_more": _FLAG})

_BOOK_SUMS = _object({"processed_cents": {"type": "integer"}, "refunded_cents": {"type": "integer"},
                      "succeeded": {"type": "integer"}, "failed": _COUNT})
STATS = _object({
    "total_processed_usd": {**_USD, "description": "real_processed_usd and mock_processed_usd together, gross."},
    "successful_payments": {"type": "integer"}, "failed_payments": _COUNT,
    "success_rate": {"type": "number", "description": "Percent, one decimal."}, "stripe_account": _OPTIONAL_TEXT,
    "mock_mode": {**_FLAG, "description": "Whether an answer given now would be the mock's."},
    "real_processed_usd": _USD, "mock_processed_usd": _USD, "refunded_usd": _USD, "net_usd": _USD,
    "books": {"type": "object", "propertyNames": _BOOK, "additionalProperties": _BOOK_SUMS},
    "jobs": _object(dict.fromkeys(UNFINISHED, _COUNT)), "as_of": _TIME})

FIELD_FAULT = _object({"pointer": {**_TEXT, "description": "A JSON pointer, RFC 6901."}, "code": _TEXT,
                       "message": _TEXT})
PROBLEM = _object({
    "type": _TEXT, "title": _TEXT, "status": {"type": "integer"}, "detail": _TEXT, "instance": _TEXT,
    "success": {"type": "boolean", "const": False}, "code": _TEXT, "request_id": _TEXT,
    "errors": {"type": "array", "items": reference("FieldFault")}, "job_id": _TEXT, "decline_code": _OPTIONAL_TEXT,
    "payment_intent_id": _OPTIONAL_TEXT, "checks": reference("Checks")},
    optional=("job_id", "decline_code", "payment_intent_id", "checks"),
    description="An error (RFC 9457). It never repeats what was sent.")

CHECKS = _object({"store": _TEXT, "durability": _TEXT, "eviction": _TEXT, "broker": _TEXT,
                  "workers": _COUNT, "stripe": _TEXT, "mode": {"type": "string", "enum": list(Mode)}})
ALIVE = _object({"status": {"const": "alive"}})
READY = _object({"status": {"const": "ready"}, "checks": reference("Checks")}, optional=("checks",))

SCHEMAS: Mapping[str, Schema] = {
    "PaymentResult": PAYMENT_RESULT, "PaymentStatus": PAYMENT_STATUS, "CustomerResult": CUSTOMER_RESULT,
    "JobError": JOB_ERROR, "Job": JOB, "JobList": JOB_LIST, "Stats": STATS, "FieldFault": FIELD_FAULT,
    "Problem": PROBLEM, "Checks": CHECKS, "Alive": ALIVE, "Ready": READY}
"""Every shape of an answer, by its name in the document."""

"""The one table from an error's code to its HTTP status and title, and the problem+json that every error is told in."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypedDict
from urllib.parse import quote

from starlette.responses import Response
from starlette.types import Scope

from shared.errors import PaydeskError

REQUEST_ID = "paydesk.request_id"
"""Where a request's scope carries its id."""

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a code means over HTTP."""

    status: HTTPStatus
    title: str


_FIELD = Meaning(HTTPStatus.UNPROCESSABLE_ENTITY, "A field of the request is refused")
_CARD = Meaning(HTTPStatus.PAYMENT_REQUIRED, "The payment was declined")
_REFUSED_BY_STRIPE = Meaning(HTTPStatus.UNPROCESSABLE_ENTITY, "Stripe refused the request")

TABLE: Mapping[str, Meaning] = {
    "invalid_json": Meaning(HTTPStatus.BAD_REQUEST, "The body cannot be read as JSON"),
    "duplicate_key": Meaning(HTTPStatus.BAD_REQUEST, "A key occurs twice in one JSON object"),
    "invalid_idempotency_key": Meaning(HTTPStatus.BAD_REQUEST, "The Idempotency-Key cannot be used"),
    "prefetch_refused": Meaning(HTTPStatus.BAD_REQUEST, "A prefetch makes no payment"),
    "bad_request": Meaning(HTTPStatus.BAD_REQUEST, "The request cannot be read"),
    "not_found": Meaning(HTTPStatus.NOT_FOUND, "There is nothing here"),
    "method_not_allowed": Meaning(HTTPStatus.METHOD_NOT_ALLOWED, "This address has no such method"),
    "mock_object": Meaning(HTTPStatus.CONFLICT, "An object of the mock cannot be charged for real"),
    "state_conflict": Meaning(HTTPStatus.CONFLICT, "The job stands otherwise"),
    "too_old_to_resend": Meaning(HTTPStatus.CONFLICT, "Stripe may have forgotten the job's key"),
    "payload_too_large": Meaning(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The body is too large"),
    "unsupported_media_type": Meaning(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "The body must be JSON in UTF-8"),
    "object_required": Meaning(HTTPStatus.UNPROCESSABLE_ENTITY, "The body must be a JSON object"),
    "invalid_parameter": Meaning(HTTPStatus.UNPROCESSABLE_ENTITY, "A parameter of the query is refused"),
    "duplicate_parameter": Meaning(HTTPStatus.UNPROCESSABLE_ENTITY, "A parameter of the query occurs twice"),
    "idempotency_key_reused": Meaning(HTTPStatus.UNPROCESSABLE_ENTITY,
                                      "The Idempotency-Key came before with another request"),
    "canceled": Meaning(HTTPStatus.CONFLICT, "The job was canceled"),
    "resolved_as_failed": Meaning(HTTPStatus.CONFLICT, "Whoever runs the desk ended the job as failed"),
    "never_reached_stripe": Meaning(HTTPStatus.CONFLICT, "The request never reached Stripe"),
    "resource_missing": Meaning(HTTPStatus.NOT_FOUND, "Stripe knows no such object"),
    "stripe_auth_failed": Meaning(HTTPStatus.BAD_GATEWAY, "Stripe refused the desk's API key"),
    "stripe_unavailable": Meaning(HTTPStatus.SERVICE_UNAVAILABLE, "Stripe cannot be asked now"),
    "store_unavailable": Meaning(HTTPStatus.SERVICE_UNAVAILABLE, "The store cannot be used now"),
    "store_lost": Meaning(HTTPStatus.SERVICE_UNAVAILABLE, "The store lost what was in it"),
    "store_full": Meaning(HTTPStatus.SERVICE_UNAVAILABLE, "The store has no memory left for new jobs"),
    "wrong_secret": Meaning(HTTPStatus.SERVICE_UNAVAILABLE, "The store belongs to another desk"),
    "not_ready": Meaning(HTTPStatus.SERVICE_UNAVAILABLE, "The desk is not ready"),
    "internal": Meaning(HTTPStatus.SERVICE_UNAVAILABLE, "Something unexpected happened"),
} | dict.fromkeys((
    "missing_field", "unknown_field", "invalid_field", "amount_type", "amount_format", "amount_precision",
    "amount_too_small", "amount_too_large", "currency_unsupported", "text_required", "invalid_text", "too_long",
    "email_invalid", "phone_invalid", "id_format", "metadata_type", "metadata_limit", "metadata_reserved",
    "card_data_refused", "secret_refused"), _FIELD,
) | dict.fromkeys((
    "account_closed", "authentication_required", "card_decline_rate_limit_exceeded", "card_declined",
    "debit_not_authorized", "expired_card", "incorrect_address", "incorrect_cvc", "incorrect_number", "incorrect_zip",
    "insufficient_funds", "invalid_card_type", "invalid_cvc", "invalid_expiry_month", "invalid_expiry_year",
    "invalid_number", "payment_intent_authentication_failure", "payment_intent_payment_attempt_failed",
    "payment_method_customer_decline", "payment_method_provider_decline", "processing_error"), _CARD,
)
"""Every code that the desk gives by itself, and Stripe's codes for card errors (docs.stripe.com/error-codes)."""


class FieldFault(TypedDict):
    """One thing that is wrong with a request: a JSON pointer, a stable code, and a sentence without the value."""

    pointer: str
    code: str
    message: str


class Problem(Exception):
    """A request ends with this problem. `detail` and `more` never repeat what the caller sent."""

    def __init__(self, code: str, detail: str, *, errors: Sequence[FieldFault] = (),
                 headers: Mapping[str, str] | None = None, more: Mapping[str, Any] | None = None,
                 meaning: Meaning | None = None) -> None:
        self.code = code
        self.detail = detail
        self.errors = errors
        self.headers = headers or {}
        self.more = more or {}
        self.meaning = meaning or TABLE[code]
        super().__init__(detail)


def of_fault(fault: PaydeskError) -> Problem:
    """The problem that tells a fact which stood in the way."""
    return Problem(fault.code if fault.code in TABLE else "internal", str(fault))


def failure_meaning(error: Mapping[str, Any]) -> Meaning:
    """What a failed job's error means to a client that waited for it. A decline is told by its code or decline_code."""
    known = TABLE.get(error["code"])
    if known is not None and known is not _FIELD:
        return known
    return _CARD if "decline_code" in error else _REFUSED_BY_STRIPE


def response(problem: Problem, scope: Scope) -> Response:
    """The problem as an answer (RFC 9457)."""
    request_id = scope.get(REQUEST_ID, "")
    status = problem.meaning.status
    shown = {
        "type": f"urn:paydesk:problem:{problem.code}", "title": problem.meaning.title, "status": status,
        "detail": problem.detail, "instance": f"urn:paydesk:request:{quote(request_id, safe='')}", "success": False,
        "code": problem.code, "request_id": request_id, "errors": list(problem.errors), **problem.more}
    headers = dict(problem.headers)
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers.setdefault("Retry-After", "1")
    return Response(json.dumps(shown, separators=(",", ":")), status, headers, MEDIA_TYPE)

"""What /openapi.json says of each route: every status that occurs, and examples that work as they stand."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.openapi.utils import get_openapi
from starlette.responses import Response

from api.answers import answer
from api.problems import MEDIA_TYPE
from api.schemas import SCHEMAS, Schema, reference
from shared.jobs import Book, Kind, Status
from shared.requests import ChargeRequest, CustomerRequest, PaymentIntentRequest

OPENAPI = "/openapi.json"
VERSION = "0.1.0"

Route = dict[str, Any]
"""What a route tells FastAPI about itself."""

_PAYMENTS, _JOBS, _RUNNING = "payments", "jobs", "running"


def add_routes(app: FastAPI) -> None:
    """Add the route of the document, which is written at the first call."""
    document: dict[str, Any] = {}

    async def openapi(_: Request) -> Response:
        if not document:
            document.update(describe(app))
        return answer(document)

    app.add_api_route(OPENAPI, openapi, methods=["GET"], include_in_schema=False)


def describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI 3.1 document of the app."""
    document = get_openapi(title="Paydesk", version=VERSION, routes=app.routes, summary="A payment desk.",
                           description="Hand it a charge and it is never lost and never made twice: submit, get a "
                                       "job, and poll it; or wait with `Prefer: wait=N`.")
    models = {model.__name__: model.model_json_schema()
              for model in (ChargeRequest, PaymentIntentRequest, CustomerRequest)}
    document["components"] = {"schemas": {**models, **SCHEMAS}}
    return document


_HEADERS = {
    "Location": "Where the job is polled.",
    "Retry-After": "Seconds until asking again makes sense.",
    "Preference-Applied": "The wait that was granted.",
    "Idempotent-Replayed": "true: an earlier submission with this Idempotency-Key made the job.",
    "Paydesk-Mode": "mock: the mock answered.",
    "X-Request-ID": "The request's id, the caller's own if one came.",
}


def _response(description: str, schema: str, *headers: str, media_type: str = "application/json") -> dict[str, Any]:
    shown = {name: {"description": _HEADERS[name], "schema": {"type": "string"}} for name in (*headers, "X-Request-ID")}
    return {"description": description, "content": {media_type: {"schema": reference(schema)}}, "headers": shown}


_PROBLEMS = {
    400: "It cannot be read.", 402: "Waited for: the payment was declined.",
    404: "There is no such thing; waited for: Stripe knows no object that was named.",
    409: "A state stands in the way: of the job, or an object of the mock; waited for: canceled, or it never reached "
         "Stripe, or whoever runs the desk ended it.",
    413: "The body is too large.", 415: "The body is not JSON in UTF-8.",
    422: "It was read and refused, here or, when waited for, by Stripe.",
    502: "Waited for: Stripe refused the desk's API key.", 503: "Try again soon."}


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: _response(_PROBLEMS[status], "Problem", *(("Retry-After",) if status == 503 else ()),
                              media_type=MEDIA_TYPE) for status in statuses}


def _header(name: str, schema: Schema, description: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": False, "schema": schema, "description": description}


def _query(name: str, schema: Schema, description: str, *, required: bool = False) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": required, "schema": schema, "description": description}


_SUBMISSION_HEADERS = [
    _header("Idempotency-Key", {"type": "string", "minLength": 1, "maxLength": 257},
            "Sent again with the same key and request, it finds the same job."),
    _header("Prefer", {"type": "string", "examples": ["wait=10"]},
            "wait=N: answer with the result if it comes within N seconds, at most 30.")]


def _submission(result: str, *problems: int, model: str | None = None,
                examples: Mapping[str, Mapping[str, Any]] | None = None,
                query: tuple[dict[str, Any], ...] = ()) -> Route:
    extra: dict[str, Any] = {"parameters": [*query, *_SUBMISSION_HEADERS]}
    if model is not None:
        shown = {name: {"summary": name, "value": value} for name, value in (examples or {}).items()}
        extra["requestBody"] = {"required": True, "content": {
            "application/json": {"schema": reference(model), "examples": shown}}}
    headers = ("Location", "Preference-Applied", "Idempotent-Replayed", "Paydesk-Mode")
    return {"status_code": HTTPStatus.ACCEPTED, "tags": [_PAYMENTS], "openapi_extra": extra, "responses": {
        200: _response("Waited for: the result.", result, *headers),
        202: _response("Accepted: the job, as it stands.", "Job", *headers, "Retry-After"), **_problems(*problems)}}


PROCESS_CHARGE = _submission(
    "PaymentResult", 400, 402, 404, 409, 413, 415, 422, 502, 503, model="ChargeRequest", examples={
        "A charge": {"amount": 50.00, "payment_method_id": "pm_card_visa", "email": "customer@example.com",
                     "description": "Service Payment"},
        "The amount as a text": {"amount": "25.50", "payment_method_id": "pm_card_visa"},
        "A declined card": {"amount": 50.00, "payment_method_id": "pm_card_chargeDeclined"}})
CREATE_PAYMENT = _submission(
    "PaymentResult", 400, 409, 413, 415, 422, 502, 503, model="PaymentIntentRequest", examples={
        "A payment": {"amount": 25.50, "email": "customer@example.com", "description": "Premium API Access",
                      "metadata": {"plan": "premium"}}})
CREATE_CUSTOMER = _submission(
    "CustomerResult", 400, 409, 413, 415, 422, 502, 503, model="CustomerRequest", examples={
        "A customer": {"email": "customer@example.com", "name": "John Doe", "phone": "+1234567890",
                       "metadata": {"source": "api"}}})
PAYMENT_INTENT = _submission("PaymentResult", 400, 409, 422, 502, 503, query=(
    _query("amount", {"type": "string", "examples": ["10.00"]}, "US dollars.", required=True),
    _query("email", {"type": "string", "examples": ["customer@example.com"]}, "Whom Stripe sends the receipt."),
    _query("description", {"type": "string", "examples": ["Payment"]}, "At most 1000 characters."),
    _query("currency", {"type": "string", "const": "usd", "examples": ["usd"]}, "The only one.")))

PAYMENT_STATUS: Route = {
    "tags": [_PAYMENTS],
    "responses": {
        200: _response("How it stands, or, marked `stale`, how it was last seen.", "PaymentStatus", "Paydesk-Mode"),
        202: _response("Stripe has not answered yet: the job that asks.", "Job", "Location", "Retry-After"),
        **_problems(402, 404, 409, 422, 502, 503)},
    "openapi_extra": {"parameters": [
        _query("payment_intent_id", {"type": "string", "pattern": "^(pi|job)_[A-Za-z0-9_]{1,64}$"},
               "The id of a payment intent, or of the job that makes it.", required=True), _SUBMISSION_HEADERS[1]]}}
GET_JOB: Route = {
    "tags": [_JOBS],
    "responses": {200: _response("The job.", "Job", "Retry-After", "Paydesk-Mode"), **_problems(404, 422, 503)},
    "openapi_extra": {"parameters": [
        {"name": "job_id", "in": "path", "required": True, "schema": {"type": "string"}, "description": "Its id."},
        _query("wait", {"type": "integer", "minimum": 0, "examples": [10]}, "Seconds to wait, at most 30.")]}}
LIST_JOBS: Route = {
    "tags": [_JOBS],
    "responses": {200: _response("The jobs, newest first.", "JobList"), **_problems(422, 503)},
    "openapi_extra": {"parameters": [
        _query("status", {"type": "string", "enum": list(Status)}, "Only these."),
        _query("kind", {"type": "string", "enum": list(Kind)}, "Only these."),
        _query("limit", {"type": "integer", "minimum": 1, "maximum": 100, "default": 10, "examples": [20]},
               "How many."),
        _query("starting_after", {"type": "string"}, "Go on behind this job, the last one of the page before.")]}}
ASK_AGAIN: Route = {
    "status_code": HTTPStatus.ACCEPTED, "tags": [_JOBS],
    "responses": {
        202: _response("The job as it now stands.", "Job", "Location", "Retry-After", "Paydesk-Mode"),
        **_problems(404, 409, 422, 503)},
    "openapi_extra": {"parameters": [
        {"name": "job_id", "in": "path", "required": True, "schema": {"type": "string"}, "description": "Its id."}]}}
GET_STATS: Route = {
    "tags": [_PAYMENTS],
    "responses": {200: _response("The statistics.", "Stats"), **_problems(422, 503)},
    "openapi_extra": {"parameters": [
        _query("book", {"type": "string", "enum": list(Book), "examples": ["mock"]}, "This book alone.")]}}
LIVEZ: Route = {"tags": [_RUNNING], "responses": {200: _response("Alive.", "Alive")}}
READYZ: Route = {
    "tags": [_RUNNING],
    "responses": {200: _response("Ready.", "Ready"), **_problems(503)},
    "openapi_extra": {"parameters": [
        _query("verbose", {"type": "string", "examples": [""]}, "List each check.")]}}

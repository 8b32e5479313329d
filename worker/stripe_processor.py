"""The only file that calls Stripe: errors in, outcomes out. The reason of an outcome is one word in snake_case."""

import asyncio
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import stripe
import structlog

from shared.failpoints import failpoint
from shared.jobs import Job, Kind
from shared.stripe_params import idempotency_key
from worker.processor import (
    Declined,
    Gone,
    Listed,
    ListPage,
    Mismatch,
    NotSent,
    Noun,
    Outcome,
    Refused,
    Settled,
    Throttled,
    Unknown,
)
from worker.stripe_http import ConnectionFailed, StripeHTTP
from worker.stripe_objects import (
    SURROGATE,
    Malformed,
    mapping,
    read_listed,
    read_page,
    read_payment,
    settled_customer,
    settled_payment,
)

log = structlog.get_logger(__name__)

CALL_SECONDS = 33.0
"""After which a call is given up whatever the client below does: over its 30 s, and far under a lease (60 s)."""

AUTH_FAILED = "stripe_auth_failed"
"""The code of every refusal of the key itself (401, 403); Stripe's own message would show a part of the key."""

REFUSED = "stripe_refused"
"""The code of a refusal to which Stripe gave none."""

_INTENTS = "/v1/payment_intents"
_CUSTOMERS = "/v1/customers"
_PATHS = {Noun.PAYMENT_INTENT: _INTENTS, Noun.CUSTOMER: _CUSTOMERS}
_LIMITER_CODES = frozenset({"rate_limit", "lock_timeout"})
"""Turned away before it was looked at (docs.stripe.com/rate-limits, read 2026-04-30): by a limiter, or by an object's
lock; the second comes without a Request-Id."""

_CODE = re.compile(r"[a-z0-9_]{1,64}", re.ASCII)
_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_INTENT_ID = re.compile(r"pi_(?!mock_)[A-Za-z0-9_]{1,250}", re.ASCII)
_CUSTOMER_ID = re.compile(r"cus_(?!mock_)[A-Za-z0-9_]{1,250}", re.ASCII)
_OBJECT_IDS = {Noun.PAYMENT_INTENT: _INTENT_ID, Noun.CUSTOMER: _CUSTOMER_ID}
_PRIVATE = re.compile(
    r"\b(?:sk|rk|pk|pdk|ek|whsec)_\S+|\w+_secret_\S+"  # keys and client_secrets, also as Stripe masks them
    r"|[^\s@'\"<>]+@[^\s@'\"<>]+"  # e-mail addresses
    r"|\+\d[\d ().-]{5,}\d|\d(?:[ -]?\d){11,}")  # telephone and card numbers
_LONGEST_MESSAGE = 300

_T = TypeVar("_T")
_Reader = Callable[[Mapping[str, Any]], Settled]


class StripeProcessor:
    """Stripe, as the desk's processor. No call raises anything but CancelledError; each ends within 35 s.

    `http` and `call_seconds` are for tests to shorten what is waited for.
    """

    def __init__(self, *, api_key: str, api_base: str, api_version: str, http: StripeHTTP | None = None,
                 call_seconds: float = CALL_SECONDS) -> None:
        _quiet_sdk()
        self._http = http or StripeHTTP()
        self._call_seconds = call_seconds
        # The SDK's retries stay off: they would hide an earlier attempt that was sent behind one that was not.
        self._client = stripe.StripeClient(api_key, stripe_version=api_version, max_network_retries=0,
                                           base_addresses={"api": api_base.rstrip("/")}, http_client=self._http)

    async def send(self, job: Job) -> Outcome:
        """Do the job at Stripe under its own idempotency key; a status_refresh reads its payment intent."""
        match job.kind:
            case Kind.PAYMENT_INTENT | Kind.CHARGE | Kind.CUSTOMER if _names_mock(job.params):
                return Refused("mock_object", "An object of the mock does not exist at Stripe.", 409)
            case Kind.PAYMENT_INTENT | Kind.CHARGE:
                return await self._post(job, _INTENTS, settled_payment)
            case Kind.CUSTOMER:
                return await self._post(job, _CUSTOMERS, settled_customer)
            case Kind.STATUS_REFRESH:
                return await self._read_intent(job, job.request.get("payment_intent_id"))
            case _:
                return Refused("not_supported", f"This desk does not send jobs of kind {job.kind} to Stripe.", 400)

    async def look(self, job: Job) -> Outcome:
        """Read the payment intent that the job made; changes nothing."""
        return await self._read_intent(job, job.stripe_id)

    async def cancel(self, job: Job) -> Outcome:
        """Cancel the payment intent that the job made, under a key of its own. Stripe refuses it for one that is paid,
        being paid, or canceled already."""
        asked = {"cancellation_reason": "abandoned", "idempotency_key": idempotency_key(job.id, "cancel")}
        return await self._ask_intent(job, job.stripe_id, "post", "/cancel", asked)

    async def close(self) -> None:
        """Let go of all connections."""
        await self._http.close_async()

    async def _post(self, job: Job, path: str, read: _Reader) -> Outcome:
        options = {"idempotency_key": idempotency_key(job.id, job.kind), "stripe_version": job.api_version}
        return await self._call(job.id, "post", path, {**job.params, **options}, read)

    async def _read_intent(self, job: Job, intent_id: object) -> Outcome:
        return await self._ask_intent(job, intent_id, "get", "", {})

    async def _ask_intent(self, job: Job, intent_id: object, method: str, verb: str, arguments: Mapping[str, Any],
                          ) -> Outcome:
        """Ask of one intent; the answer must be that intent."""
        if not isinstance(intent_id, str) or _INTENT_ID.fullmatch(intent_id) is None:
            return Refused("resource_missing", "No such payment intent at Stripe.", 404)

        def read(body: Mapping[str, Any]) -> Settled:
            if body.get("id") != intent_id:
                raise Malformed("another object than the one asked for")
            return settled_payment(body)

        return await self._call(job.id, method, f"{_INTENTS}/{intent_id}{verb}",
                                {**arguments, "stripe_version": job.api_version}, read)

    async def list_page(self, noun: Noun, *, since_ms: int, until_ms: int | None, after: str | None = None,
                        limit: int = 100) -> ListPage | Outcome:
        """A page of the account's objects created in a window, newest first, whoever made them; changes nothing.

        The window's ends are widened to Stripe's whole seconds; `until_ms` None: up to now. `after` is the last object
        of the page before.
        """
        asked: dict[str, Any] = {"limit": limit, "created": {"gte": max(0, since_ms // 1000)}}
        if until_ms is not None:
            asked["created"]["lte"] = -(-until_ms // 1000)
        if after is not None:
            asked["starting_after"] = after
        return await self._call(f"list of {noun}", "get", _PATHS[noun], asked,
                                lambda body: read_page(body, noun))

    async def retrieve(self, noun: Noun, object_id: str) -> Listed | Gone | Outcome:
        """One object as a list would show it; Gone when Stripe says that it has none. Changes nothing."""
        if _OBJECT_IDS[noun].fullmatch(object_id) is None:
            return Gone(object_id)

        def read(body: Mapping[str, Any]) -> Listed:
            if body.get("deleted") is True and body.get("id") == object_id:  # no list shows it, but it was there
                return Listed(id=object_id, created_ms=0)
            listed = read_listed(body, noun)
            if listed.id != object_id:
                raise Malformed("another object than the one asked for")
            return listed

        outcome = await self._call(object_id, "get", f"{_PATHS[noun]}/{object_id}", {}, read)
        missing = isinstance(outcome, Refused) and outcome.http_status == 404
        return Gone(object_id) if missing else outcome

    async def _call(self, about: str, method: str, path: str, arguments: Mapping[str, Any],
                    read: Callable[[Mapping[str, Any]], _T]) -> _T | Outcome:
        outcome = await self._answered(about, method, path, arguments, read)
        failpoint("classify.after")
        return outcome

    async def _answered(self, about: str, method: str, path: str, arguments: Mapping[str, Any],
                        read: Callable[[Mapping[str, Any]], _T]) -> _T | Outcome:
        """One call, raw: building StripeObjects from the answer would cost a third of its CPU and carry the key."""
        request_id: str | None = None
        try:
            try:
                async with asyncio.timeout(self._call_seconds):
                    response = await self._client.raw_request_async(method, path, **arguments)
            finally:
                failpoint("classify.before")
            request_id = _request_id(response.headers)
            return read(mapping(response.data))
        except ConnectionFailed as failure:
            return _without_answer(failure)
        except stripe.StripeError as error:
            return _outcome(_Answer.of(error))
        except Malformed as malformed:
            log.warning("stripe_answer_malformed", about=about, lacks=str(malformed), request_id=request_id)
            return Unknown("malformed_answer", request_id, answered=request_id is not None)
        except TimeoutError:
            return Unknown("timeout")
        except Exception as error:  # noqa: BLE001  # whatever it was, the request may have arrived
            log.warning("stripe_answer_unreadable", about=about, error=type(error).__name__)
            return Unknown("unreadable_answer", request_id)


@dataclass(frozen=True, slots=True)
class _Answer:
    """An answer that was not a success. `error` is None when the body is not in Stripe's shape."""

    status: int | None
    error: Mapping[str, Any] | None
    request_id: str | None

    @classmethod
    def of(cls, error: stripe.StripeError) -> "_Answer":
        body = error.json_body  # the headers instead, when the body was no JSON (stripe-python 16.1.0)
        inner = body.get("error") if isinstance(body, dict) else None
        return cls(error.http_status, inner if isinstance(inner, dict) else None, _request_id(error.headers or {}))

    def code(self, name: str = "code") -> str | None:
        """A code of Stripe's, if it has the shape of one."""
        found = (self.error or {}).get(name)
        return found if isinstance(found, str) and _CODE.fullmatch(found) else None

    def message(self) -> str:
        """Stripe's sentence without anything private in it."""
        found = (self.error or {}).get("message")
        text = found if isinstance(found, str) and found else "Stripe refused the request."
        return _PRIVATE.sub("[removed]", SURROGATE.sub("?", text[:4 * _LONGEST_MESSAGE]))[:_LONGEST_MESSAGE]


def _without_answer(failure: ConnectionFailed) -> Outcome:
    return Unknown(failure.reason) if failure.possibly_sent else NotSent(failure.reason)


def _outcome(answer: _Answer) -> Outcome:
    limited = answer.status == 429 or (answer.status == 400 and answer.code() in _LIMITER_CODES)
    if answer.error is None or (answer.request_id is None and not (limited and answer.code() == "lock_timeout")):
        return Unknown("unrecognised_answer", answer.request_id)
    if limited:
        return Throttled(answer.request_id)
    match answer.status:
        case 400 if answer.error.get("type") == "idempotency_error":
            return Mismatch(answer.request_id)
        case 400 | 404:
            return Refused(answer.code() or REFUSED, answer.message(), answer.status, answer.request_id)
        case 401 | 403:
            return Refused(AUTH_FAILED, "Stripe refused the desk's API key.", answer.status, answer.request_id)
        case 402:
            return _declined(answer)
        case _:
            return Unknown(f"status_{answer.status}", answer.request_id, answered=True)


def _declined(answer: _Answer) -> Outcome:
    payment = None
    embedded = (answer.error or {}).get("payment_intent")
    if embedded is not None:
        try:
            payment = read_payment(mapping(embedded))
        except Malformed:
            return Unknown("malformed_decline", answer.request_id, answered=True)
    if payment and payment.received_cents:
        return Unknown("decline_with_money", answer.request_id, answered=True)
    return Declined(answer.code() or "card_declined", answer.message(), answer.code("decline_code"),
                    answer.request_id, payment)


def _names_mock(params: Mapping[str, Any]) -> bool:
    return str(params.get("customer", "")).startswith("cus_mock_")


def _request_id(headers: Mapping[str, str]) -> str | None:
    found = headers.get("Request-Id") or headers.get("request-id")
    return found if found and _REQUEST_ID.fullmatch(found) else None


def _quiet_sdk() -> None:
    """Set the SDK's process-wide switches: no telemetry, no file in the home folder, no messages in anybody's log.

    At INFO its logger writes Stripe's error messages, at DEBUG whole bodies: e-mails and client_secrets.
    """
    stripe.enable_telemetry = False
    stripe._util.STRIPE_LOG = None  # noqa: SLF001  # nothing public overrules the variable of that name
    logging.getLogger("stripe").setLevel(logging.WARNING)

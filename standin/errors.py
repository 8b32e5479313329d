"""Stripe's error shape, and the one exception that carries it."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Any

from standin.wire import Answer

Json = dict[str, Any]


class ErrorType(StrEnum):
    """The error types that Stripe's SDKs tell apart."""

    API = "api_error"
    CARD = "card_error"
    IDEMPOTENCY = "idempotency_error"
    INVALID_REQUEST = "invalid_request_error"


class ApiError(Exception):
    """A refusal in Stripe's words; `saved` says whether it binds the idempotency key."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: ErrorType = ErrorType.INVALID_REQUEST,
        code: str | None = None,
        param: str | None = None,
        saved: bool = False,
        headers: tuple[tuple[str, str], ...] = (),
        more: Json | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.saved = saved
        self.headers = headers
        self.error: Json = {"message": message, "type": kind.value}
        if code is not None:
            self.error["code"] = code
            self.error["doc_url"] = f"https://stripe.com/docs/error-codes/{code.replace('_', '-')}"
        if param is not None:
            self.error["param"] = param
        self.error.update(more or {})

    def answer(self) -> Answer:
        """Give the refusal as it goes on the wire."""
        return Answer(self.status, json.dumps({"error": self.error}).encode(), list(self.headers))


def missing(noun: str, name: str, *, param: str, status: int = 400) -> ApiError:
    """Give `resource_missing`: the lookup is execution, so it binds the key."""
    return ApiError(status, f"No such {noun}: '{name}'", code="resource_missing", param=param, saved=True)


def server_error() -> ApiError:
    """Give the 500 that Stripe keeps for the key; sending again would only replay it, and the header says so."""
    headers = (("Stripe-Should-Retry", "false"),)
    return ApiError(500, "An unknown error occurred.", kind=ErrorType.API, saved=True, headers=headers)


def key_in_use() -> ApiError:
    """Give the 409 for a key whose first request still runs."""
    return ApiError(
        409,
        "There is currently another in-progress request using this idempotency key. Please try again later.",
        kind=ErrorType.IDEMPOTENCY,
        code="idempotency_key_in_use",
        headers=(("Stripe-Should-Retry", "true"),),
    )


def throttled(reason: str) -> ApiError:
    """Give the 429 of a rate limiter, with its reason header."""
    return ApiError(
        429,
        "Request rate limit exceeded.",
        code="rate_limit",
        headers=(("Stripe-Rate-Limited-Reason", reason),),
    )


def lock_timeout() -> ApiError:
    """Give the 429 of an object lock: no reason header, safe to send again."""
    return ApiError(
        429,
        "This object cannot be accessed right now because another API request is accessing it.",
        code="lock_timeout",
        headers=(("Stripe-Should-Retry", "true"),),
    )


def unauthorized() -> ApiError:
    """Give the 401, which never repeats the key."""
    return ApiError(
        401,
        "Invalid API Key provided.",
        code="api_key_invalid",
        headers=(("WWW-Authenticate", 'Bearer realm="Stripe"'),),
    )

"""Which call a request is."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from standin import charges, customers, disputes, events, intents, objects, refunds
from standin.errors import ApiError, Json
from standin.objects import Call
from standin.wire import Request

Execution = Callable[[Call], Json]

_PLAIN: dict[tuple[str, str], Execution] = {
    ("GET", "/v1/account"): objects.account_body,
    ("GET", "/v1/balance"): objects.balance_body,
    ("GET", "/v1/customers"): customers.list_all,
    ("GET", "/v1/events"): events.list_all,
    ("GET", "/v1/payment_intents"): intents.list_all,
    ("GET", "/v1/refunds"): refunds.list_all,
    ("POST", "/v1/customers"): customers.create,
    ("POST", "/v1/payment_intents"): intents.create,
    ("POST", "/v1/refunds"): refunds.create,
}
_NAMED: dict[tuple[str, str], Callable[[Call, str], Json]] = {
    ("GET", "/v1/charges/{id}"): charges.retrieve,
    ("GET", "/v1/customers/{id}"): customers.retrieve,
    ("GET", "/v1/disputes/{id}"): disputes.retrieve,
    ("GET", "/v1/events/{id}"): events.retrieve,
    ("GET", "/v1/payment_intents/{id}"): intents.retrieve,
    ("GET", "/v1/refunds/{id}"): refunds.retrieve,
    ("POST", "/v1/payment_intents/{id}/cancel"): intents.cancel,
    ("POST", "/v1/payment_intents/{id}/confirm"): intents.confirm,
}


def name_in(path: str) -> str | None:
    """Give the object id in a path, if there is one."""
    parts = path.split("/", 4)
    return parts[3] if len(parts) > 3 and parts[3] and parts[3] != "search" else None


def endpoint_of(request: Request) -> str:
    """Give the endpoint's name for counting; one for all that is unknown."""
    try:
        return find_route(request)[0]
    except ApiError:
        return "unknown"


def find_route(request: Request) -> tuple[str, Execution]:
    """Give the endpoint's name, which is also its rate limit's, and what executes it."""
    plain = _PLAIN.get((request.method, request.path))
    if plain is not None:
        return f"{request.method} {request.path}", plain
    name = name_in(request.path)
    if name is not None:
        pattern = request.path.replace(f"/{name}", "/{id}", 1)
        named = _NAMED.get((request.method, pattern))
        if named is not None:
            return f"{request.method} {pattern}", partial(_call_named, named, name)
    raise ApiError(404, f"Unrecognized request URL ({request.method}: {request.path}).")


def _call_named(named: Callable[[Call, str], Json], name: str, call: Call) -> Json:
    return named(call, name)

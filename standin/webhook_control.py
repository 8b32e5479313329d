"""The part of the control API that is about webhooks: who listens, what goes wrong, what was delivered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from standin.errors import Json
from standin.events import Type
from standin.outbox import Endpoint
from standin.peer import Peer


def taken(asked: Json, name: str) -> Any:
    """Give what must be there, or raise ValueError."""
    if name not in asked:
        raise ValueError(f"{name} is missing")
    return asked[name]


def webhook_routes(peer: Peer) -> dict[str, Callable[[Json], object]]:
    """Give the routes by method and name."""
    courier, outbox = peer.courier, peer.outbox

    def describe(_: Json) -> Json:
        return {**courier.describe(), "endpoints": [_shown(e) for e in outbox.endpoints()]}

    def hold(_: Json) -> Json:
        courier.held = True
        return courier.describe()

    def release(asked: Json) -> Json:
        released = courier.release(str(asked.get("order", "as_made")), int(asked.get("seed", 0)))
        return {**courier.describe(), "released": released}

    def unregister(asked: Json) -> Json:
        outbox.unregister(asked.get("id"))
        return {}

    def register(asked: Json) -> Json:
        _check_types(asked)
        return _shown(outbox.register(asked))

    def add_faults(asked: Json) -> Json:
        faults = taken(asked, "faults")
        for given in faults:
            _check_types(given)
        return {"faults": [courier.plan.add(given).describe() for given in faults]}

    return {
        "GET webhooks": describe,
        "POST webhooks": register,
        "DELETE webhooks": unregister,
        "GET webhooks/deliveries": lambda _: {"deliveries": courier.log()},
        "GET webhooks/faults": lambda _: {"faults": courier.plan.describe()},
        "POST webhooks/faults": add_faults,
        "DELETE webhooks/faults": lambda _: courier.plan.clear(),
        "POST webhooks/hold": hold,
        "POST webhooks/release": release,
        "POST webhooks/drop": lambda _: {**courier.describe(), "dropped": courier.drop_held()},
        "POST events/resend": lambda asked: peer.repeat_event(str(taken(asked, "event")), as_twin=False),
        "POST events/twin": lambda asked: peer.repeat_event(str(taken(asked, "event")), as_twin=True),
    }


def _check_types(given: object) -> None:
    if not isinstance(given, dict):
        raise ValueError("each is an object")  # noqa: TRY004 - one class for whatever JSON cannot be read
    # a type that is never made would be waited for in vain
    unplayed = set(given.get("types") or ()) - {kind.value for kind in Type}
    if unplayed:
        raise ValueError(f"no such events are made: {', '.join(sorted(map(str, unplayed)))}")


def _shown(endpoint: Endpoint) -> Json:
    # as at Stripe, a secret is not shown again
    return {
        "id": endpoint.id,
        "url": endpoint.url,
        "types": endpoint.types,
        "retry_seconds": endpoint.retry_seconds,
        "secrets": len(endpoint.secrets),
    }

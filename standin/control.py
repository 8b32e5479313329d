"""The control API under /_standin/: faults, clock, settings, and what was asked and done."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Protocol

from standin.errors import ApiError, Json
from standin.gate import Gate
from standin.limits import Limits
from standin.peer import Peer
from standin.rates import per_second
from standin.webhook_control import taken, webhook_routes
from standin.wire import Answer, Request

PREFIX = "/_standin/"


class Drop(Protocol):
    """Resets the peer's open connections."""

    def __call__(self, *, idle_only: bool) -> None:
        """Reset them, all or only those between two requests."""


class Control:
    """Answers control requests; a request that cannot be read changes nothing and answers 400."""

    def __init__(self, peer: Peer, gate: Gate, drop: Drop, facts: Callable[[], Json]) -> None:
        self._peer = peer
        self._gate = gate
        self._drop = drop
        self._facts = facts
        self._routes: dict[str, Callable[[Json], object]] = {
            "POST clock": self._clock,
            "DELETE faults": self._clear_faults,
            "GET faults": lambda _: {"faults": peer.plan.describe()},
            "POST faults": self._add_faults,
            "GET effects": lambda _: {"effects": peer.store.effects()},
            "GET requests": lambda _: {"requests": peer.log.describe()},
            "GET settings": lambda _: self._settings(),
            "POST settings": self._set,
            "GET rates": lambda _: self._rates(),
            "POST pay": lambda asked: peer.pay(str(taken(asked, "payment_intent"))),
            "POST dispute": lambda asked: peer.dispute(str(taken(asked, "of")), str(taken(asked, "step"))),
            "POST refuse": self._refuse,
            "POST reset": lambda _: peer.reset(),
            **webhook_routes(peer),
        }

    async def answer(self, request: Request) -> Answer:
        """Do what is asked and give the JSON answer."""
        try:
            name = f"{request.method} {request.path.removeprefix(PREFIX)}"
            asked = json.loads(request.body or b"{}")
            if not isinstance(asked, dict):
                raise ValueError("the body is a JSON object")  # noqa: TRY004, TRY301 - read errors are one class
            if name == "POST accept":
                await self._gate.open()
                return _answer(200, {})
            if name not in self._routes:
                return _answer(404, {"error": "no such control"})
            return _answer(200, self._routes[name](asked) or {})
        except ApiError as error:
            return error.answer()
        except (ValueError, TypeError, KeyError) as error:
            return _answer(400, {"error": str(error)})

    def _clock(self, asked: Json) -> Json:
        self._peer.advance(float(taken(asked, "advance_seconds")))
        return {"now": self._peer.clock.now(), "advanced_seconds": self._peer.clock.advanced_seconds}

    def _add_faults(self, asked: Json) -> Json:
        if not self._facts()["plays_faults"]:
            raise ValueError("no faults with --memory")
        return {"faults": [self._peer.plan.add(given).describe() for given in taken(asked, "faults")]}

    def _clear_faults(self, _: Json) -> Json:
        self._peer.plan.clear()
        return {}

    def _settings(self) -> Json:
        peer = self._peer
        return {
            **self._facts(),
            "latency_ms": peer.latency.constant_ms,
            "latency": peer.latency.describe(),
            "limits": asdict(peer.limiter.limits),
            "capture": peer.captures,
            "open": self._gate.is_open,
        }

    def _set(self, asked: Json) -> Json:
        unknown = set(asked) - {"latency_ms", "latency", "limits", "capture"}
        if unknown:
            raise ValueError(f"unknown: {', '.join(sorted(unknown))}")
        limits = Limits(**(asked["limits"] or {})) if "limits" in asked else None
        if "latency" in asked:
            self._peer.latency.set(asked["latency"] or {})
        if "latency_ms" in asked:
            self._peer.latency.constant_ms = float(asked["latency_ms"])
        if "capture" in asked:
            self._peer.captures = bool(asked["capture"])
        if limits is not None:
            self._peer.limiter.set(limits)
        return self._settings()

    def _refuse(self, asked: Json) -> Json:
        seconds, drop = asked.get("seconds"), asked.get("drop", "idle")
        if drop not in {"none", "idle", "all"}:
            raise ValueError("drop is none, idle or all")
        self._gate.shut(None if seconds is None else float(seconds))
        if drop != "none":
            self._drop(idle_only=drop == "idle")
        return {}

    def _rates(self) -> Json:
        moments = [effect["created"] for effect in self._peer.store.effects()]
        return {**self._peer.rates.describe(), "effects_per_second": per_second(moments)}


def _answer(status: int, body: object) -> Answer:
    return Answer(status, json.dumps(body).encode())

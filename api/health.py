"""Is it alive, and is it ready: an answer within two seconds, whatever the store does."""

import asyncio
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Any, ParamSpec, TypeVar

from fastapi import FastAPI, Request
from redis.exceptions import RedisError
from starlette.responses import Response

from api import deps, openapi
from api.answers import answer
from api.problems import Problem
from shared.circuit import Reach
from shared.epoch import MENDS
from shared.errors import PaydeskError, StoreLost, WrongSecret
from shared.jobs import Mode
from shared.redis_calls import ROOT

LIVEZ = "/livez"
READYZ = "/readyz"

_CHECK_SECONDS = 1.8

_P = ParamSpec("_P")
_T = TypeVar("_T")
_State = TypeVar("_State", bound=StrEnum)


class Check(StrEnum):
    """What a check found."""

    OK = "ok"
    UNAVAILABLE = "unavailable"
    STORE_LOST = "store_lost"
    WRONG_SECRET = "wrong_secret"  # noqa: S105  # a state, not a secret


class Durability(StrEnum):
    """How well the store keeps what it acknowledged."""

    ALWAYS = "always"
    EVERYSEC = "everysec"
    UNKNOWN = "unknown"


class Eviction(StrEnum):
    """What the store does when its memory is full: only one that never evicts keeps what it acknowledged."""

    NOEVICTION = "noeviction"
    ALLKEYS_LRU = "allkeys-lru"
    ALLKEYS_LFU = "allkeys-lfu"
    ALLKEYS_RANDOM = "allkeys-random"
    VOLATILE_LRU = "volatile-lru"
    VOLATILE_LFU = "volatile-lfu"
    VOLATILE_RANDOM = "volatile-random"
    VOLATILE_TTL = "volatile-ttl"
    UNKNOWN = "unknown"


class Stripe(StrEnum):
    """Whether Stripe is within reach, as the workers see it. It does not make the desk unready."""

    REACHABLE = "reachable"
    UNREACHABLE = "unreachable"
    NO_KEY = "no key"
    UNKNOWN = "unknown"
    """There is no worker to say."""


def add_routes(app: FastAPI) -> None:
    """Add the routes for whoever watches the process."""
    app.add_api_route(LIVEZ, livez, methods=["GET"], **openapi.LIVEZ)
    app.add_api_route(READYZ, readyz, methods=["GET"], **openapi.READYZ)


async def livez(_: Request) -> Response:
    """The process serves; nothing else is asked."""
    return answer({"status": "alive"})


async def readyz(request: Request) -> Response:
    """The store can be written to and a worker is there; `verbose` lists each check."""
    desk = deps.desk(request)
    verbose = "verbose" in request.query_params
    store, reach, (durability, eviction), broker = await asyncio.gather(
        _store(desk), _in_time(desk.circuit.look), _policies(desk, wanted=verbose),
        _in_time(desk.broker.call, "PING") if verbose else _nothing())
    checks: dict[str, Any] = {
        "store": store, "durability": durability, "eviction": eviction,
        "broker": Check.OK if broker else Check.UNAVAILABLE,
        "workers": reach.fresh_workers if reach else 0, "stripe": _stripe(desk, reach), "mode": desk.settings.mode}
    shown = {"checks": checks} if verbose else {}
    if store is Check.OK and checks["workers"]:
        return answer({"status": "ready", **shown})
    raise Problem("not_ready", _what_is_missing(store), more=shown)


def _what_is_missing(store: Check) -> str:
    return {Check.OK: "No worker has a fresh heartbeat.",
            Check.UNAVAILABLE: "The store cannot be written to.",
            Check.STORE_LOST: f"The store lost what was in it. {MENDS}",
            Check.WRONG_SECRET: "The store belongs to a desk with another PAYDESK_SECRET."}[store]


async def _store(desk: deps.Desk) -> Check:
    """A real write: a store that only answers a PING may be full, or a replica."""
    try:
        async with asyncio.timeout(_CHECK_SECONDS):
            await desk.epoch.look_again()
            await desk.calls.call("SET", f"{ROOT}ready", "1")
    except StoreLost:
        return Check.STORE_LOST
    except WrongSecret:
        return Check.WRONG_SECRET
    except (PaydeskError, RedisError, TimeoutError):
        return Check.UNAVAILABLE
    return Check.OK


async def _policies(desk: deps.Desk, *, wanted: bool) -> tuple[Durability, Eviction]:
    """What the store says of itself; many hosted ones do not say."""
    said = await _in_time(desk.calls.call, "CONFIG GET", "append*", "maxmemory-policy") if wanted else None
    if not isinstance(said, dict):
        return Durability.UNKNOWN, Eviction.UNKNOWN
    synced = said.get("appendfsync") if said.get("appendonly") == "yes" else None
    return (_member(Durability, synced, Durability.UNKNOWN),
            _member(Eviction, said.get("maxmemory-policy"), Eviction.UNKNOWN))


def _member(states: type[_State], said: object, otherwise: _State) -> _State:
    return next((state for state in states if state == said), otherwise)


def _stripe(desk: deps.Desk, reach: Reach | None) -> Stripe:
    if desk.settings.mode is Mode.NONE:
        return Stripe.NO_KEY
    if reach is None or not reach.fresh_workers:
        return Stripe.UNKNOWN
    return Stripe.UNREACHABLE if reach.open else Stripe.REACHABLE


async def _nothing() -> None:
    return None


async def _in_time(question: Callable[_P, Awaitable[_T]], *args: _P.args, **kwargs: _P.kwargs) -> _T | None:
    try:
        async with asyncio.timeout(_CHECK_SECONDS):
            return await question(*args, **kwargs)
    except (PaydeskError, RedisError, TimeoutError):
        return None

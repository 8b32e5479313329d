"""What a route may ask for: the desk, and who asks."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from fastapi import Request
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from api.hints import Hints
from api.waiting import Waiters
from shared.circuit import Circuit
from shared.errors import StoreUnavailable, WrongSecret
from shared.ids import Ids
from shared.jobs import LOCAL_CALLER
from shared.ledger import Ledger
from shared.redis_calls import ROOT, RedisCalls
from shared.settings import Settings
from shared.store import JobStore

ANSWER_SECONDS = 1.9
"""Within this the store has answered, or the client is told that it did not: two seconds in all."""

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Instance:
    """Whether the store is this desk's own: it keeps a fingerprint of the secret that all ids derive from."""

    def __init__(self, calls: RedisCalls, ids: Ids) -> None:
        self._calls = calls
        self._fingerprint = ids.fingerprint()
        self._known = False

    async def check(self) -> None:
        """Return when the store is ours, which it becomes if it is nobody's. Raises WrongSecret, StoreUnavailable."""
        if self._known:
            return
        _, found = await asyncio.gather(self._calls.call("SET", f"{ROOT}instance", self._fingerprint, "NX"),
                                        self._calls.call("GET", f"{ROOT}instance"))
        if found != self._fingerprint:
            raise WrongSecret("The store belongs to a desk with another PAYDESK_SECRET: use that secret, "
                              "or another store.")
        self._known = True


@dataclass(frozen=True, slots=True)
class Desk:
    """One process's desk, built when the process starts to serve."""

    settings: Settings
    ids: Ids
    calls: RedisCalls
    broker: RedisCalls
    instance: Instance
    store: JobStore
    ledger: Ledger
    circuit: Circuit
    hints: Hints
    waiters: Waiters

    async def ask(self, question: Callable[_P, Awaitable[_T]], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """What the store answers, in time and if it is our own. Raises StoreUnavailable, WrongSecret."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self.instance.check()
                return await question(*args, **kwargs)
        except (TimeoutError, RedisConnectionError, RedisTimeoutError):
            raise StoreUnavailable("The store did not answer in time.") from None


def desk(request: Request) -> Desk:
    """The desk that serves this request."""
    found: Desk = request.app.state.desk
    return found


def caller(_: Request) -> str:
    """Who asks; on a desk without API keys everybody is the same."""
    return LOCAL_CALLER

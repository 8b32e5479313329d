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
from shared.epoch import Epoch
from shared.errors import StoreUnavailable
from shared.ids import Ids
from shared.jobs import LOCAL_CALLER
from shared.ledger import Ledger
from shared.operator import Operator
from shared.payments import Payments
from shared.redis_calls import RedisCalls
from shared.settings import Settings
from shared.store import JobStore

ANSWER_SECONDS = 1.9
"""Within this the store has answered, or the client is told that it did not: two seconds in all."""

_P = ParamSpec("_P")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Desk:
    """One process's desk, built when the process starts to serve."""

    settings: Settings
    ids: Ids
    calls: RedisCalls
    broker: RedisCalls
    epoch: Epoch
    store: JobStore
    operator: Operator
    payments: Payments
    ledger: Ledger
    circuit: Circuit
    hints: Hints
    waiters: Waiters

    async def ask(self, question: Callable[_P, Awaitable[_T]], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """What the store answers, in time and if it is our own and whole.

        Raises StoreUnavailable, StoreLost, WrongSecret.
        """
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self.epoch.check()
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

"""Reads Stripe's lists and objects within the shared budget: each call waits its turn, and may be repeated."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from shared.failpoints import failpoint
from shared.jobs import Lane
from worker.pacing import Pacing
from worker.processor import (
    Gone,
    Listed,
    ListPage,
    Lists,
    NotSent,
    Noun,
    Outcome,
    Refused,
    Throttled,
    Unknown,
)

PAUSES_SECONDS = (0.5, 1.0, 2.0, 4.0)
"""Before each further try of a read that was not answered: it changes nothing, so it may be repeated."""
PAGE = 100
"""The most that Stripe puts on a page."""
SMALL_PAGE = 10
"""Objects with all the metadata that they may have fit in an answer of the size that is read."""
_LONGEST_TURN_SECONDS = 1.0
_UNREAD = "answer_too_large"
_UNEXPECTED = "unexpected_answer"


class Stopped(Exception):
    """Stripe did not tell; `reason` is one word in snake_case."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class StripeReader:
    """Reads Stripe in the bulk lane: what is charged for comes first."""

    def __init__(self, pacing: Pacing, lists: Lists, pauses: Sequence[float] = PAUSES_SECONDS) -> None:
        self._pacing = pacing
        self._lists = lists
        self._pauses = pauses

    async def page(self, noun: Noun, *, since_ms: int, until_ms: int | None, after: str) -> ListPage:
        """A page of a list. When the object that it goes on after is gone, from the beginning. Raises Stopped."""

        async def ask(limit: int, place: str) -> ListPage:
            failpoint("reconcile.list.before")
            found = await self._ask(lambda: self._lists.list_page(
                noun, since_ms=since_ms, until_ms=until_ms, after=place or None, limit=limit))
            failpoint("reconcile.list.after")
            if not isinstance(found, ListPage):
                raise Stopped(_UNEXPECTED)
            return found

        try:
            return await ask(PAGE, after)
        except Stopped as stopped:
            if stopped.reason == _UNREAD:
                return await ask(SMALL_PAGE, after)
            if stopped.reason == "resource_missing" and after:
                return await ask(PAGE, "")
            raise

    async def retrieve(self, noun: Noun, object_id: str) -> Listed | Gone:
        """One object as it stands now. Raises Stopped."""
        failpoint("reconcile.retrieve.before")
        found = await self._ask(lambda: self._lists.retrieve(noun, object_id))
        failpoint("reconcile.retrieve.after")
        if isinstance(found, ListPage):
            raise Stopped(_UNEXPECTED)
        return found

    async def _ask(self, call: Callable[[], Awaitable[ListPage | Listed | Gone | Outcome]]) -> ListPage | Listed | Gone:
        reason = _UNEXPECTED
        for pause in (*self._pauses, None):
            await self._turn()
            outcome = await call()
            match outcome:
                case ListPage() | Listed() | Gone():
                    return outcome
                case Refused():
                    raise Stopped(outcome.code)
                case Throttled():
                    reason = "rate_limited"
                case NotSent() | Unknown():
                    reason = outcome.reason
            if pause is None or reason == _UNREAD:
                break
            await asyncio.sleep(pause)
        raise Stopped(reason)

    async def _turn(self) -> None:
        """Wait until a slot of the budget is ours."""
        slots = await self._pacing.reserve(Lane.BULK, 1)
        while not slots.granted:
            await asyncio.sleep(min(_LONGEST_TURN_SECONDS, slots.first_in_seconds))
            slots = await self._pacing.reserve(Lane.BULK, 1)
        await asyncio.sleep(slots.first_in_seconds)

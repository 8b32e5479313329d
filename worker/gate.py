"""Who may work in this process: many together, or one alone; and nobody begins any more once it is closed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Gate:
    """Lets attempts run together, or one by itself: a job that may kill its worker takes no neighbours with it."""

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._inside = 0
        self._alone = False
        self.closed = False
        """Set when the process is asked to stop: what has begun is ended, and nothing more is claimed."""

    @asynccontextmanager
    async def together(self) -> AsyncIterator[None]:
        """Be inside with others, when nobody is or wants to be alone."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._alone)
            self._inside += 1
        try:
            yield
        finally:
            async with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    @asynccontextmanager
    async def alone(self, within_seconds: float) -> AsyncIterator[bool]:
        """Be inside with nobody else: those who are there end first, those who come wait.

        Told False, and not inside, when they have not ended in time: one call that hangs must not hold up all others.
        """
        async with self._changed:
            await self._changed.wait_for(lambda: not self._alone)
            self._alone = True
        try:
            yield await self._empties(within_seconds)
        finally:
            async with self._changed:
                self._alone = False
                self._changed.notify_all()

    async def _empties(self, within_seconds: float) -> bool:
        try:
            async with asyncio.timeout(within_seconds), self._changed:
                await self._changed.wait_for(lambda: self._inside == 0)
        except TimeoutError:
            return False
        return True

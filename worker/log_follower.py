"""Writes the log files from the streams: one follower per folder, resuming after the last whole line. Best effort.

Nothing waits for it: a full disk, a missing folder or a follower that dies costs lines until it is mended, never a job.
"""

import asyncio
import errno
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

import structlog

from shared.errors import StoreUnavailable
from shared.events import START, Events, Log
from shared.failpoints import failpoint
from worker.log_file import LogFile, LogFolder

log = structlog.get_logger(__name__)

TICK_SECONDS = 1.0

_P = ParamSpec("_P")
_T = TypeVar("_T")


class LogFollower:
    """Follows the streams into the log files of one folder, if no other process does."""

    def __init__(self, events: Events, path: Path, *, tick_seconds: float = TICK_SECONDS) -> None:
        self._events = events
        self._path = path
        self._tick_seconds = tick_seconds
        self._failing: set[str] = set()

    async def run(self) -> None:
        """Wait for the folder, then write what comes, until cancelled. No failure ends it."""
        while True:
            await self._attempt(str(self._path), self._follow)
            await asyncio.sleep(self._tick_seconds)

    async def _follow(self) -> None:
        folder = LogFolder(self._path)
        try:
            if not await _off_loop(folder.hold):
                return
            self._succeeded(str(self._path))
            logs = {which: FollowedLog(self._events, folder, which) for which in Log}
            while await _off_loop(folder.still):
                for which, followed in logs.items():
                    await self._attempt(which, followed.catch_up)
                await asyncio.sleep(self._tick_seconds)
        finally:
            folder.let_go()

    async def _attempt(self, what: str, do: Callable[[], Awaitable[object]]) -> None:
        """Do one thing; its failure is said once, until it has succeeded again."""
        try:
            await do()
        except Exception as failure:  # a log that cannot be written must never end what writes the other
            if what not in self._failing:
                expected = isinstance(failure, OSError | StoreUnavailable)
                log.warning("log_stopped", log=what, reason=_reason(failure), exc_info=None if expected else failure)
            self._failing.add(what)
        else:
            self._succeeded(what)

    def _succeeded(self, what: str) -> None:
        if what in self._failing:
            log.warning("log_resumed", log=what)
        self._failing.discard(what)


class FollowedLog:
    """One log file of a folder that is held."""

    def __init__(self, events: Events, folder: LogFolder, log: Log) -> None:
        self._events = events
        self._file = LogFile(folder, log)
        self._log = log
        self._known = START
        self._sure = False
        """Whether the file is as we left it; if not, it is asked again where it goes on."""

    async def catch_up(self) -> int:
        """Write what has come since the last time; answers how many lines."""
        sure, self._sure = self._sure, False
        if not sure:
            failpoint("resume.before")
            self._known = await _off_loop(self._file.resume, await self._events.newest(self._log), self._known)
            failpoint("resume.after")
        written = 0
        async for page in self._events.pages(self._log, self._known):
            failpoint("log.before")
            if not await _off_loop(self._file.append, page.text, page.last):
                return written
            failpoint("log.after")
            self._known = page.last
            written += page.lines
        self._sure = True
        return written


async def _off_loop(do: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Run file work in a thread. Cancelled, it is waited for: the folder is let go when nothing writes there."""
    work = asyncio.ensure_future(asyncio.to_thread(do, *args, **kwargs))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.gather(work, return_exceptions=True)
        raise


def _reason(failure: Exception) -> str:
    number = failure.errno if isinstance(failure, OSError) else None
    return type(failure).__name__ if number is None else errno.errorcode.get(number, str(number))

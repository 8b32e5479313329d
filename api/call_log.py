"""A line for every call under /api/stripe/: kept in memory while it is answered, written in one go each second.

Best effort: whatever befalls the store or however many calls come, no call waits for it or fails by it.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable

import structlog
from redis.exceptions import RedisError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.errors import PaydeskError

log = structlog.get_logger(__name__)

LOGGED_BELOW = "/api/stripe/"
MOST_KEPT = 5_000
"""Calls kept until the next write; what comes beyond them within a second is counted, not kept."""
WRITE_SECONDS = 1.0

_UNKNOWN = "unknown"
_METHODS = frozenset({"GET", "HEAD", "POST", "OPTIONS", "PUT", "PATCH", "DELETE"})
_JOB = re.compile(rb"/api/jobs/(job_[a-z2-7]{32})")

Call = dict[str, str]
"""Its method, path, status_code, ms, and the job that its answer points to, as shared/events.py renders them."""
Write = Callable[[list[Call]], Awaitable[None]]


class CallLog:
    """The calls that were answered and are not written yet. Used on one event loop."""

    def __init__(self) -> None:
        self._calls: list[Call] = []
        self._dropped = 0

    def add(self, call: Call) -> None:
        """Keep a call for the next write, if there is room."""
        if len(self._calls) < MOST_KEPT:
            self._calls.append(call)
        else:
            self._dropped += 1

    async def write_on(self, write: Write) -> None:
        """Write what there is each second, until cancelled."""
        while True:
            await asyncio.sleep(WRITE_SECONDS)
            await self.write_left(write)

    async def write_left(self, write: Write) -> None:
        """Write what there is. What cannot be written is dropped and counted."""
        calls, self._calls = self._calls, []
        try:
            if calls:
                await write(calls)
        except (PaydeskError, RedisError, OSError) as failure:
            log.warning("api_calls_dropped", count=len(calls) + self._dropped, reason=type(failure).__name__)
            self._dropped = 0
        if self._dropped:
            log.warning("api_calls_dropped", count=self._dropped, reason="too many at once")
            self._dropped = 0


class LoggedCalls:
    """Notes each call under /api/stripe/ once it is answered: nothing that the caller typed, no more than its job."""

    def __init__(self, app: ASGIApp, calls: CallLog) -> None:
        self._app = app
        self._calls = calls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(LOGGED_BELOW):
            await self._app(scope, receive, send)
            return
        began, method = time.perf_counter(), scope["method"]  # HEAD becomes GET further in
        answered: Call = {}

        async def send_noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                answered["status_code"] = str(message["status"])
                for name, text in message["headers"]:
                    if name == b"location" and (job := _JOB.fullmatch(text)):
                        answered["job_id"] = job[1].decode()
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        finally:
            ms = int((time.perf_counter() - began) * 1000)
            # The router leaves the route that it found here: its path is ours, whatever was typed.
            self._calls.add({"method": method if method in _METHODS else _UNKNOWN, "ms": str(ms),
                             "path": getattr(scope.get("route"), "path", _UNKNOWN), **answered})

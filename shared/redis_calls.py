"""Calls to the store that leave together: what is asked in one turn of the loop shares a round trip and an fsync."""

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Sequence
from importlib.resources import files
from typing import Any, Self

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import MasterDownError, NoScriptError, OutOfMemoryError, ReadOnlyError, ResponseError

from shared.errors import StoreFull, StoreLost, StoreUnavailable
from shared.failpoints import failpoint

ROOT = "{pd}:"
"""The root of every key: a hash tag, so that a cluster keeps them all in one slot. The only KEYS[1] of every script."""

SCRIPT_NAMES = ("accept", "reserve", "claim", "record", "release", "feed", "circuit", "log_calls",
                "moment", "note", "operate", "reconcile", "epoch")
_CALLS_TOGETHER = 128
_CONNECTIONS = 8
_PAUSE_SECONDS = 0.05
_PASSING = (ReadOnlyError, MasterDownError)
_PASSING_PREFIXES = ("MISCONF", "BUSY", "NOREPLICAS")
"""Answers of a server that is there and will serve again: a full disk, a failover, a script that takes long."""


_LOST_PREFIX = "STORELOST"


def script_text(name: str) -> str:
    """The text of a script as the server gets it: a line `-- include X` is replaced by X."""
    folder = files("shared") / "lua"
    lines = (folder / f"{name}.lua").read_text().splitlines()
    return "\n".join((folder / line.removeprefix("-- include ")).read_text() if line.startswith("-- include ") else line
                     for line in lines)


class RedisCalls:
    """One process's way to one Redis server. Every call answers or raises within its deadline: StoreUnavailable,
    StoreLost, StoreFull, or the ResponseError of a mistake.

    StoreUnavailable leaves open whether the call took effect. There are no hidden retries: only a caller knows what may
    be said twice, and then says so. Built and used on one event loop.
    """

    def __init__(self, redis: "Redis", *, deadline_seconds: float) -> None:
        self.redis = redis
        self.guard: Callable[[], Awaitable[None]] | None = None
        """Asked before scripts are loaded into a server that has forgotten them, because it may have lost more."""
        self._deadline_seconds = deadline_seconds
        self._scripts = {name: script_text(name) for name in SCRIPT_NAMES}
        self._shas = {name: hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
                      for name, text in self._scripts.items()}
        self._failpoints = {name: (f"{name}.before", f"{name}.after") for name in self._scripts}
        self._waiting: list[tuple[Sequence[Any], asyncio.Future[Any]]] = []
        self._sending: set[asyncio.Task[Any]] = set()

    @classmethod
    def connect(cls, url: str, *, deadline_seconds: float) -> Self:
        """Prepare to talk to the server at `url`; nothing is sent yet."""
        pool = BlockingConnectionPool.from_url(
            url, max_connections=_CONNECTIONS, timeout=deadline_seconds, decode_responses=True, protocol=2,
            socket_timeout=deadline_seconds, socket_connect_timeout=deadline_seconds, socket_keepalive=True,
            retry=Retry(NoBackoff(), 0), health_check_interval=0)
        return cls(Redis(connection_pool=pool), deadline_seconds=deadline_seconds)

    async def close(self) -> None:
        """Wait for what is under way and let go of the connections."""
        if self._sending:
            await asyncio.wait(self._sending)
        await self.redis.aclose()
        await self.redis.connection_pool.disconnect()

    async def script(self, name: str, *args: str | float) -> Any:
        """Run a script of shared/lua on ROOT and answer what it answers. Each has a failpoint before and after it."""
        before, after = self._failpoints[name]
        failpoint(before)
        answer = await self._script(name, *args)
        failpoint(after)
        return answer

    async def _script(self, name: str, *args: str | float) -> Any:
        call = ("EVALSHA", self._shas[name], 1, ROOT, *args)
        try:
            return await self.call(*call)
        except NoScriptError:
            if self.guard is not None:
                await self.guard()
            await self.call("SCRIPT LOAD", self._scripts[name])
            return await self.call(*call)

    async def script_until_answered(self, deadline_seconds: float, name: str, *args: str | float) -> Any:
        """Run a script that may be said twice until it answers or the deadline passes.

        Raises StoreLost at once: a lost store does not come back by being asked again.
        Raises StoreUnavailable, StoreFull.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + deadline_seconds
        while True:
            try:
                return await self.script(name, *args)
            except StoreLost:
                raise
            except StoreUnavailable:
                if loop.time() + _PAUSE_SECONDS >= end:
                    raise
                await asyncio.sleep(_PAUSE_SECONDS)

    async def evaluate(self, name: str, key: str, *args: str | float) -> Any:
        """Run a script of shared/lua that writes one key alone, whatever the guard says."""
        before, after = self._failpoints[name]
        failpoint(before)
        answer = await self.call("EVAL", self._scripts[name], 2, ROOT, key, *args)
        failpoint(after)
        return answer

    async def call(self, *command: Any) -> Any:
        """Send one command, with all others of this turn of the loop, and answer its reply."""
        failpoint("call.before")
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[Any] = loop.create_future()
        self._waiting.append((command, reply))
        if len(self._waiting) == 1:
            loop.call_soon(self._send_waiting)
        try:
            async with asyncio.timeout(self._deadline_seconds):
                answer = await reply
        except TimeoutError:
            raise StoreUnavailable("The store did not answer in time.") from None
        failpoint("call.after")
        return answer

    async def moment(self, *reads: Sequence[str]) -> list[Any]:
        """The replies to several reads at one moment, in order and as the server gives them (a hash is a flat list)."""
        found: list[Any] = await self.script("moment", *(json.dumps(read) for read in reads))
        return found

    def _send_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for start in range(0, len(waiting), _CALLS_TOGETHER):
            task = asyncio.get_running_loop().create_task(self._send(waiting[start:start + _CALLS_TOGETHER]))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def _send(self, calls: list[tuple[Sequence[Any], asyncio.Future[Any]]]) -> None:
        try:
            failpoint("trip.before")
            pipeline = self.redis.pipeline(transaction=False)
            for command, _ in calls:
                pipeline.execute_command(*command)
            replies = await pipeline.execute(raise_on_error=False)
            failpoint("trip.after")
        except (Exception, asyncio.CancelledError) as failure:  # noqa: BLE001  # each caller is told
            replies = [failure] * len(calls)
        for (_, future), reply in zip(calls, replies, strict=True):
            if future.done():
                continue
            if isinstance(reply, BaseException):
                future.set_exception(_meaning(reply))
            else:
                future.set_result(reply)


def _meaning(failure: BaseException) -> Exception:
    """Turn what Redis or the network said into a fact of the desk; a script's own mistake stays as it is."""
    if isinstance(failure, NoScriptError):
        return failure
    if isinstance(failure, OutOfMemoryError):
        return StoreFull("The store has no memory left for new jobs.")
    if isinstance(failure, ResponseError) and str(failure).startswith(_LOST_PREFIX):
        return StoreLost("The store was emptied: what this desk had in it is gone.")
    passing = isinstance(failure, _PASSING) or str(failure).startswith(_PASSING_PREFIXES)
    if isinstance(failure, ResponseError) and not passing:
        return failure
    return StoreUnavailable(f"The store cannot be used now ({type(failure).__name__}).")

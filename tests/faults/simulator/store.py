"""The store: the real scripts on a real Valkey, asked in order; on the way to it everything can be lost."""

import asyncio
import hashlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hiredis
import redis

from cli.servers import EmbeddedServer, Role
from shared.errors import StoreUnavailable
from shared.redis_calls import ROOT, SCRIPT_NAMES, RedisCalls, script_text
from tests.faults.simulator.clock import Process
from tests.faults.simulator.world import World

EditScript = Callable[[str, str], str]
"""Changes the text of a script, given its name: for proof that the simulation notices."""

_CLOCK_LINE = "local clock = redis.call('TIME')"
_CLOCK_FROM_ARGUMENTS = "local clock = {table.remove(ARGV, #ARGV - 1), table.remove(ARGV)}"
_DEADLINE_SECONDS = 3.0


class StoreServer(EmbeddedServer):
    """A store on a Unix socket, without a disk: the virtual clock cannot pull a plug."""

    def __init__(self, folder: Path) -> None:
        super().__init__(Role("simulated", "1gb", durable=False), folder)

    @property
    def socket_path(self) -> str:
        """Where it listens."""
        return str(self.folder / "socket")

    def _configuration(self) -> Iterator[str]:
        yield from super()._configuration()
        yield f"unixsocket {self.socket_path}"

    def connect(self) -> "Link":
        """A connection that answers while it is asked."""
        return Link(self.socket_path, self._password)


class Link:
    """One connection without a loop. Scripts, which are most of it, go raw; the rest as redis-py reads it."""

    def __init__(self, path: str, password: str) -> None:
        self.redis = redis.Redis(unix_socket_path=path, password=password, decode_responses=True, protocol=2)
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self._reader = hiredis.Reader(encoding="utf-8")
        self.raw("AUTH", password)

    def raw(self, *command: object) -> Any:
        """Send a command and give its reply as it came."""
        parts = [str(part).encode() for part in command]
        self._socket.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts))
        while (reply := self._reader.gets()) is False:
            self._reader.feed(self._socket.recv(1 << 16))
        if isinstance(reply, hiredis.ReplyError):
            raise redis.ResponseError(str(reply))
        return reply

    def close(self) -> None:
        """Let go of the server."""
        self._socket.close()
        self.redis.close()


class Store:
    """What happens at the server, at the moment that a request arrives there."""

    def __init__(self, world: World, link: Link, edit: EditScript) -> None:
        self._world = world
        self.link = link
        link.raw("FLUSHALL")
        self._scripts: dict[str, tuple[str, bool]] = {}
        for name in SCRIPT_NAMES:
            text = edit(name, script_text(name))
            timed = _CLOCK_LINE in text
            text = text.replace(_CLOCK_LINE, _CLOCK_FROM_ARGUMENTS)
            link.raw("SCRIPT", "LOAD", text)
            self._scripts[name] = (hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest(), timed)
        self.paused_until = 0.0
        self.loses = world.climate.store_loses

    def script(self, who: str, name: str, args: tuple[Any, ...]) -> Any:
        """Run a script now, by the store's clock."""
        sha, timed = self._scripts[name]
        reply = self.link.raw("EVALSHA", sha, 1, ROOT, *args, *(self.time() if timed else ()))
        self._world.watch.script(who, name, args, reply)
        return reply

    def evaluate(self, name: str, key: str, args: tuple[Any, ...]) -> Any:
        """Run a script that names what it writes, in whatever store this is."""
        return self.link.raw("EVALSHA", self._scripts[name][0], 2, ROOT, key, *args, *self.time())

    def time(self) -> tuple[int, int]:
        """What the server's TIME would say."""
        micros = round(self._world.clock.store() * 1_000_000)
        return micros // 1_000_000, micros % 1_000_000

    def call(self, *command: Any) -> Any:
        """Run any other command now."""
        if command == ("TIME",):
            return self.time()
        return self.link.redis.execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py leaves it untyped


class SimulatedCalls(RedisCalls):
    """One process's way to the store, with RedisCalls' promises: an answer, or StoreUnavailable, which leaves open
    whether the call took effect, or still will.
    """

    def __init__(self, world: World, store: Store, process: Process) -> None:
        # Not the base's: this has neither connections nor a queue.
        self._world, self._store, self._process = world, store, process
        self.guard = None

    async def close(self) -> None:
        """Nothing to let go of."""

    async def script(self, name: str, *args: str | float) -> Any:
        return await self._ask(self._store.script, self._process.name, name, args)

    async def evaluate(self, name: str, key: str, *args: str | float) -> Any:
        return await self._ask(self._store.evaluate, name, key, args)

    async def call(self, *command: Any) -> Any:
        return await self._ask(self._store.call, *command)

    async def _ask(self, act: Callable[..., Any], *args: Any) -> Any:
        if self._process.dead:
            raise asyncio.CancelledError
        world, rng = self._world, self._world.rng
        answer: asyncio.Future[Any] = world.loop.create_future()
        fate = rng.random()
        there = rng.uniform(0.0001, 0.004) + max(0.0, self._store.paused_until - world.clock.awake)
        if fate < self._store.loses:
            world.counts["store requests lost"] += 1
            world.later(_lost_after(world), _fail, answer)
        else:
            loses_reply = fate < 2 * self._store.loses
            world.later(there, self._arrive, answer, loses_reply, act, args)
            if there >= _DEADLINE_SECONDS:
                world.later(_DEADLINE_SECONDS, _fail, answer)
        return await answer

    def _arrive(self, answer: asyncio.Future[Any], loses_reply: bool, act: Callable[..., Any],
                args: tuple[Any, ...]) -> None:
        world = self._world
        if self._process.dead and world.chance(0.5):
            return  # it was still in the memory of the process
        try:
            reply = act(*args)
        except redis.ResponseError as mistake:
            if act == self._store.script:
                world.broken(f"the store refuses {args[:2]}: {mistake}")
            world.later(0.001, _settle, answer, mistake)
            return
        if loses_reply:
            world.counts["store replies lost"] += 1
            world.later(_lost_after(world), _fail, answer)
        else:
            world.later(world.rng.uniform(0.0001, 0.002), _settle, answer, reply)


def _lost_after(world: World) -> float:
    """A connection that breaks is noticed at once; one that falls silent at the deadline."""
    return world.rng.uniform(0.001, 0.01) if world.chance(0.7) else _DEADLINE_SECONDS


def _fail(answer: asyncio.Future[Any]) -> None:
    _settle(answer, StoreUnavailable("The simulated store did not answer."))


def _settle(answer: asyncio.Future[Any], outcome: object) -> None:
    if answer.done():
        return
    if isinstance(outcome, Exception):
        answer.set_exception(outcome)
    else:
        answer.set_result(outcome)

"""A TCP proxy on loopback that loses replies, holds them back or refuses, so that a client can be cut off exactly."""

import asyncio
from typing import Self
from urllib.parse import urlsplit, urlunsplit

_HOST = "127.0.0.1"
_PIECE = 65536


class TcpProxy:
    """Passes everything on between its port and the target until told otherwise. Lives on the loop that accepts."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._cut_after: int | None = None
        self._passing = asyncio.Event()
        self._passing.set()
        self.port = 0
        self.cuts = 0
        self._asking: dict[object, bytes] = {}
        """By connection, the first piece of what was asked and has no reply yet."""

    async def __aenter__(self) -> Self:
        await self.accept()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.refuse()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def url(self, direct: str) -> str:
        """The address of the target, by way of this proxy."""
        parts = urlsplit(direct)
        return urlunsplit(parts._replace(netloc=parts.netloc.replace(f":{parts.port}", f":{self.port}")))

    def cut_next_reply(self, after_bytes: int = 0) -> None:
        """Let the next reply end after so many bytes, and its connection with it; what was asked is done."""
        self._cut_after = after_bytes

    def asking(self) -> list[bytes]:
        """What is in flight: of each connection that waits for a reply, how its request began."""
        return list(self._asking.values())

    def drop(self) -> None:
        """End the connections there are, and take new ones."""
        for task in self._tasks:
            task.cancel()

    def hold(self) -> None:
        """Hold everything back, in both directions, as a network does that swallows packets."""
        self._passing.clear()

    def let_go(self) -> None:
        """Pass on again, what was held first."""
        self._passing.set()

    def refuse(self) -> None:
        """Refuse new connections and end those there are."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.drop()

    async def accept(self) -> None:
        """Take connections, at the same port as before."""
        self._server = await asyncio.start_server(self._connected, _HOST, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # asyncio runs this as one
        self._tasks.add(task)
        try:
            there, back = await asyncio.open_connection(_HOST, self._target_port)
            try:
                await self._join(reader, back, there, writer)
            finally:
                back.close()
        except (OSError, asyncio.CancelledError):
            pass  # an end is gone, or this proxy stops: for the other end the same
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    async def _join(self, asked: asyncio.StreamReader, to_server: asyncio.StreamWriter, replied: asyncio.StreamReader,
                    to_client: asyncio.StreamWriter) -> None:
        here = object()
        ways = {asyncio.create_task(self._requests(here, asked, to_server)),
                asyncio.create_task(self._replies(here, replied, to_client))}
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            self._asking.pop(here, None)

    async def _requests(self, here: object, asked: asyncio.StreamReader, to_server: asyncio.StreamWriter) -> None:
        while piece := await asked.read(_PIECE):
            self._asking.setdefault(here, piece)
            await self._passing.wait()
            to_server.write(piece)
            await to_server.drain()

    async def _replies(self, here: object, replied: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        while piece := await replied.read(_PIECE):
            await self._passing.wait()
            self._asking.pop(here, None)
            if self._cut_after is not None:
                kept, self._cut_after = self._cut_after, None
                self.cuts += 1
                to_client.write(piece[:kept])
                await to_client.drain()
                return
            to_client.write(piece)
            await to_client.drain()

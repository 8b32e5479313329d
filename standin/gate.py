"""A loopback listener that can really refuse, and keeps its port while it does."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

from standin.wire import MAX_HEAD_BYTES

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
_BACKLOG = 1024


class Gate:
    """Open, connections are served; shut, the kernel refuses them."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self._server: asyncio.Server | None = None
        self._held: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._opening: asyncio.Task[None] | None = None
        self.host, self.port = "", 0

    @property
    def is_open(self) -> bool:
        """Say whether connections are taken."""
        return self._server is not None

    async def bind(self, host: str, port: int) -> None:
        """Take the port and open."""
        self.host = host
        self._held = _bound(host, port)
        self.port = self._held.getsockname()[1]
        await self.open()

    async def open(self) -> None:
        """Take connections again."""
        self._stop_timer()
        held, self._held = self._held, None
        if held is not None:
            self._server = await asyncio.start_server(self._serve, sock=held, limit=MAX_HEAD_BYTES, backlog=_BACKLOG)

    def shut(self, seconds: float | None) -> None:
        """Refuse connections, for a time or until opened."""
        self._stop_timer()
        if self._server is not None:
            self._server.close()
            self._server = None
            # bound and not listening: connecting is refused, and nobody else can take the port
            self._held = _bound(self.host, self.port)
        if seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._open_later)

    def release(self) -> None:
        """Give the port back."""
        self._stop_timer()
        if self._server is not None:
            self._server.close()
        if self._held is not None:
            self._held.close()

    def _open_later(self) -> None:
        self._opening = asyncio.ensure_future(self.open())

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _bound(host: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.settimeout(0)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock

"""The server: two loopback listeners, one for the peer that can refuse, one for control that never does."""

from __future__ import annotations

import asyncio

from standin.connection import Connection, spoil
from standin.control import PREFIX, Control
from standin.errors import ApiError, Json
from standin.faults import Fault
from standin.gate import Gate
from standin.peer import Peer
from standin.routes import endpoint_of
from standin.wire import Answer, Malformed, Request, read_head, read_request


class Server:
    """Serves until stopped; a fault is played on the socket of the request it strikes."""

    def __init__(self, peer: Peer, database: str | None, *, plays_faults: bool) -> None:
        self._peer = peer
        self.gate = Gate(self._serve_peer)
        self.control_gate = Gate(self._serve_control)
        self._plays_faults = plays_faults
        self._control = Control(peer, self.gate, self._drop, self._facts)
        self._database = database
        self._open: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._delivering: asyncio.Task[None] | None = None

    async def start(self, host: str, port: int, control_port: int) -> None:
        """Listen on both ports."""
        await self.gate.bind(host, port)
        await self.control_gate.bind(host, control_port)
        self._delivering = asyncio.get_running_loop().create_task(self._peer.courier.run())

    async def stop(self) -> None:
        """Give the ports back and end every connection."""
        self.gate.release()
        self.control_gate.release()
        tasks = [*self._tasks, *([self._delivering] if self._delivering else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._peer.courier.stop()

    def _facts(self) -> Json:
        return {
            "base_url": f"http://{self.gate.host}:{self.gate.port}",
            "control_url": f"http://{self.control_gate.host}:{self.control_gate.port}",
            "db": self._database,
            "plays_faults": self._plays_faults,
        }

    def _drop(self, *, idle_only: bool) -> None:
        for connection in list(self._open):
            if connection.idle or not idle_only:
                connection.reset()

    async def _serve_peer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(reader, writer)
        self._open.add(connection)
        try:
            await self._serve(connection, is_peer=True)
        finally:
            self._open.discard(connection)

    async def _serve_control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._serve(Connection(reader, writer), is_peer=False)

    async def _serve(self, connection: Connection, *, is_peer: bool) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        try:
            while await self._exchange(connection, is_peer=is_peer):
                connection.idle = True
        except Malformed as error:
            await connection.send(ApiError(error.status, str(error)).answer(), keep_alive=False)
        except (ConnectionError, TimeoutError, asyncio.CancelledError):
            pass  # the client is gone, which is its right; or `stop` cancels, which streams would log as an error
        finally:
            connection.close()

    async def _exchange(self, connection: Connection, *, is_peer: bool) -> bool:
        """Answer one request; True when the next may come on the same connection."""
        head = await read_head(connection.reader)
        connection.idle = False
        if head is None:
            return False
        is_control = PREFIX.encode() in head.partition(b"\r\n")[0]
        if is_peer and not is_control and self._reset_unread(connection):
            return False
        request = await read_request(head, connection.reader)
        if request is None:
            return False
        if is_control:
            answer = await self._control.answer(request)
        elif is_peer:
            with self._peer.rates.counted(endpoint_of(request)):
                return await self._answer_peer(connection, request)
        else:
            answer = Answer(404, b'{"error": "this port takes control requests only"}')
        return await self._send(connection, request, answer)

    async def _answer_peer(self, connection: Connection, request: Request) -> bool:
        visit = self._peer.look(request)
        entry, fault = visit.entry, visit.fault
        if fault is None:
            answer = await self._peer.answer(visit)
        else:
            if await connection.play_before(fault):
                entry.finished_at = self._peer.clock.now()
                return False
            answer = Answer(200, b"{}")
            if fault.executes:
                answer = await self._peer.answer(visit)
            answer = spoil(answer, fault)
            if await connection.play_after(answer, fault):
                entry.finished_at = self._peer.clock.now()
                return False
        entry.status = answer.status
        entry.finished_at = self._peer.clock.now()
        return await self._send(connection, request, answer)

    async def _send(self, connection: Connection, request: Request, answer: Answer) -> bool:
        keep_alive = request.keep_alive and self.gate.is_open
        await connection.send(answer, keep_alive=keep_alive)
        return keep_alive

    def _reset_unread(self, connection: Connection) -> bool:
        # not at accept: an RST so early can still fail the client's connect, which is another fault
        fault: Fault | None = self._peer.plan.before_read()
        if fault is None:
            return False
        now = self._peer.clock.now()
        entry = self._peer.log.open(None, None, None, None, now)
        entry.fault, entry.finished_at = fault.action.value, now
        connection.reset()
        return True

"""One client's connection, and every way in which it can end."""

from __future__ import annotations

import asyncio
import json
import socket
import struct

from standin.errors import Json
from standin.faults import Action, End, Fault
from standin.wire import Answer

OVERSIZE_BYTES = 5 * 1024 * 1024
_LINGER_NONE = struct.pack("ii", 1, 0)  # closing so sends RST, not FIN
_HTML = b"<!doctype html><html><head><title>Sign in</title></head><body><h1>Sign in to the network</h1></body></html>"
_BEFORE_EFFECT = {Action.HANG_BEFORE, Action.DIE_BEFORE_EFFECT}


class Connection:
    """Plays an answer and its fault on the socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self._writer = writer
        self.idle = True

    def reset(self) -> None:
        """End at once with RST."""
        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
        self._writer.transport.abort()

    def close(self) -> None:
        """End with FIN once all is written; no matter how often."""
        self._writer.close()

    async def gone(self) -> None:
        """Wait, saying nothing, until the client gives up."""
        while await self.reader.read(65536):
            pass

    async def send(self, answer: Answer, *, keep_alive: bool) -> None:
        """Write the whole answer."""
        self._writer.write(answer.head(keep_alive=keep_alive) + answer.body)
        await self._writer.drain()

    async def play_before(self, fault: Fault) -> bool:
        """Play what comes before any effect; True when nothing is left to answer."""
        if fault.action not in _BEFORE_EFFECT:
            return False
        await asyncio.sleep(fault.delay_ms / 1000)
        if fault.action is Action.HANG_BEFORE:
            await self.gone()
        self.reset()
        return True

    async def play_after(self, answer: Answer, fault: Fault) -> bool:
        """Play what comes instead of the whole answer; True when the connection is over."""
        action = fault.action
        if action is Action.HANG_AFTER:
            await self.gone()
        elif action is Action.DIE_AFTER_EFFECT:
            self.reset()
        elif action is Action.CLOSE_AFTER_EFFECT:
            self.close()
        elif action in {Action.CUT_ANSWER, Action.HANG_MID_BODY}:
            self._writer.write(answer.head(keep_alive=True) + answer.body[: len(answer.body) // 2])
            await self._writer.drain()
            if action is Action.HANG_MID_BODY:
                await self.gone()
            elif fault.end is End.RST:
                self.reset()
            else:
                self.close()
        else:
            return False
        return True


def spoil(answer: Answer, fault: Fault) -> Answer:
    """Give the answer as the fault words it; what is kept for a replay stays right."""
    action = fault.action
    if action is Action.GARBAGE:
        answer.status, answer.body = 200, b'\x00\xff{"id": "pi_'
    elif action is Action.HTML:
        return Answer(200, _HTML, content_type="text/html; charset=utf-8")
    elif action is Action.REDIRECT:
        return Answer(302, b"", [("Location", "http://127.0.0.1:9/portal")], content_type="text/html")
    elif action is Action.OVERSIZE:
        answer.body = _padded(answer.body)
    elif action in {Action.WRONG_AMOUNT, Action.WRONG_LIVEMODE}:
        answer.body = _changed(answer.body, action)
    return answer


def _padded(body: bytes) -> bytes:
    return b'{"padding": "' + b"x" * OVERSIZE_BYTES + b'", ' + body[1:]


def _changed(body: bytes, action: Action) -> bytes:
    shown: Json = json.loads(body)
    if action is Action.WRONG_LIVEMODE:
        shown["livemode"] = True
    else:
        for name in ("amount", "amount_received"):
            if shown.get(name):
                shown[name] += 1
    return json.dumps(shown).encode()

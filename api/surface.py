"""The skin around every request: its id, HEAD, and an answer even to what nobody foresaw."""

import re
import secrets
import traceback
from collections.abc import Collection

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import problems

log = structlog.get_logger(__name__)

_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")


class Surface:
    """Gives every answer an X-Request-ID, the caller's own when it is short and plain; lets nothing be cached.

    HEAD is answered as GET, whose body the server drops, but where a GET makes something.
    """

    def __init__(self, app: ASGIApp, without_head: Collection[str]) -> None:
        self._app = app
        self._without_head = frozenset(without_head)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _given_id(scope) or f"req_{secrets.token_hex(8)}".encode()
        scope[problems.REQUEST_ID] = request_id.decode("ascii")
        asked = scope["method"]
        if asked == "HEAD" and scope["path"] not in self._without_head:
            scope["method"] = "GET"
        started = False

        async def send_marked(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                scope["method"] = asked  # by which the server knows that HEAD gets no body
                message["headers"] = [*message["headers"], (b"x-request-id", request_id),
                                      (b"cache-control", b"no-store")]
            await send(message)

        try:
            await self._app(scope, receive, send_marked)
        except ClientDisconnect:
            return
        except Exception as failure:
            log.error("unexpected", reason=type(failure).__name__, at=_places(failure),  # noqa: TRY400  # see _places
                      request_id=scope[problems.REQUEST_ID])
            if started:
                raise
            problem = problems.Problem("internal", "Something unexpected happened here; it is in the log.")
            await problems.response(problem, scope)(scope, receive, send_marked)


def _places(failure: Exception) -> list[str]:
    """Where it happened, and no more: what an exception says may hold what the caller sent."""
    return [f"{frame.filename.rpartition('/')[2]}:{frame.lineno}"
            for frame in traceback.extract_tb(failure.__traceback__)[-5:]]


def _given_id(scope: Scope) -> bytes | None:
    for name, text in scope["headers"]:
        if name == b"x-request-id":
            given: bytes = text
            return given if _REQUEST_ID.fullmatch(given) else None
    return None

"""Calls from other origins: Starlette's own middleware with exactly the headers of the contract."""

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

METHODS = ("GET", "HEAD", "POST")
ALLOWED_HEADERS = ("Authorization", "X-API-Key", "Content-Type", "Idempotency-Key", "Prefer", "X-Request-ID")
EXPOSED_HEADERS = ("Location", "Retry-After", "X-Request-ID", "Preference-Applied", "Idempotent-Replayed",
                   "Paydesk-Mode")
_PREFLIGHT_SECONDS = 600


class Cors(CORSMiddleware):
    """Answers a preflight by itself, always with 200: it is the browser that compares the headers.

    An origin that is not allowed gets no Access-Control-Allow-Origin. Credentials are never allowed.
    """

    def __init__(self, app: ASGIApp, origins: list[str]) -> None:
        super().__init__(app, allow_origins=origins, allow_methods=METHODS, allow_headers=ALLOWED_HEADERS,
                         allow_credentials=False, expose_headers=EXPOSED_HEADERS, max_age=_PREFLIGHT_SECONDS)
        self.preflight_headers["Access-Control-Allow-Headers"] = ", ".join(ALLOWED_HEADERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Only a browser on another page sends an Origin; nothing is cached, so nobody else needs to hear of it."""
        if scope["type"] == "http" and any(name == b"origin" for name, _ in scope["headers"]):
            await super().__call__(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def preflight_response(self, request_headers: Headers) -> Response:
        """What a browser may send here."""
        judged = super().preflight_response(request_headers)
        kept = {name: text for name, text in judged.headers.items() if name not in ("content-length", "content-type")}
        return Response(status_code=200, headers=kept)

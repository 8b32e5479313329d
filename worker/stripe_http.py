"""The HTTP client below Stripe's SDK: aiohttp, and the knowledge of whether a byte of a request could have left.

The SDK's own aiohttp client lets errors inside a body escape raw, caps at 100 connections and cannot tell what was
sent (stripe-python 16.1.0, `_http_client.py`), so this one stands in its place.
"""

import errno
import ssl
from collections.abc import Mapping
from types import SimpleNamespace
from typing import ClassVar

import aiohttp
import stripe
from aiohttp.abc import AbstractStreamWriter
from aiohttp.connector import Connection

from shared.failpoints import failpoint

CONNECT_SECONDS = 2.0
"""For name, TCP and TLS together. A connection comes in tens of milliseconds or the network is bad, and nothing is lost
by giving up before anything was sent."""

TOTAL_SECONDS = 30.0
"""For a whole call. A charge can take a bank many seconds, and giving up after the send is the expensive case; half a
lease (60 s) is left for what follows. aiohttp rounds it up to a whole second of the loop's clock."""

KEEP_ALIVE_SECONDS = 15.0
"""How long an idle connection is kept: well under the minute after which servers close theirs, because a request on
a connection that is just being closed counts as possibly sent."""

MAX_BODY_BYTES = 1_000_000
"""Of an answer, after decompression: Stripe's objects have a few kilobytes; this bounds memory against all else."""


class ConnectionFailed(stripe.APIConnectionError):
    """No whole answer came. `reason` is one word in snake_case; nothing of the request or the answer is in it.

    `possibly_sent` is False only on proof that no byte of the request left.
    """

    def __init__(self, reason: str, *, possibly_sent: bool = True) -> None:
        super().__init__(reason)  # type: ignore[no-untyped-call]  # the SDK leaves it untyped
        self.reason = reason
        self.possibly_sent = possibly_sent


class AnswerTooLarge(Exception):
    """The answer's body passed the cap."""


class _Attempt:
    """One request's mark: whether it ever had a connection to write on."""

    connected = False


class _Request(aiohttp.ClientRequest):
    """A request with failpoints where its bytes leave."""

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        failpoint("write.before")
        response = await super().send(conn)
        if not self.body:  # then no task of its own writes
            failpoint("write.after")
        return response

    async def write_bytes(self, writer: AbstractStreamWriter, conn: Connection,
                          content_length: int | None = None) -> None:
        await super().write_bytes(writer, conn, content_length)
        failpoint("write.after")


class StripeHTTP(stripe.HTTPClient):
    """One pool of connections for one event loop. Every failure is a ConnectionFailed; only cancellation is not.

    No redirects, no proxies or credentials from the environment, no cookies, no retries of a POST. Seconds and bytes
    are for tests to shorten; `tls` replaces Stripe's own list of trusted authorities.
    """

    name: ClassVar[str] = "aiohttp"

    def __init__(self, *, connect_seconds: float = CONNECT_SECONDS, total_seconds: float = TOTAL_SECONDS,
                 max_body_bytes: int = MAX_BODY_BYTES, tls: ssl.SSLContext | None = None) -> None:
        super().__init__()
        self._timeout = aiohttp.ClientTimeout(total=total_seconds, connect=connect_seconds)
        self._max_body_bytes = max_body_bytes
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    async def request_async(self, method: str, url: str, headers: Mapping[str, str],
                            post_data: str | None = None) -> tuple[bytes, int, Mapping[str, str]]:
        """Send one request and read its whole answer, whatever the status: body, status, headers.

        Raises ConnectionFailed when there is no whole answer.
        """
        attempt = _Attempt()
        body = None if post_data is None else post_data.encode()
        try:
            async with self._open().request(method, url, headers=headers, data=body, allow_redirects=False,
                                            trace_request_ctx=attempt) as response:
                failpoint("read.before")
                content = await self._read(response)
                failpoint("read.after")
                return content, response.status, response.headers
        except Exception as error:
            raise _failure(error, attempt) from error

    async def close_async(self) -> None:
        """Close all connections; a later request opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _open(self) -> aiohttp.ClientSession:
        """The session, made at the first request because it belongs to the loop that runs then."""
        if self._session is None:
            trust = self._tls or ssl.create_default_context(cafile=stripe.ca_bundle_path)
            # limit=0: how many calls are in flight is decided by the worker's loop, not by a queue inside the client.
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_SECONDS, ssl=trust)
            self._session = aiohttp.ClientSession(
                connector=connector, timeout=self._timeout, trust_env=False, cookie_jar=aiohttp.DummyCookieJar(),
                trace_configs=[_trace()], request_class=_Request)
        return self._session

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        async for piece in response.content.iter_any():
            body += piece
            if len(body) > self._max_body_bytes:
                raise AnswerTooLarge
        return bytes(body)


def _failure(error: Exception, attempt: _Attempt) -> ConnectionFailed:
    """The two proofs must agree: no connection was ever had, and the error is of those raised while connecting."""
    if not attempt.connected:
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return ConnectionFailed("connect_timeout", possibly_sent=False)
        if isinstance(error, aiohttp.ClientConnectorError):
            return ConnectionFailed(_why_not_connected(error), possibly_sent=False)
    if isinstance(error, AnswerTooLarge):
        return ConnectionFailed("answer_too_large")
    if isinstance(error, TimeoutError):
        return ConnectionFailed("timeout")
    return ConnectionFailed("connection_lost")


def _why_not_connected(error: aiohttp.ClientConnectorError) -> str:
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "name_not_resolved"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "tls_untrusted"
    if isinstance(error, aiohttp.ClientSSLError):
        return "tls_handshake_failed"
    return f"connect_{errno.errorcode.get(error.os_error.errno or 0, 'failed').lower()}"


def _trace() -> aiohttp.TraceConfig:
    """Marks an attempt as soon as it has a connection: both signals come before the first byte of the request.

    Source: docs.aiohttp.org, "Tracing reference", and tests/worker/test_stripe_http.py, row by row.
    """
    trace = aiohttp.TraceConfig()
    trace.on_connection_create_start.append(_before_connecting)
    trace.on_connection_create_end.append(_mark)
    trace.on_connection_reuseconn.append(_mark)
    return trace


async def _before_connecting(*_: object) -> None:
    failpoint("connect.before")


async def _mark(_session: aiohttp.ClientSession, context: SimpleNamespace, _event: object) -> None:
    context.trace_request_ctx.connected = True
    failpoint("connect.after")

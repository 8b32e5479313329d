"""Reads HTTP/1.1 requests strictly and writes answers; knows nothing of Stripe."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import parse_qsl

MAX_HEAD_BYTES = 64 * 1024
MAX_BODY_BYTES = 1024 * 1024
_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_REASONS = {status.value: status.phrase for status in HTTPStatus}


class Malformed(Exception):
    """The bytes were no request this stand-in reads; the connection ends after the answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Request:
    """One whole request, header names in lower case."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    keep_alive: bool

    def asked(self) -> dict[str, str]:
        """Give the query as flat text, the last of a repeated name winning."""
        return dict(parse_qsl(self.query, keep_blank_values=True))


@dataclass(slots=True)
class Answer:
    """A status, a body and headers, ready to be put on the wire or kept for a replay."""

    status: int
    body: bytes
    headers: list[tuple[str, str]] = field(default_factory=list)
    content_type: str = "application/json"

    def head(self, *, keep_alive: bool) -> bytes:
        """Give status line and headers; the length promised is always the whole body's."""
        lines = [
            f"HTTP/1.1 {self.status} {_REASONS.get(self.status, 'Unknown')}",
            f"Content-Type: {self.content_type}",
            f"Content-Length: {len(self.body)}",
        ]
        lines += [f"{name}: {value}" for name, value in self.headers]
        lines.append("Connection: keep-alive\r\n\r\n" if keep_alive else "Connection: close\r\n\r\n")
        return "\r\n".join(lines).encode("latin-1")


async def read_head(reader: asyncio.StreamReader) -> bytes | None:
    """Give the bytes up to the empty line, or None when the client is gone."""
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    except asyncio.LimitOverrunError as error:
        raise Malformed(431, "The request head is too large.") from error


async def read_request(head: bytes, reader: asyncio.StreamReader) -> Request | None:
    """Give the request that this head opens, or None when the client went away inside the body."""
    method, target, version, headers = _parse_head(head)
    length = _body_length(headers, method)
    try:
        body = await reader.readexactly(length) if length else b""
    except asyncio.IncompleteReadError:
        return None
    path, _, query = target.partition("?")
    wish = headers.get("connection", "").lower()
    return Request(method, path, query, headers, body, wish != "close" and version == "HTTP/1.1")


def _parse_head(head: bytes) -> tuple[str, str, str, dict[str, str]]:
    line, *fields = head[:-4].decode("latin-1").split("\r\n")
    parts = line.split(" ")
    if len(parts) != 3 or parts[2] not in {"HTTP/1.1", "HTTP/1.0"} or not parts[1].startswith("/"):
        raise Malformed(400, "The request line cannot be read.")
    method, target, version = parts
    if not method.isalpha() or not target.isascii() or not target.isprintable():
        raise Malformed(400, "The request line cannot be read.")
    headers: dict[str, str] = {}
    for text in fields:
        name, colon, value = text.partition(":")
        if not colon or not name or not _TOKEN.issuperset(name):
            raise Malformed(400, "A header cannot be read.")
        value = value.strip(" \t")
        if any(ord(c) < 32 and c != "\t" for c in value) or "\x7f" in value:
            raise Malformed(400, "A header carries a control character.")
        name = name.lower()
        if name in headers and name in {"content-length", "host", "authorization", "idempotency-key"}:
            raise Malformed(400, f"The header {name} came twice.")
        headers[name] = value
    if "host" not in headers and version == "HTTP/1.1":
        raise Malformed(400, "The header host is missing.")
    return method, target, version, headers


def _body_length(headers: dict[str, str], method: str) -> int:
    if "transfer-encoding" in headers:
        raise Malformed(411, "Send a Content-Length, not a transfer coding.")
    if "expect" in headers:
        raise Malformed(417, "No expectation is met here.")
    text = headers.get("content-length")
    if text is None:
        if method in {"POST", "PUT", "PATCH"}:
            raise Malformed(411, "A Content-Length is needed.")
        return 0
    if not text.isascii() or not text.isdigit():
        raise Malformed(400, "The Content-Length cannot be read.")
    if int(text) > MAX_BODY_BYTES:
        raise Malformed(413, "The body is too large.")
    return int(text)

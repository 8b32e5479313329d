"""Posts to an address on loopback, and to no other."""

from __future__ import annotations

import asyncio
import ipaddress
from urllib.parse import urlsplit

_MAX_ANSWER_BYTES = 64 * 1024


class NoAnswer(Exception):
    """The other side did not answer in time, or not in HTTP; the text says which."""


def loopback(url: str) -> tuple[str, int, str]:
    """Give address, port and target, or raise ValueError for whatever is not plain HTTP on IPv4 loopback."""
    parts = urlsplit(url)
    host = "127.0.0.1" if parts.hostname == "localhost" else parts.hostname or ""
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        is_loopback = ipaddress.IPv4Address(host).is_loopback
    except ValueError:
        is_loopback = False
    if parts.scheme != "http" or not is_loopback or parts.username is not None:
        raise ValueError("a webhook's url is http on an IPv4 loopback address")
    if not target.isascii() or not target.isprintable() or " " in target:
        raise ValueError("a webhook's url has a path of printable ASCII")
    return host, parts.port or 80, target


async def post(url: str, headers: list[tuple[str, str]], body: bytes, seconds: float) -> int:
    """Give the status of the answer; redirects are answers, and are not followed."""
    try:
        async with asyncio.timeout(seconds):
            return await _post(url, headers, body)
    except TimeoutError as error:
        raise NoAnswer("no answer in time") from error
    except (OSError, asyncio.LimitOverrunError, asyncio.IncompleteReadError, ValueError) as error:
        raise NoAnswer(type(error).__name__) from error


async def _post(url: str, headers: list[tuple[str, str]], body: bytes) -> int:
    host, port, target = loopback(url)
    reader, writer = await asyncio.open_connection(host, port)
    try:
        lines = [f"POST {target} HTTP/1.1", f"Host: {host}:{port}", f"Content-Length: {len(body)}", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in headers]
        writer.write("\r\n".join([*lines, "", ""]).encode("ascii") + body)
        await writer.drain()
        line = await reader.readuntil(b"\r\n")
        version, status, *_ = line.split(b" ", 2)
        if not version.startswith(b"HTTP/1.") or not status.strip().isdigit():
            raise ValueError("not HTTP")
        # closing upon unread bytes would reset a server that is still writing
        await reader.read(_MAX_ANSWER_BYTES)
        return int(status)
    finally:
        writer.close()

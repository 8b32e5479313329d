"""A loopback listener that hears webhooks, and answers as a test tells it to."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Heard:
    signature: str
    content_type: str
    raw: bytes

    @property
    def event(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.raw)
        return found

    @property
    def type(self) -> str:
        return str(self.event["type"])

    @property
    def signed_at(self) -> int:
        return int(self.signature.split(",")[0].removeprefix("t="))


@dataclass
class Listener:
    url: str = ""
    heard: list[Heard] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)  # then 200

    def types(self) -> list[str]:
        return [heard.type for heard in self.heard]

    def ids(self) -> list[str]:
        return [str(heard.event["id"]) for heard in self.heard]


@contextmanager
def listening() -> Iterator[Listener]:
    """Give a listener that hears until the end of the block."""
    listener = Listener()

    class Ear(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # the name is the library's
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            listener.heard.append(Heard(self.headers["Stripe-Signature"], self.headers["Content-Type"], raw))
            self.send_response(listener.answers.pop(0) if listener.answers else 200)
            self.send_header("Location", "http://127.0.0.1:9/")  # where no redirect may lead
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the library's
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Ear)
    listener.url = f"http://127.0.0.1:{server.server_port}/hook?a=1"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield listener
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

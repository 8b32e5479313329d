"""A bare HTTP client that shows what came over the wire, and the calls that the tests make most."""

from __future__ import annotations

import http.client
import json
import socket
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

KEY = "sk_test_" + "x" * 8
CREATE = {"amount": "500", "currency": "usd"}
CHARGE = {
    **CREATE,
    "confirm": "true",
    "payment_method": "pm_card_visa",
    "automatic_payment_methods[enabled]": "true",
    "automatic_payment_methods[allow_redirects]": "never",
}


@dataclass(frozen=True)
class Told:
    status: int
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.raw)
        return found

    @property
    def error(self) -> dict[str, Any]:
        found: dict[str, Any] = self.body["error"]
        return found


class Asker:
    """Asks over one kept connection, which it opens again after a fault."""

    def __init__(self, base_url: str) -> None:
        self.host, _, port = base_url.removeprefix("http://").partition(":")
        self.port = int(port)
        self.connection = http.client.HTTPConnection(self.host, self.port, timeout=20)

    def close(self) -> None:
        self.connection.close()

    def get(self, path: str, *, key: str = KEY) -> Told:
        return self.ask("GET", path, None, None, key)

    def post(self, path: str, params: dict[str, str], idem: str | None = None, *, key: str = KEY) -> Told:
        return self.ask("POST", path, params, idem, key)

    def ask(self, method: str, path: str, params: dict[str, str] | None, idem: str | None, key: str) -> Told:
        headers = {"Authorization": f"Bearer {key}"}
        if idem is not None:
            headers["Idempotency-Key"] = idem
        body = None
        if params is not None:
            body = urlencode(params)
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        try:
            self.connection.request(method, path, body, headers)
            response = self.connection.getresponse()
            raw = response.read()
        except (OSError, http.client.HTTPException):
            self.connection.close()
            raise
        return Told(response.status, {k.lower(): v for k, v in response.getheaders()}, raw)

    def create(self, idem: str | None = None, **more: str) -> Told:
        return self.post("/v1/payment_intents", {**CREATE, **more}, idem)

    def charge(self, idem: str | None = None, **more: str) -> Told:
        return self.post("/v1/payment_intents", {**CHARGE, **more}, idem)


def request_bytes(params: dict[str, str], idem: str) -> bytes:
    """Give a create as it goes over a socket."""
    body = urlencode(params)
    return (
        f"POST /v1/payment_intents HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nIdempotency-Key: {idem}\r\n"
        f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


def send_raw(asker: Asker, sent: bytes) -> socket.socket:
    """Give a socket on which these bytes have been sent."""
    sock = socket.create_connection((asker.host, asker.port), timeout=20)
    sock.sendall(sent)
    return sock


def read_to_end(sock: socket.socket) -> tuple[bytes, str]:
    """Give all that came, and how it ended: FIN or RST."""
    got = b""
    with sock:
        while True:
            try:
                part = sock.recv(65536)
            except ConnectionResetError:
                return got, "RST"
            if not part:
                return got, "FIN"
            got += part

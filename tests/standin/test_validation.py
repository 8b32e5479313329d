"""What is refused, in Stripe's words, and leaves nothing behind; and the strictness of the wire."""

from __future__ import annotations

import base64

import pytest

from standin.client import Standin
from tests.standin.asking import CHARGE, CREATE, KEY, Asker, read_to_end, send_raw

INTENTS, CUSTOMERS = "/v1/payment_intents", "/v1/customers"
MANY = {f"metadata[k{n}]": "v" for n in range(51)}
HEAD = f"Host: x\r\nAuthorization: Bearer {KEY}\r\n"


@pytest.mark.parametrize(
    ("path", "params", "code", "param"),
    [
        (INTENTS, {"currency": "usd"}, "parameter_missing", "amount"),
        (INTENTS, {"amount": "500"}, "parameter_missing", "currency"),
        (INTENTS, {**CREATE, "amount": "49"}, "amount_too_small", "amount"),
        (INTENTS, {**CREATE, "amount": "100000000"}, "amount_too_large", "amount"),
        (INTENTS, {**CREATE, "amount": "12.5"}, "parameter_invalid_integer", "amount"),
        (INTENTS, {**CREATE, "amount": "-500"}, "parameter_invalid_integer", "amount"),
        (INTENTS, {**CREATE, "amount": "٥٠٠"}, "parameter_invalid_integer", "amount"),
        (INTENTS, {**CREATE, "amount": ""}, "parameter_invalid_empty", "amount"),
        (INTENTS, {**CREATE, "currency": "zzz"}, None, "currency"),
        (INTENTS, {**CREATE, "colour": "red"}, "parameter_unknown", "colour"),
        (INTENTS, {**CREATE, "shipping[name]": "x"}, "parameter_unknown", "shipping"),
        (
            INTENTS,
            {**CREATE, "payment_method_types[0]": "card"},
            "payment_method_types_no_longer_supported",
            "payment_method_types",
        ),
        (
            INTENTS,
            {**CREATE, "automatic_payment_methods[colour]": "red"},
            "parameter_unknown",
            "automatic_payment_methods[colour]",
        ),
        (INTENTS, {**CREATE, "receipt_email": "no address"}, "email_invalid", "receipt_email"),
        (INTENTS, {**CREATE, "description": "d" * 1001}, None, "description"),
        (INTENTS, {**CREATE, "statement_descriptor_suffix": "d" * 23}, None, "statement_descriptor_suffix"),
        (INTENTS, {**CREATE, **MANY}, None, "metadata"),
        (INTENTS, {**CREATE, f"metadata[{'k' * 41}]": "v"}, None, "metadata"),
        (INTENTS, {**CREATE, "metadata[k]": "v" * 501}, None, "metadata"),
        (INTENTS, {**CREATE, "metadata[a][b]": "v"}, None, "metadata[a]"),
        (INTENTS, {**CREATE, "metadata": "v"}, None, "metadata"),
        (INTENTS, {**CREATE, "confirm": "yes"}, None, "confirm"),
        (
            INTENTS,
            {**CREATE, "confirm": "true", "payment_method": "pm_card_visa"},
            None,
            "return_url",
        ),
        (INTENTS, {**CHARGE, "error_on_requires_action": "true"}, None, "error_on_requires_action"),
        (INTENTS, {**CHARGE, "allowed_payment_method_types[]": "card"}, "parameters_exclusive", None),
        (CUSTOMERS, {"email": "a@b"}, "email_invalid", "email"),
        (CUSTOMERS, {"email": "a b@example.com"}, "email_invalid", "email"),
        (CUSTOMERS, {"name": "n" * 257}, None, "name"),
        (CUSTOMERS, {"phone": "1" * 21}, None, "phone"),
    ],
)
def test_refused(
    standin: Standin, ask: Asker, path: str, params: dict[str, str], code: str | None, param: str | None
) -> None:
    told = ask.post(path, params, "k")
    assert (told.status, told.error["type"]) == (400, "invalid_request_error")
    assert (told.error.get("code"), told.error.get("param")) == (code, param)
    assert standin.effects() == []


@pytest.mark.parametrize(
    "more",
    [
        {"automatic_payment_methods[enabled]": "true", "return_url": "https://example.com"},
        {"automatic_payment_methods[enabled]": "true", "off_session": "true"},
        {"automatic_payment_methods[enabled]": "false"},
        {"allowed_payment_method_types[0]": "card"},
        {"return_url": "https://example.com"},
    ],
)
def test_ways_to_confirm_at_once(ask: Asker, more: dict[str, str]) -> None:
    told = ask.post(INTENTS, {**CREATE, "confirm": "true", "payment_method": "pm_card_visa", **more})
    assert told.body.get("status") == "succeeded", told.raw


def test_the_limits_themselves_are_taken(ask: Asker) -> None:
    metadata = {f"metadata[{n}]": "v" * 500 for n in range(50)}
    made = ask.create(amount="99999999", description="ö" * 1000, **metadata)
    assert made.status == 200
    assert made.body["metadata"] == {str(n): "v" * 500 for n in range(50)}
    assert ask.create(amount="50").body["livemode"] is False


@pytest.mark.parametrize(
    ("key", "status"),
    [
        ("", 401),
        ("sk_test_", 401),
        ("pk_test_xxxx", 401),
        ("sk_" + "live_xxxx", 401),
        ("sk_test_invalid1", 401),
        ("sk_test_forbidden1", 403),
        ("rk_test_xxxx", 200),
    ],
)
def test_keys(ask: Asker, key: str, status: int) -> None:
    told = ask.get("/v1/account", key=key)
    assert told.status == status
    assert not key or key.encode() not in told.raw


def test_basic_authentication(ask: Asker) -> None:
    encoded = base64.b64encode(f"{KEY}:".encode()).decode()
    sent = f"GET /v1/account HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {encoded}\r\nConnection: close\r\n\r\n"
    assert read_to_end(send_raw(ask, sent.encode()))[0].startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize("path", ["/v1/nothing", "/v1/payment_intents/search", "/", "/v1/refunds/re_1/cancel"])
def test_an_unknown_path(ask: Asker, path: str) -> None:
    told = ask.get(path)
    assert (told.status, told.error["type"]) == (404, "invalid_request_error")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ("NONSENSE\r\n\r\n", 400),
        ("GET /v1/account HTTP/2.0\r\nHost: x\r\n\r\n", 400),
        ("GET /v1/account HTTP/1.1\r\n\r\n", 400),
        (f"GET /v1/account HTTP/1.1\r\n{HEAD} folded: x\r\n\r\n", 400),
        (f"GET /v1/account HTTP/1.1\r\n{HEAD}A: b\x01\r\n\r\n", 400),
        (f"POST /v1/customers HTTP/1.1\r\n{HEAD}\r\n", 411),
        (f"POST /v1/customers HTTP/1.1\r\n{HEAD}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
        (f"POST /v1/customers HTTP/1.1\r\n{HEAD}Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
        (f"POST /v1/customers HTTP/1.1\r\n{HEAD}Content-Length: -1\r\n\r\n", 400),
        (f"POST /v1/customers HTTP/1.1\r\n{HEAD}Content-Length: 99999999\r\n\r\n", 413),
        (f"GET /v1/account HTTP/1.1\r\n{HEAD}A: {'b' * 70000}\r\n\r\n", 431),
    ],
)
def test_what_is_no_request_ends_the_connection(standin: Standin, ask: Asker, sent: str, status: int) -> None:
    got, _ = read_to_end(send_raw(ask, sent.encode()))
    assert got.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"Connection: close" in got
    assert standin.effects() == []


@pytest.mark.parametrize("body", ["a=%ff", "a[=1", "a=1&a[b]=2", "ä=1"])
def test_a_form_that_cannot_be_read(standin: Standin, ask: Asker, body: str) -> None:
    raw = body.encode()
    form = "Content-Type: application/x-www-form-urlencoded\r\nConnection: close\r\n"
    head = f"POST /v1/customers HTTP/1.1\r\n{HEAD}{form}Content-Length: {len(raw)}\r\n\r\n"
    assert read_to_end(send_raw(ask, head.encode() + raw))[0].startswith(b"HTTP/1.1 400 ")
    assert standin.effects() == []


def test_json_is_refused(standin: Standin, ask: Asker) -> None:
    form = "Content-Type: application/json\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
    got, _ = read_to_end(send_raw(ask, f"POST /v1/customers HTTP/1.1\r\n{HEAD}{form}".encode()))
    assert got.startswith(b"HTTP/1.1 400 ")
    assert standin.effects() == []

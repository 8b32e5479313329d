"""Bad input: the status, the code, and never the value in the answer."""

from typing import Any

import pytest

from tests.api.front import CHARGE, CHARGES, CUSTOMERS, INTENT, PAYMENTS, Front

pytestmark = pytest.mark.anyio

JSON = {"Content-Type": "application/json"}
CARD = "4242" * 4


def _charge(**fields: Any) -> dict[str, Any]:
    return {**CHARGE, **fields}


RAW = [
    (b'{"amount": NaN}', 400, "invalid_json"), (b'{"amount": Infinity}', 400, "invalid_json"),
    (b'{"amount": -Infinity}', 400, "invalid_json"), (b"", 400, "invalid_json"),
    (b'{"amount": 1} x', 400, "invalid_json"), (b'{"amount": 1} // c', 400, "invalid_json"),
    (b"{'amount': 1}", 400, "invalid_json"), (b'{"amount": 1', 400, "invalid_json"),
    (b'\xef\xbb\xbf{"amount": 1}', 400, "invalid_json"), ('{"amount": 1}'.encode("utf-16"), 400, "invalid_json"),
    (b'{"description": "\xff"}', 400, "invalid_json"), (b'{"description": "\x01"}', 400, "invalid_json"),
    (b'{"metadata":' * 9 + b"1" + b"}" * 9, 400, "invalid_json"), (b"[" * 60_000, 400, "invalid_json"),
    (b'{"amount": 1, "amount": 2}', 400, "duplicate_key"),
    (b'{"metadata": {"a": "1", "a": "2"}}', 400, "duplicate_key"),
    (b"null", 422, "object_required"), (b"[]", 422, "object_required"), (b'"x"', 422, "object_required"),
    (b"7", 422, "object_required"),
    (b'{"amount": 1e309, "payment_method_id": "pm_x"}', 422, "amount_format"),
    (b'{"amount": 1e999999999, "payment_method_id": "pm_x"}', 422, "amount_format"),
    (b'{"amount": 1E2, "payment_method_id": "pm_x"}', 422, "amount_format"),
    (b'{"amount": 10.000, "payment_method_id": "pm_x"}', 422, "amount_precision"),
    (b'{"amount": 0.001, "payment_method_id": "pm_x"}', 422, "amount_precision"),
    (b'{"amount": 0.' + b"0" * 10_000 + b'1, "payment_method_id": "pm_x"}', 422, "amount_precision"),
    (b'{"amount": ' + b"9" * 5_000 + b', "payment_method_id": "pm_x"}', 422, "amount_too_large"),
    (b'{"amount": 1, "payment_method_id": "pm_x", "description": "\\ud800"}', 422, "invalid_text"),
    (b'{"amount": "\\ud800", "payment_method_id": "pm_x"}', 422, "amount_format"),
    (b'{"amount": 1, "payment_method_id": "pm_x", "description": "\\u0000"}', 422, "invalid_text"),
    (b'{"amount": 1, "payment_method_id": "pm_x", "description": 7}', 422, "text_required"),
]


@pytest.mark.parametrize(("body", "status", "code"), RAW, ids=[repr(body[:40]) for body, _, _ in RAW])
async def test_bytes(front: Front, body: bytes, status: int, code: str) -> None:
    response = await front.client.post(CHARGES, content=body, headers=JSON)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert (await front.client.get("/api/jobs")).json()["data"] == []


FIELDS = [
    (_charge(amount=0.49), "amount_too_small"), (_charge(amount=1000000), "amount_too_large"),
    (_charge(amount=-5), "amount_too_small"),
    (_charge(amount="ten"), "amount_format"), (_charge(amount="1_000"), "amount_format"),
    (_charge(amount=" 10 "), "amount_format"), (_charge(amount="+5"), "amount_format"),
    (_charge(amount="1,000.00"), "amount_format"), (_charge(amount="$5"), "amount_format"),
    (_charge(amount="\uff11\uff10"), "amount_format"), (_charge(amount="nan"), "amount_format"),
    (_charge(amount="inf"), "amount_format"), (_charge(amount=True), "amount_type"),
    (_charge(amount=None), "amount_type"), (_charge(amount=[]), "amount_type"), (_charge(amount={}), "amount_type"),
    (_charge(amount=""), "amount_type"), ({"payment_method_id": "pm_x"}, "missing_field"),
    ({"amount": 1}, "missing_field"), (_charge(ammount=2), "unknown_field"),
    (_charge(callback_url="http://evil.example"), "unknown_field"), (_charge(amount_cents="77.10"), "unknown_field"),
    ({"amount_cents": "77.10", "payment_method_id": "pm_x"}, "missing_field"),
    (_charge(currency="eur"), "currency_unsupported"), (_charge(currency="USD "), "currency_unsupported"),
    (_charge(description="\r\n2026 PAID $9999"), "invalid_text"), (_charge(description="x" * 1001), "too_long"),
    (_charge(metadata={f"k{n}": "v" for n in range(46)}), "metadata_limit"),
    (_charge(metadata={"k" * 41: "v"}), "metadata_limit"), (_charge(metadata={"k": "v" * 501}), "metadata_limit"),
    (_charge(metadata={"k[0]": "v"}), "metadata_limit"), (_charge(metadata={"k": 7}), "text_required"),
    (_charge(metadata="x"), "metadata_type"), (_charge(metadata={"paydesk_job_id": "job_x"}), "metadata_reserved"),
    (_charge(email="a@b"), "email_invalid"), (_charge(email="a" * 10_000 + "@b.example"), "email_invalid"),
    (_charge(email="a@b@c.example"), "email_invalid"), (_charge(email="a@b.example,c@d.example"), "email_invalid"),
    (_charge(email="a@b.example\nBcc: c@d.example"), "invalid_text"),
    (_charge(description=CARD), "card_data_refused"),
    (_charge(description="4242 4242 4242 4242"), "card_data_refused"),
    (_charge(description="4242-4242-4242-4242"), "card_data_refused"),
    (_charge(metadata={CARD: "x"}), "card_data_refused"),
    (_charge(description="".join(chr(0xFF10 + int(digit)) for digit in CARD)), "card_data_refused"),
    (_charge(description="\u200d".join(CARD)), "card_data_refused"), (_charge(**{CARD: 1}), "unknown_field"),
    (_charge(description="sk_live_" + "x" * 24), "secret_refused"),
    (_charge(description="whsec_" + "x" * 24), "secret_refused"),
    (_charge(description="pi_x_secret_y"), "secret_refused"), (_charge(**{"sk_live_" + "x" * 24: 1}), "unknown_field"),
    (_charge(payment_method_id="../../customers"), "id_format"),
    (_charge(payment_method_id="pm_x?expand[]="), "id_format"),
    (_charge(payment_method_id="pm_%2e%2e"), "id_format"), (_charge(payment_method_id="pm_" + "x" * 300), "id_format"),
    (_charge(customer_id="pm_x"), "id_format"),
]


def _values(value: Any) -> list[str]:
    """Every text in a body that is long enough to be recognised."""
    if isinstance(value, dict):
        return [text for name, child in value.items() for text in (*_values(child), *_values(name))]
    return [value] if isinstance(value, str) and len(value) > 3 else []


KNOWN = {"amount", "payment_method_id", "description", "metadata", "email", "currency", "customer_id", "ammount",
         "callback_url", "amount_cents"}


@pytest.mark.parametrize(("body", "code"), FIELDS, ids=[f"{code}-{number}" for number, (_, code) in enumerate(FIELDS)])
async def test_fields(front: Front, body: dict[str, Any], code: str) -> None:
    response = await front.charge(body)
    assert (response.status_code, response.json()["code"]) == (422, code)
    assert code in {error["code"] for error in response.json()["errors"]}
    assert [text for text in _values(body) if text not in KNOWN and text in response.text] == []
    assert (await front.client.get("/api/jobs")).json()["data"] == []


async def test_every_refused_field_is_named(front: Front) -> None:
    response = await front.client.post(CUSTOMERS, json={"email": "x", "phone": "12", "nam": "y"})
    faults = {error["pointer"]: error["code"] for error in response.json()["errors"]}
    assert faults == {"/email": "email_invalid", "/phone": "phone_invalid", "/nam": "unknown_field"}


@pytest.mark.parametrize("text", [
    "{0.__class__}", "%n", "${jndi:ldap://x}", "{{7*7}}", "=cmd|' /C calc'!A1", "@SUM", "\u202eright to left",
    "*1 $8 FLUSHALL", "order 123456789012"])
async def test_plain_text_is_plain(front: Front, text: str) -> None:
    body = _charge(description=text, metadata={"__proto__": text, "constructor": "x"})
    assert (await front.charge(body)).status_code == 202


@pytest.mark.parametrize("content_type", [
    None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
    "application/json; charset=utf-16", "application/jsonx", "application/json, text/plain"])
async def test_other_media_types(front: Front, content_type: str | None) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    response = await front.client.post(CHARGES, content=b'{"amount": 1}', headers=headers)
    assert (response.status_code, response.json()["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize("content_type", [
    "application/json", 'Application/JSON; charset="UTF-8"', "application/json;charset=utf-8"])
async def test_json_in_utf_8(front: Front, content_type: str) -> None:
    body = '{"amount": 1, "payment_method_id": "pm_x", "description": "ž €"}'.encode()
    assert (await front.client.post(CHARGES, content=body, headers={"Content-Type": content_type})).status_code == 202


async def test_a_compressed_body(front: Front) -> None:
    response = await front.client.post(CHARGES, content=b"x", headers=JSON | {"Content-Encoding": "gzip"})
    assert response.status_code == 415


async def test_a_body_too_large_is_not_read(front: Front) -> None:
    sent = 0

    async def endless() -> Any:
        nonlocal sent
        while True:
            sent += 1
            yield b" " * 16_384

    response = await front.client.post(CHARGES, content=endless(), headers=JSON)
    assert (response.status_code, response.json()["code"]) == (413, "payload_too_large")
    assert response.headers["connection"] == "close"
    assert sent <= 6
    sent = 0
    response = await front.client.post(CHARGES, content=endless(), headers=JSON | {"Content-Length": "60000000"})
    assert (response.status_code, sent) == (413, 0)


@pytest.mark.parametrize("key", [
    "", '""', "x" * 256, "a b", '"a', '"a"b', "é".encode("latin-1"), '"' + "x" * 256 + '"'])
async def test_idempotency_keys_that_cannot_be(front: Front, key: str | bytes) -> None:
    raw = key.encode() if isinstance(key, str) else key
    response = await front.client.post(CHARGES, json=CHARGE, headers=[(b"idempotency-key", raw)])
    assert (response.status_code, response.json()["code"]) == (400, "invalid_idempotency_key")


async def test_two_idempotency_keys(front: Front) -> None:
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "a")]
    assert (await front.client.post(CHARGES, json=CHARGE, headers=headers)).status_code == 400


@pytest.mark.parametrize("key", ["x", "x" * 255, "{}*?[", '"a\\"b"', "\\r\\n*1"])
async def test_idempotency_keys(front: Front, key: str) -> None:
    assert (await front.charge(**{"Idempotency-Key": key})).status_code == 202


QUERIES = [
    ("", "missing_field"), ("amount=nan", "amount_format"), ("amount=1_0", "amount_format"),
    ("amount=%2010%20", "amount_format"), ("amount=+10", "amount_format"), ("amount=", "amount_type"),
    ("amount=10&amount=10", "duplicate_parameter"), ("amount=10&metadata=x", "unknown_field"),
    ("amount=10&email=a@b", "email_invalid"), ("amount=10&description=%00", "invalid_text"),
    ("amount=10&description=%ff", "invalid_parameter"), ("amount=10&description=" + CARD, "card_data_refused"),
    ("amount=10&" + CARD + "=1", "unknown_field"), ("&".join(f"a{n}=1" for n in range(99)), "invalid_parameter"),
    ("amount=10&currency=eur", "currency_unsupported")]


@pytest.mark.parametrize(("query", "code"), QUERIES)
async def test_the_query_of_the_get(front: Front, query: str, code: str) -> None:
    response = await front.client.get(f"{INTENT}?{query}")
    assert (response.status_code, response.json()["code"]) == (422, code)
    assert CARD not in response.text
    assert (await front.client.get("/api/jobs")).json()["data"] == []


async def test_an_amount_is_read_from_its_text(front: Front) -> None:
    body = b'{"amount": 1111.10}'
    job = (await front.client.post(PAYMENTS, content=body, headers=JSON)).json()
    stored = await front.worker.store.get(job["id"])
    assert stored is not None
    assert (stored.amount_cents, stored.params["amount"], job["amount"]) == (111110, 111110, 1111.1)

"""Requests: every rule of every field with its code, and never a value in a refusal."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.card_numbers import LENGTHS_BY_ISSUER
from shared.requests import ChargeRequest, CustomerRequest, Literal, PaymentIntentRequest, Request

CHARGE: dict[str, Any] = {"amount": Literal("50"), "payment_method_id": "pm_1"}
CUSTOMER: dict[str, Any] = {"email": "a@example.com"}
CARD = "4242424242424242"
MARK = "XYZZY"


def codes(request: type[Request], body: dict[str, Any]) -> list[str]:
    """The code of each refusal; no sentence repeats a marked value."""
    sentences, shown = "", []
    try:
        request.model_validate(body)
    except ValidationError as refused:
        shown = refused.errors(include_input=False, include_url=False)
        sentences = str(refused)
    assert MARK not in sentences + str([error["msg"] for error in shown])
    return [error["type"] for error in shown]


def charge_codes(**fields: Any) -> list[str]:
    return codes(ChargeRequest, {**CHARGE, **fields})


@pytest.mark.parametrize(("amount", "code"), [
    (True, "amount_type"), (None, "amount_type"), ([], "amount_type"), ({}, "amount_type"), ("", "amount_type"),
    (10, "amount_type"), (10.5, "amount_type"), ("ten", "amount_format"), (Literal("1E2"), "amount_format"),
    ("nan", "amount_format"), ("１０", "amount_format"), ("\ud800", "amount_format"),
    (Literal("0.001"), "amount_precision"), (Literal("0.49"), "amount_too_small"), (Literal("-5"), "amount_too_small"),
    (Literal("1000000"), "amount_too_large"), (Literal("9" * 5000), "amount_too_large")])
def test_an_amount_is_exact_or_refused(amount: object, code: str) -> None:
    assert charge_codes(amount=amount) == [code]


def test_missing_and_unknown_fields() -> None:
    assert codes(ChargeRequest, {}) == ["missing", "missing"]
    assert codes(CustomerRequest, {}) == ["missing"]
    for name in ("ammount", "callback_url", "api_base", "amount_cents", "mode", "__class__"):
        assert charge_codes(**{name: "1"}) == ["extra_forbidden"]


def test_an_amount_in_cents_is_not_taken_for_dollars() -> None:
    assert codes(ChargeRequest, {"amount_cents": "1000", "payment_method_id": "pm_1"}) == ["missing", "extra_forbidden"]


@pytest.mark.parametrize("currency", ["eur", "USD", "usd ", "", None, 1, ["usd"]])
def test_the_only_currency_is_usd(currency: object) -> None:
    assert charge_codes(currency=currency) == ["currency_unsupported"]


@pytest.mark.parametrize("field", ["description", "email", "payment_method_id", "customer_id"])
@pytest.mark.parametrize(("value", "code"), [
    (1, "text_required"), (True, "text_required"), (["x"], "text_required"), (Literal("1"), "text_required"),
    (f"{MARK}\ud800", "invalid_text"), (f"{MARK}\x00", "invalid_text"), (f"{MARK}\r\n2026 PAID", "invalid_text"),
    (f"{MARK}\x7f", "invalid_text"), (f"{MARK}\x85", "invalid_text"), (f"{MARK} {CARD}", "card_data_refused"),
    (f"{MARK} sk_live_{'a' * 24}", "secret_refused")])
def test_a_text_is_text_without_controls_cards_or_secrets(field: str, value: object, code: str) -> None:
    assert charge_codes(**{field: value}) == [code]


def test_a_required_text_may_not_be_null_and_an_optional_one_may() -> None:
    assert charge_codes(payment_method_id=None) == ["text_required"]
    assert charge_codes(description=None, email=None, customer_id=None, metadata=None) == []


def test_lengths() -> None:
    assert charge_codes(description="x" * 1000) == []
    assert charge_codes(description=MARK * 200 + "x") == ["too_long"]
    assert codes(CustomerRequest, CUSTOMER | {"name": "x" * 256}) == []
    assert codes(CustomerRequest, CUSTOMER | {"name": "x" * 257}) == ["too_long"]


@pytest.mark.parametrize("email", [
    "a@b", f"{MARK}@", "@example.com", "a@@example.com", "a@b@example.com", "a b@example.com", "a@b.com,c@d.com",
    "a@example.c", "a@-example.com", "a@example-.com", "ä@example.com", "a@exämple.com", "a" * 65 + "@example.com", "",
    f"a@{'b' * 10_000}.com", "a@" + "b." * 300 + "com", "<a@example.com>"])
def test_what_is_no_address(email: str) -> None:
    assert charge_codes(email=email) == ["email_invalid"]


@pytest.mark.parametrize("email", ["a@example.com", "a.b+c@mail.example.co.uk", "O'Hara@example.com", "1@2.example"])
def test_what_is_an_address(email: str) -> None:
    assert charge_codes(email=email) == []


@pytest.mark.parametrize("phone", ["+4930123456", "+1234567", "+123456789012345"])
def test_what_is_a_phone_number(phone: str) -> None:
    assert codes(CustomerRequest, CUSTOMER | {"phone": phone}) == []


@pytest.mark.parametrize("phone", ["4930123456", "+123456", "+49 30 123456", "+４９３０１２３４５６", "", "+49301234x"])
def test_what_is_no_phone_number(phone: str) -> None:
    assert codes(CustomerRequest, CUSTOMER | {"phone": phone}) == ["phone_invalid"]


@pytest.mark.parametrize("value", [
    "../../customers", "pm_x?expand[]=", "pm_%2e%2e", "pm_" + "x" * 300, "pm_", "PM_1", "cus_", "pm_1 ", " pm_1",
    "pm_ä", "pm_1/2", "", "pm-1"])
def test_ids_have_their_shape(value: str) -> None:
    assert charge_codes(payment_method_id=value) == ["id_format"]
    assert charge_codes(customer_id=value) == ["id_format"]


def test_names_that_a_spreadsheet_would_run_are_plain_texts() -> None:
    for name in ("=cmd|' /C calc'!A1", "@SUM", "+1", "-1", "{0.__class__}", "${jndi:ldap://x}", "{{7*7}}", "%n", "😀"):
        assert codes(CustomerRequest, CUSTOMER | {"name": name}) == []


@pytest.mark.parametrize(("metadata", "code"), [
    ([], "metadata_type"), ("x", "metadata_type"), (1, "metadata_type"),
    ({f"k{n}": "x" for n in range(46)}, "metadata_limit"), ({"k" * 41: "x"}, "metadata_limit"),
    ({"": "x"}, "metadata_limit"), ({"k": MARK * 101}, "metadata_limit"), ({"k[0]": "x"}, "metadata_limit"),
    ({"k]": "x"}, "metadata_limit"), ({"paydesk_job_id": "x"}, "metadata_reserved"),
    ({"paydesk_": "x"}, "metadata_reserved"), ({"k": 1}, "text_required"), ({"k": Literal("1")}, "text_required"),
    ({"k": None}, "text_required"), ({"k": {"a": "b"}}, "text_required"), ({"k": "\x00"}, "invalid_text"),
    ({"\x00": "x"}, "invalid_text"), ({CARD: "x"}, "card_data_refused"), ({"k": CARD}, "card_data_refused")])
def test_metadata_has_stripes_limits_and_none_of_our_keys(metadata: object, code: str) -> None:
    assert charge_codes(metadata=metadata) == [code]


def test_metadata_at_its_limits_and_with_odd_names_is_plain_data() -> None:
    assert charge_codes(metadata={f"{n:040}"[::-1].replace("0", "k"): "x" * 500 for n in range(45)}) == []
    assert charge_codes(metadata={"__proto__": "x", "constructor": "x", "Paydesk_x": "x"}) == []
    assert charge_codes(metadata={}) == []


@pytest.mark.parametrize("text", [
    CARD, "4242 4242 4242 4242", "4242-4242-4242-4242", "4242.4242.4242.4242", "４２４２４２４２４２４２４２４２",
    "٤٢٤٢٤٢٤٢٤٢٤٢٤٢٤٢", "4242\u200b4242\u200d4242\u20604242", "4242\u00a04242\u30004242\ufeff4242",
    "4242–4242–4242–4242", "4242\u00ad4242\u00ad4242\u00ad4242", "4242\u200e4242\u200f4242\u22124242",
    "card 4242424242424242, thanks", "378282246310005", "4222222222222", "6304000000000000000", "x4242424242424242x",
    "00004242424242424242"])
def test_a_card_number_is_refused_however_it_is_written(text: str) -> None:
    assert charge_codes(description=text) == ["card_data_refused"]


@pytest.mark.parametrize("text", [
    "1234567890", "1795461320555", "0000000000000000", "9999999999999995", "4242424242421", "order 2026-11-23 / 17",
    "+49 30 123456789", "1" * 64_000, "4242x4242x4242x4242", "424242424242"])
def test_other_digits_are_no_card(text: str) -> None:
    assert "card_data_refused" not in charge_codes(description=text)


@given(st.text(alphabet="0123456789", min_size=12, max_size=30), st.randoms(use_true_random=False))
def test_cards_are_found_as_a_plain_check_of_every_window_finds_them(digits: str, chance: random.Random) -> None:
    spaced = "".join(digit + chance.choice(["", " ", "-", "\u200b"]) for digit in digits)
    windows = [digits[start:start + length] for length in range(13, 20) for start in range(len(digits) - length + 1)]
    cards = (window for window in windows if len(window) in LENGTHS_BY_ISSUER.get(window[:2], ()) and luhn(window))
    expected = ["card_data_refused"] if any(cards) else []
    assert charge_codes(description=spaced) == expected


def luhn(digits: str) -> bool:
    odd, even = digits[-1::-2], digits[-2::-2]
    return (sum(map(int, odd)) + sum(sum(map(int, str(2 * int(digit)))) for digit in even)) % 10 == 0


@pytest.mark.parametrize("text", [f"sk_live_{'a' * 24}", f"rk_test_{'b' * 24}", f"whsec_{'c' * 24}", "pi_x_secret_y",
                                  f"my key is sk_test_{'A1' * 8}!"])
def test_secrets_are_refused(text: str) -> None:
    assert charge_codes(description=text) == ["secret_refused"]


def test_the_body_hash_is_of_the_meaning_and_not_of_the_writing() -> None:
    bodies: list[dict[str, Any]] = [{"amount": amount, "payment_method_id": "pm_1", "metadata": {"a": "1", "b": "2"}}
              for amount in (Literal("10"), Literal("10.00"), "10.0")]
    bodies += [dict(reversed(bodies[0].items())), {**bodies[0], "metadata": {"b": "2", "a": "1"}},
               {**bodies[0], "currency": "usd"}, {**bodies[0], "description": None}]
    assert len({ChargeRequest.model_validate(body).body_hash() for body in bodies}) == 1


@pytest.mark.parametrize("change", [{"amount": "50.01"}, {"payment_method_id": "pm_2"}, {"description": "x"},
                                    {"metadata": {"a": "1"}}, {"metadata": {}}, {"customer_id": "cus_1"}])
def test_any_other_meaning_has_another_hash(change: dict[str, Any]) -> None:
    assert ChargeRequest.model_validate(CHARGE).body_hash() != ChargeRequest.model_validate(CHARGE | change).body_hash()


def test_a_request_says_its_kind_and_is_frozen() -> None:
    intent = PaymentIntentRequest.model_validate({"amount": "10"})
    assert [intent.kind, ChargeRequest.model_validate(CHARGE).kind, CustomerRequest(email="a@example.com").kind] == [
        "payment_intent", "charge", "customer"]
    with pytest.raises(ValidationError):
        intent.amount_cents = 1  # type: ignore[misc]  # what must be refused
    assert intent.normalised() == {"amount_cents": 1000, "currency": "usd"}

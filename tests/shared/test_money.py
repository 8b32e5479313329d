"""Money: text to integer cents, exactly or not at all."""

import re
import sys
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.money import MAX_CENTS, MIN_CENTS, AmountFault, AmountRefused, cents_from_text, dollars_number, dollars_text

PLAIN = re.compile(r"(0|[1-9][0-9]*)(\.[0-9]{1,2})?", re.ASCII)


def fault_of(text: str) -> AmountFault:
    with pytest.raises(AmountRefused) as refused:
        cents_from_text(text)
    return refused.value.fault


@given(st.integers(MIN_CENTS, MAX_CENTS))
def test_cents_to_text_and_back_are_the_same_cents(cents: int) -> None:
    assert cents_from_text(dollars_text(cents)) == cents


@given(st.integers(MIN_CENTS, MAX_CENTS))
def test_the_shown_number_is_the_nearest_float_and_reads_as_the_same_amount(cents: int) -> None:
    shown = repr(dollars_number(cents))
    assert Decimal(shown) * 100 == cents
    assert cents_from_text(shown) == cents


@given(st.text(alphabet="0123456789.-+eE_, ٣５$nafi\n", max_size=14) | st.text(max_size=12)
       | st.from_regex(PLAIN, fullmatch=True))
def test_any_text_is_its_exact_value_or_refused(text: str) -> None:
    try:
        cents = cents_from_text(text)
    except AmountRefused:
        assert not (PLAIN.fullmatch(text) and MIN_CENTS <= Decimal(text) * 100 <= MAX_CENTS)
    else:
        assert PLAIN.fullmatch(text)
        assert Decimal(cents) == Decimal(text) * 100


@pytest.mark.parametrize("text", [
    "NaN", "nan", "Infinity", "-Infinity", "inf", "1e309", "1e999999999", "1E2", "ten", "1_000", " 10 ", "+5",
    "1,000.00", "$5", "", " ", "1.", ".5", "5.", "1..0", "0x10", "00.50", "01", "10\n", "１０", "١٠",
    "--5", "1 0", "5-", "\ud800"])
def test_any_other_notation_is_refused_as_such(text: str) -> None:
    assert fault_of(text) is AmountFault.FORMAT


@pytest.mark.parametrize(("text", "fault"), [
    ("0.001", AmountFault.PRECISION), ("10.000", AmountFault.PRECISION), ("-0.001", AmountFault.PRECISION),
    ("0.49", AmountFault.TOO_SMALL), ("0", AmountFault.TOO_SMALL), ("0.00", AmountFault.TOO_SMALL),
    ("-5", AmountFault.TOO_SMALL), ("-0", AmountFault.TOO_SMALL), ("-1000000", AmountFault.TOO_SMALL),
    ("1000000.00", AmountFault.TOO_LARGE), ("999999.999", AmountFault.PRECISION), ("1000000", AmountFault.TOO_LARGE)])
def test_each_refusal_says_its_reason(text: str, fault: AmountFault) -> None:
    assert fault_of(text) is fault


@pytest.mark.parametrize(("text", "cents"), [
    ("0.50", 50), ("0.5", 50), ("10", 1000), ("10.0", 1000), ("10.00", 1000), ("25.50", 2550),
    ("999999.99", 99_999_999)])
def test_plain_dollars_are_cents(text: str, cents: int) -> None:
    assert cents_from_text(text) == cents


def test_huge_numbers_are_refused_without_computing_them() -> None:
    """Python itself refuses to make an integer of so many digits, so nobody tried."""
    digits = "9" * (10 * sys.get_int_max_str_digits())
    assert fault_of(digits) is AmountFault.TOO_LARGE
    assert fault_of(f"0.{digits}") is AmountFault.PRECISION
    assert fault_of(f"{digits}.{digits}") is AmountFault.PRECISION
    assert fault_of(f"-{digits}") is AmountFault.TOO_SMALL
    assert fault_of(f"{digits}x") is AmountFault.FORMAT


@pytest.mark.parametrize("fault", AmountFault)
def test_no_sentence_repeats_a_value(fault: AmountFault) -> None:
    assert str(AmountRefused(fault))
    assert "%" not in str(AmountRefused(fault))


@pytest.mark.parametrize(("cents", "text"), [
    (0, "0.00"), (5, "0.05"), (2550, "25.50"), (-2550, "-25.50"), (-5, "-0.05"), (10**17 + 1, "1000000000000000.01")])
def test_cents_are_shown_with_two_decimals(cents: int, text: str) -> None:
    assert dollars_text(cents) == text

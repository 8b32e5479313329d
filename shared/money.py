"""Money is text turned into integer cents, exactly or not at all; nothing here ever computes with a float."""

import re
from enum import StrEnum

MIN_CENTS = 50
"""Stripe's least charge in USD (docs.stripe.com/currencies, read 2026-11-23)."""
MAX_CENTS = 99_999_999
"""Stripe's greatest charge in USD (stripe-python 16.1 `_payment_intent_create_params.py`, read 2026-11-23)."""

_DOLLARS = re.compile(r"(-?)(0|[1-9][0-9]*)(?:\.([0-9]+))?", re.ASCII)


class AmountFault(StrEnum):
    """Why a text is not an amount; each value is the wire code of the refusal."""

    FORMAT = "amount_format"
    PRECISION = "amount_precision"
    TOO_SMALL = "amount_too_small"
    TOO_LARGE = "amount_too_large"


class AmountRefused(ValueError):
    """The text is no amount that a charge may have; `fault` says why."""

    def __init__(self, fault: AmountFault) -> None:
        self.fault = fault
        super().__init__(_SENTENCES[fault])


_SENTENCES = {
    AmountFault.FORMAT: "An amount is written as plain digits with an optional decimal point, like 25.50.",
    AmountFault.PRECISION: "An amount in US dollars has at most two decimals.",
    AmountFault.TOO_SMALL: "The amount must be at least 0.50.",
    AmountFault.TOO_LARGE: "The amount must be at most 999999.99.",
}


def cents_from_text(text: str) -> int:
    """Turn US dollars as written ("25.50") into cents, exactly.

    Raises AmountRefused for any other notation, for more than two decimals, and outside 0.50 to 999999.99.
    Linear in the length of the text, so a number of any size is refused cheaply.
    """
    match = _DOLLARS.fullmatch(text)
    if match is None:
        raise AmountRefused(AmountFault.FORMAT)
    sign, whole, decimals = match[1], match[2], match[3] or ""
    if len(decimals) > 2:
        raise AmountRefused(AmountFault.PRECISION)
    if sign:
        raise AmountRefused(AmountFault.TOO_SMALL)
    if len(whole) > len(str(MAX_CENTS)):
        raise AmountRefused(AmountFault.TOO_LARGE)
    cents = int(whole) * 100 + int(decimals.ljust(2, "0"))
    if cents < MIN_CENTS:
        raise AmountRefused(AmountFault.TOO_SMALL)
    if cents > MAX_CENTS:
        raise AmountRefused(AmountFault.TOO_LARGE)
    return cents


def dollars_text(cents: int) -> str:
    """Cents as dollars with two decimals: 2550 → "25.50"; the inverse of `cents_from_text`."""
    sign, cents = ("-", -cents) if cents < 0 else ("", cents)
    return f"{sign}{cents // 100}.{cents % 100:02d}"


def dollars_number(cents: int) -> float:
    """The JSON number that the wire contract shows for cents: 2550 → 25.5. For rendering only, never to compute with.

    Parsing the decimal text gives the nearest float, whose shortest form is that text again below 2^53 cents.
    """
    return float(dollars_text(cents))

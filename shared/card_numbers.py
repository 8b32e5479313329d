"""Card numbers in text: found so that they are refused before anything keeps them."""

import re
from itertools import accumulate

_BETWEEN_DIGITS = r"[\s\-.\u00ad\u200b-\u200f\u2010-\u2015\u2060\u2212\ufeff\uff0d]"
_CARD_LIKE = re.compile(rf"(?:\d{_BETWEEN_DIGITS}*){{13}}")
_NOT_DIGIT = re.compile(_BETWEEN_DIGITS)
_LUHN_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)

_LONG = range(16, 20)
LENGTHS_BY_ISSUER = (
    {str(first): (13, 16, 19) for first in range(40, 50)}  # Visa
    | {str(first): (16,) for first in (*range(22, 28), *range(51, 56))}  # Mastercard
    | {str(first): range(13, 20) for first in (50, *range(56, 59), 63, 67)}  # Maestro
    | {"34": (15,), "37": (15,)}  # American Express
    | {str(first): range(14, 20) for first in (30, 36, 38, 39)}  # Diners Club
    | {"35": _LONG}  # JCB
    | {str(first): _LONG for first in (60, 62, 64, 65, 81)})  # Discover, UnionPay, RuPay
"""How long a card number may be, by its first two digits (ISO/IEC 7812 issuer identification numbers). Without this,
most long order numbers would be taken for cards."""


def holds_card_number(text: str) -> bool:
    """Whether any digits in a row, however spaced, have an issuer's beginning, its length, and pass the Luhn check.

    Linear: running sums, with the digits at even and at odd places doubled, give each window's sum by a subtraction.
    """
    if not _CARD_LIKE.search(text):
        return False
    return any(_run_holds_one([int(ch) for ch in run]) for run in re.findall(r"\d{13,}", _NOT_DIGIT.sub("", text)))


def _run_holds_one(digits: list[int]) -> bool:
    sums = [list(accumulate((_LUHN_DOUBLED[digit] if place % 2 == parity else digit
                             for place, digit in enumerate(digits)), initial=0)) for parity in (0, 1)]
    for start in range(len(digits) - 12):
        for length in LENGTHS_BY_ISSUER.get(f"{digits[start]}{digits[start + 1]}", ()):
            end = start + length
            if end <= len(digits) and (sums[end % 2][end] - sums[end % 2][start]) % 10 == 0:
                return True
    return False

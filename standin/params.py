"""Reads Stripe's parameters: what is known, of which shape, within which limits. Refusals here bind no key."""

from __future__ import annotations

import re
from collections.abc import Callable

from standin.errors import ApiError, Json

Reader = Callable[[object, str], object]

AMOUNT_MIN, AMOUNT_MAX = 50, 99_999_999
DESCRIPTION_MAX, CUSTOMER_DESCRIPTION_MAX = 1000, 5000
METADATA_KEYS_MAX, METADATA_NAME_MAX, METADATA_VALUE_MAX = 50, 40, 500
INTEGER_MAX = 2**53
_EMAIL = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")
_CREATED_BOUNDS = {"gt", "gte", "lt", "lte"}


def read(params: Json, readers: dict[str, Reader], required: tuple[str, ...] = ()) -> Json:
    """Give the parameters read, or refuse the first that is unknown, missing or out of shape."""
    for name in params:
        if name not in readers:
            raise ApiError(400, f"Received unknown parameter: {name}", code="parameter_unknown", param=name)
    for name in required:
        if name not in params:
            raise ApiError(400, f"Missing required param: {name}.", code="parameter_missing", param=name)
    return {name: readers[name](value, name) for name, value in params.items()}


def text(limit: int) -> Reader:
    """Give a reader of text up to a length; empty text unsets."""

    def reader(value: object, name: str) -> str | None:
        if not isinstance(value, str):
            raise ApiError(400, f"Invalid string: {name}", param=name)
        if len(value) > limit:
            raise ApiError(400, f"Invalid {name}: must be at most {limit} characters", param=name)
        return value or None

    return reader


def name_of_object(value: object, name: str) -> str:
    """Read an id, which cannot be unset."""
    if not isinstance(value, str):
        raise ApiError(400, f"Invalid string: {name}", param=name)
    if not value or value.isspace():
        raise ApiError(400, f"You passed an empty string for '{name}'.", code="parameter_invalid_empty", param=name)
    if len(value) > 255:
        raise ApiError(400, f"Invalid {name}: must be at most 255 characters", param=name)
    return value


def integer(value: object, name: str) -> int:
    """Read whole digits; no sign, no point, no exponent."""
    word = name_of_object(value, name)
    if not (word.isascii() and word.isdigit()) or int(word) > INTEGER_MAX:
        raise ApiError(400, f"Invalid integer: {word[:40]}", code="parameter_invalid_integer", param=name)
    return int(word)


def amount(value: object, name: str) -> int:
    """Read cents within what Stripe takes for usd."""
    cents = integer(value, name)
    if cents < AMOUNT_MIN:
        raise ApiError(400, "Amount must be at least $0.50 usd", code="amount_too_small", param=name)
    if cents > AMOUNT_MAX:
        raise ApiError(400, "Amount must be no more than $999,999.99", code="amount_too_large", param=name)
    return cents


def currency(value: object, name: str) -> str:
    """Read the one currency that is played."""
    word = name_of_object(value, name)
    if word.lower() != "usd":
        raise ApiError(400, f"Invalid currency: {word[:40]}. The stand-in plays usd only.", param=name)
    return "usd"


def boolean(value: object, name: str) -> bool:
    """Read `true` or `false`."""
    if value not in {"true", "false"}:
        raise ApiError(400, f"Invalid boolean: {value!s:.40}", param=name)
    return value == "true"


def email(value: object, name: str) -> str | None:
    """Read an address; an empty one unsets."""
    address = text(512)(value, name)
    if address is not None and not _EMAIL.fullmatch(str(address)):
        raise ApiError(400, "Invalid email address.", code="email_invalid", param=name)
    return None if address is None else str(address)


def one_of(*words: str) -> Reader:
    """Give a reader of a closed set of words."""

    def reader(value: object, name: str) -> str:
        if value not in words:
            raise ApiError(400, f"Invalid {name}: must be one of {', '.join(words)}", param=name)
        return str(value)

    return reader


def metadata(value: object, name: str) -> dict[str, str]:
    """Read metadata within Stripe's limits; an empty value unsets its name."""
    if value == "":
        return {}
    if isinstance(value, list):  # names 0, 1, 2 look like a list in a form
        value = {str(place): item for place, item in enumerate(value)}
    if not isinstance(value, dict):
        raise ApiError(400, "Invalid hash", param=name)
    if len(value) > METADATA_KEYS_MAX:
        raise ApiError(400, f"Metadata can have at most {METADATA_KEYS_MAX} keys.", param=name)
    for key, item in value.items():
        if len(key) > METADATA_NAME_MAX:
            raise ApiError(400, f"Metadata keys can have up to {METADATA_NAME_MAX} characters.", param=name)
        if not isinstance(item, str):
            raise ApiError(400, "Metadata values must be strings.", param=f"{name}[{key}]")
        if len(item) > METADATA_VALUE_MAX:
            raise ApiError(400, f"Metadata values can have up to {METADATA_VALUE_MAX} characters.", param=name)
    return {key: item for key, item in value.items() if item}


def automatic_payment_methods(value: object, name: str) -> Json:
    """Read whether payment methods are chosen by Stripe, and whether they may redirect."""
    if not isinstance(value, dict):
        raise ApiError(400, "Invalid object", param=name)
    readers = {"enabled": boolean, "allow_redirects": one_of("always", "never")}
    for inner in value:
        if inner not in readers:
            param = f"{name}[{inner}]"
            raise ApiError(400, f"Received unknown parameter: {param}", code="parameter_unknown", param=param)
    if "enabled" not in value:
        param = f"{name}[enabled]"
        raise ApiError(400, f"Missing required param: {param}.", code="parameter_missing", param=param)
    found = {inner: readers[inner](item, f"{name}[{inner}]") for inner, item in value.items()}
    return {"allow_redirects": "always", **found}


def words(value: object, name: str) -> list[str]:
    """Read a list of words."""
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise ApiError(400, "Invalid array", param=name)
    return value


def no_longer(_: object, name: str) -> object:
    """Refuse the parameter that API version endive has taken away."""
    raise ApiError(
        400,
        f"The parameter {name} is no longer supported. Use automatic_payment_methods or allowed_payment_method_types.",
        code="payment_method_types_no_longer_supported",
        param=name,
    )


def not_played(_: object, name: str) -> object:
    """Refuse loudly what Stripe knows and the stand-in would only pretend to do."""
    raise ApiError(400, f"Stripe knows {name}; the stand-in does not play it.", code="parameter_unknown", param=name)


def created(value: object, name: str) -> tuple[int, int]:
    """Read a moment or bounds as an inclusive range."""
    if isinstance(value, str):
        moment = integer(value, name)
        return moment, moment
    if not isinstance(value, dict) or not _CREATED_BOUNDS.issuperset(value):
        raise ApiError(400, "Invalid object", param=name)
    bounds = {word: integer(item, f"{name}[{word}]") for word, item in value.items()}
    low = max(bounds.get("gte", 0), bounds.get("gt", -1) + 1)
    high = min(bounds.get("lte", INTEGER_MAX), bounds.get("lt", INTEGER_MAX + 1) - 1)
    return low, high


def limit(value: object, name: str) -> int:
    """Read the size of a page."""
    size = integer(value, name)
    if not 1 <= size <= 100:
        raise ApiError(400, "This value must be between 1 and 100.", code="parameter_invalid_integer", param=name)
    return size

"""Decodes Stripe's form encoding (`a[b]=v`, `a[0]=v`, `a[]=v`) into nested dicts and lists."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl

from standin.errors import ApiError, Json

MAX_FIELDS = 1000
_NAME = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")
_PART = re.compile(r"\[([^\[\]]*)\]")


def decode_pairs(text: bytes | str) -> list[tuple[str, str]]:
    """Give the pairs in order, or refuse what is not UTF-8 form encoding."""
    try:
        raw = text.decode("ascii") if isinstance(text, bytes) else text
        return parse_qsl(raw, keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
    except ValueError as error:  # UnicodeDecodeError and too many fields are both ValueErrors
        raise ApiError(400, "Invalid request: the parameters cannot be read as a form.") from error


def nest(pairs: list[tuple[str, str]]) -> Json:
    """Give the pairs as one nested dict; indexed and `[]` parts become lists."""
    tree: Json = {}
    for name, value in pairs:
        if "[" not in name and "]" not in name:
            _put(tree, name, value, name)
            continue
        match = _NAME.fullmatch(name)
        if match is None:
            raise ApiError(400, "Invalid request: a parameter name cannot be read.")
        parts = [match[1], *_PART.findall(match[2])]
        node = tree
        for part in parts[:-1]:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise ApiError(400, f"Invalid {parts[0]}", param=parts[0])
        _put(node, parts[-1] or str(len(node)), value, parts[0])
    return {name: _listed(value) for name, value in tree.items()}


def _put(node: Json, name: str, value: str, top: str) -> None:
    if isinstance(node.get(name), dict):
        raise ApiError(400, f"Invalid {top}", param=top)
    node[name] = value


def _listed(value: Any) -> Any:
    """A dict with the names 0..n-1 was a list; metadata named so is put right by its own reader."""
    if not isinstance(value, dict):
        return value
    if value and all(name == str(place) for place, name in enumerate(value)):
        return [_listed(item) for item in value.values()]
    return {name: _listed(item) for name, item in value.items()}

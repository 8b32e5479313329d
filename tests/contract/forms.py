"""Decodes what came over the wire, apart from the stand-in's own decoder, so that both can be wrong only together."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl


def decode(text: str) -> dict[str, Any]:
    """Give `a[b][0]=v` as nested dicts and lists of texts; a name that comes twice is an error."""
    tree: dict[str, Any] = {}
    for name, value in parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text), errors="strict"):
        top, *inner = name.replace("]", "").split("[")
        node, last = tree, top
        for part in inner:
            node, last = node.setdefault(last, {}), part
        assert last not in node, f"{name} came twice"
        node[last] = value
    return {name: _listed(value) for name, value in tree.items()}


def _listed(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if list(value) == [str(place) for place in range(len(value))]:
        return [_listed(item) for item in value.values()]
    return {name: _listed(item) for name, item in value.items()}

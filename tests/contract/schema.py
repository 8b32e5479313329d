"""A small reader of OpenAPI schemas: required fields, types, enums, unknown names; for JSON and for forms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
_TYPES: dict[str, tuple[type, ...]] = {
    "array": (list,),
    "boolean": (bool,),
    "integer": (int,),
    "null": (type(None),),
    "number": (int, float),
    "object": (dict,),
    "string": (str,),
}


def load(name: str) -> dict[str, Any]:
    """Give a file of the shared data, or skip the test, saying which file is absent."""
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{name} is not in ../shared/data beside this checkout: the contract is NOT checked")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


class Schemas:
    """Finds what is wrong with a value, as texts that name the place."""

    def __init__(self, document: dict[str, Any], younger: frozenset[str] = frozenset()) -> None:
        self.document = document
        self._younger = younger  # names that Stripe has added since the document
        self._schemas = document["components"]["schemas"]

    def answer_schema(self, method: str, path: str, status: str = "200") -> dict[str, Any]:
        responses = self.document["paths"][path][method]["responses"]
        found: dict[str, Any] = responses[status]["content"]["application/json"]["schema"]
        return found

    def request_schema(self, method: str, path: str) -> dict[str, Any]:
        """Give the schema of a call's form, or of its query made one object."""
        call = self.document["paths"][path][method]
        if method == "post":
            found: dict[str, Any] = call["requestBody"]["content"]["application/x-www-form-urlencoded"]["schema"]
            return found
        asked = {p["name"]: p["schema"] for p in call.get("parameters", []) if p["in"] == "query"}
        return {"type": "object", "properties": asked, "additionalProperties": False}

    def form_problems(self, value: object, schema: dict[str, Any]) -> list[str]:
        """Find what is wrong with a decoded form, in which every scalar is a text."""
        return _OfForms(self.document).problems(value, schema)

    def problems(self, value: object, schema: dict[str, Any], place: str = "$") -> list[str]:
        if "$ref" in schema:
            return self.problems(value, self._schemas[schema["$ref"].rpartition("/")[2]], place)
        if "anyOf" in schema:
            each = [self.problems(value, option, place) for option in schema["anyOf"]]
            return [] if [] in each else min(each, key=len)
        given = schema.get("type")
        kinds = [given] if isinstance(given, str) else (given or [])
        if kinds and not any(self._is(value, kind) for kind in kinds):
            return [f"{place}: {type(value).__name__} is not {kinds}"]
        if "enum" in schema and value not in schema["enum"]:
            return [f"{place}: {value!r} is not one of {schema['enum']}"]
        if isinstance(value, str) and len(value) > schema.get("maxLength", len(value)):
            return [f"{place}: too long"]
        if isinstance(value, list) and "items" in schema:
            return [p for n, item in enumerate(value) for p in self.problems(item, schema["items"], f"{place}[{n}]")]
        return self._object_problems(value, schema, place) if isinstance(value, dict) else []

    def _object_problems(self, value: dict[str, Any], schema: dict[str, Any], place: str) -> list[str]:
        found = [f"{place}: {name} is missing" for name in schema.get("required", []) if name not in value]
        known = schema.get("properties", {})
        rest = schema.get("additionalProperties")
        for name, item in value.items():
            if name in known:
                found += self.problems(item, known[name], f"{place}.{name}")
            elif isinstance(rest, dict):
                found += self.problems(item, rest, f"{place}.{name}")
            elif name not in self._younger and (rest is False or (known and rest is not True)):
                found.append(f"{place}: {name} is unknown")
        return found

    def _is(self, value: object, kind: str) -> bool:
        if isinstance(value, bool):
            return kind == "boolean"
        return isinstance(value, _TYPES[kind])


class _OfForms(Schemas):
    def _is(self, value: object, kind: str) -> bool:
        if kind == "boolean":
            return value in {"true", "false"}
        if kind in {"integer", "number"}:
            return isinstance(value, str) and value.isascii() and value.isdigit()
        return isinstance(value, _TYPES[kind])

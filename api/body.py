"""Reading what callers send, strictly: what is ambiguous is refused, and numbers keep the text they were written in."""

import json
import re
from collections.abc import Collection, Mapping
from typing import Any, NoReturn, TypeVar
from urllib.parse import parse_qsl

from fastapi import Request
from pydantic import ValidationError
from starlette.requests import ClientDisconnect

from api.problems import FieldFault, Problem
from shared import requests

BODY_BYTES = 64 * 1024
DEPTH = 8
_PARAMETERS = 32
"""More than any address here has."""

_JSON = re.compile(r'application/json\s*(?:;\s*charset\s*=\s*"?utf-8"?\s*)?;?', re.ASCII | re.IGNORECASE)
_CODES = {"missing": "missing_field", "extra_forbidden": "unknown_field"}
_SENTENCES = {"missing": "This field is required.", "extra_forbidden": "There is no field of this name here."}
_SHOWABLE_NAME = re.compile(r"[a-z][a-z_]{0,23}")
"""A name that is surely a misspelt field and no secret or number in its place: only such a one is repeated."""
_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_QUOTED = re.compile(r'"((?:[^"\\]|\\["\\])*)"')

Model = TypeVar("Model", bound=requests.Request)


def header_values(request: Request, name: bytes) -> list[str]:
    """Every value of a header, by its name in lower case. Reads what the server parsed as it lies there."""
    return [text.decode("latin-1") for given, text in request.scope["headers"] if given == name]


async def read_model(request: Request, model: type[Model]) -> Model:
    """The request in a JSON body. Raises Problem for a body that cannot be read, or is read and refused."""
    return validated(model, await read_object(request))


async def read_object(request: Request) -> dict[str, Any]:
    """The JSON object in the body, its numbers as `Literal` texts. Raises Problem."""
    _check_media_type(request)
    found = parse_json(await _read_bytes(request))
    if not isinstance(found, dict):
        raise Problem("object_required", "The body must be a JSON object.")
    return found


def _check_media_type(request: Request) -> None:
    given, codings = header_values(request, b"content-type"), header_values(request, b"content-encoding")
    if len(given) != 1 or not _JSON.fullmatch(given[0]) or any(coding.lower() != "identity" for coding in codings):
        raise Problem("unsupported_media_type", "Send Content-Type: application/json, in UTF-8 and not compressed.")


async def _read_bytes(request: Request) -> bytes:
    """The body, never more of it in memory than is allowed. What is too large is refused before it is read."""
    for length in header_values(request, b"content-length"):
        if not (length.isascii() and length.isdigit()):
            raise Problem("bad_request", "Content-Length must be a number.")
        if len(length) > 12 or int(length) > BODY_BYTES:
            raise _too_large()
    body = b""
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        part: bytes = message.get("body", b"")
        body += part
        if len(body) > BODY_BYTES:
            raise _too_large()
        if not message.get("more_body", False):
            return body


def _too_large() -> Problem:
    return Problem("payload_too_large", f"The body may have at most {BODY_BYTES} bytes.",
                   headers={"Connection": "close"})


def parse_json(body: bytes) -> Any:
    """Read JSON by RFC 8259 and no more: UTF-8 without a mark, each key once, no NaN, at most eight levels deep."""
    try:
        found = json.loads(body.decode(), parse_int=requests.Literal, parse_float=requests.Literal,
                           parse_constant=_no_constant, object_pairs_hook=_unique)
    except (ValueError, RecursionError):  # json's own fault names what it found, so none of it is repeated
        raise Problem("invalid_json", "The body is not JSON in UTF-8 without a byte order mark.") from None
    # Depth needs brackets; few of them, as in nearly every body, cannot be deep.
    if body.count(b"{") + body.count(b"[") > DEPTH and _depth(found) > DEPTH:
        raise Problem("invalid_json", f"The body is nested more than {DEPTH} levels deep.")
    return found


def _no_constant(_: str) -> NoReturn:
    raise ValueError


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Problem("duplicate_key", "A key occurs twice in one object.")
    return found


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        level = [child for item in level for child in (item.values() if isinstance(item, dict) else item)]
    return depth


def validated(model: type[Model], fields: Mapping[str, Any]) -> Model:
    """The fields as a request. Raises Problem (422) that names every refused field, never a value."""
    try:
        return model.model_validate(fields, by_alias=True, by_name=False)
    except ValidationError as invalid:
        errors = [_field_fault(error["type"], error["loc"], error["msg"])
                  for error in invalid.errors(include_input=False, include_url=False, include_context=False)]
    raise Problem(errors[0]["code"], errors[0]["message"], errors=errors)


def _field_fault(kind: str, where: tuple[int | str, ...], message: str) -> FieldFault:
    if kind == "extra_forbidden" and not _SHOWABLE_NAME.fullmatch(str(where[-1])):
        where = ()
    code = _CODES.get(kind, kind)
    pointer = "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in where)
    return {"pointer": pointer, "code": code, "message": _SENTENCES.get(kind, message)}


def read_query(request: Request, allowed: Collection[str]) -> dict[str, str]:
    """The query's parameters, each known and there once. Raises Problem (422)."""
    raw = request.scope["query_string"]
    if not raw:
        return {}
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_PARAMETERS)
    except ValueError:
        raise Problem("invalid_parameter", "The query cannot be read.") from None
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Problem("duplicate_parameter", "A parameter of the query occurs twice.")
    if unknown := found.keys() - set(allowed):
        errors = [_field_fault("extra_forbidden", (name,), "") for name in sorted(unknown)]
        raise Problem("unknown_field", f"The parameters here are: {', '.join(allowed) or 'none'}.", errors=errors)
    return found


def refused_parameter(name: str, sentence: str) -> Problem:
    """The problem of a parameter in the query whose value cannot be used."""
    return Problem("invalid_parameter", sentence,
                   errors=[{"pointer": f"/{name}", "code": "invalid_parameter", "message": sentence}])


def read_idempotency_key(request: Request) -> str | None:
    """The caller's Idempotency-Key, quoted or bare; None without one. Raises Problem (400)."""
    given = header_values(request, b"idempotency-key")
    if not given:
        return None
    key = given[0]
    if key.startswith('"'):
        quoted = _QUOTED.fullmatch(key)
        key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else ""
    if len(given) > 1 or not _IDEMPOTENCY_KEY.fullmatch(key):
        raise Problem("invalid_idempotency_key",
                      "Send Idempotency-Key once, with 1 to 255 visible ASCII characters, quoted or bare.")
    return key

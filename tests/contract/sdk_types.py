"""Holds a value against the SDK's own annotations: its parameters' TypedDicts, its objects' fields."""

from __future__ import annotations

import builtins
import inspect
import sys
import types
import typing
from typing import Any, ForwardRef, Literal, Union, get_args, get_origin

import stripe
import typing_extensions
from stripe._request_options import RequestOptions  # the part of every TypedDict that does not go over the wire

Hint = Any


def form_problems(value: dict[str, Any], params: type) -> list[str]:
    """Find what is wrong with a decoded form, in which every scalar is a text, by a TypedDict of `stripe.params`."""
    return _Reader(of_forms=True).fields(value, params, "$")


def body_problems(value: dict[str, Any], shown: type) -> list[str]:
    """Find what is wrong with an object in JSON by the fields that an SDK class declares."""
    return _Reader(of_forms=False).fields(value, shown, "$")


class _Reader:
    def __init__(self, *, of_forms: bool) -> None:
        self._of_forms = of_forms

    def fields(self, value: dict[str, Any], owner: type, place: str) -> list[str]:
        known = declared(owner)
        found = [f"{place}: {name} is unknown to {owner.__name__}" for name in value if name not in known]
        found += [f"{place}: {name} is missing" for name in known if name not in value and self._needs(owner, name)]
        for name, item in value.items():
            if name in known:
                found += self.problems(item, known[name], owner, f"{place}.{name}")
        return found

    def _needs(self, owner: type, name: str) -> bool:
        if self._of_forms:
            return name in getattr(owner, "__required_keys__", ())
        return type(None) not in get_args(_resolved(declared(owner)[name], owner))

    def problems(self, value: object, hint: Hint, owner: type, place: str) -> list[str]:
        hint = _resolved(hint, owner)
        origin: Any = get_origin(hint)
        inner = get_args(hint)
        if hint is Any or isinstance(hint, typing.TypeVar):
            return []
        if origin in {typing_extensions.NotRequired, typing_extensions.Required}:
            return self.problems(value, inner[0], owner, place)
        if origin in {Union, types.UnionType}:
            return self._union_problems(value, inner, owner, place)
        if origin is Literal:
            return [] if value in inner else [f"{place}: {value!r} is not one of {inner}"]
        if origin is list:
            if not isinstance(value, list):
                return [f"{place}: {value!r} is no list"]
            return [p for n, v in enumerate(value) for p in self.problems(v, inner[0], owner, f"{place}[{n}]")]
        if origin in {dict, stripe._stripe_object.UntypedStripeObject}:
            if not isinstance(value, dict):
                return [f"{place}: {value!r} is no object"]
            return [p for name, v in value.items() for p in self.problems(v, inner[-1], owner, f"{place}.{name}")]
        if origin is not None:
            return [f"{place}: {hint} cannot be checked"]
        return self._plain_problems(value, hint, place)

    def _union_problems(self, value: object, options: tuple[Hint, ...], owner: type, place: str) -> list[str]:
        # an enum left open (`Literal[...] | str`) is held to the names that the SDK knows
        known = [name for option in options if _is_literal(option) for name in get_args(option)]
        if known not in ([], [""]):
            options = tuple(option for option in options if option is not str)
        each = [self.problems(value, option, owner, place) for option in options]
        return [] if [] in each else min(each, key=len)

    def _plain_problems(self, value: object, kind: type, place: str) -> list[str]:
        if kind is type(None):
            return [] if value is None else [f"{place}: {value!r} is not null"]
        if isinstance(value, dict):
            return self.fields(value, kind, place) if declared(kind) else [f"{place}: an object is no {kind.__name__}"]
        if self._of_forms and kind in {int, bool}:
            fits = isinstance(value, str) and (value.isdigit() if kind is int else value in {"true", "false"})
        else:
            fits = type(value) is kind
        return [] if fits else [f"{place}: {value!r} is no {kind.__name__}"]


def _is_literal(hint: Hint) -> bool:
    origin: Any = get_origin(hint)
    return origin is Literal


def declared(owner: type) -> dict[str, Hint]:
    """Give the fields that a TypedDict or an SDK class declares."""
    own: dict[str, Hint] = {}
    for base in reversed(owner.__mro__):
        if base.__module__.startswith("stripe.") and base.__name__ != "StripeObject":
            own.update(inspect.get_annotations(base))
    options = RequestOptions.__annotations__ if typing_extensions.is_typeddict(owner) else {}
    return {name: hint for name, hint in own.items() if name not in options and "ClassVar" not in str(hint)}


def _resolved(hint: Hint, owner: type) -> Hint:
    if isinstance(hint, ForwardRef):
        hint = hint.__forward_arg__
    if isinstance(hint, str):
        return _resolved(eval(hint, {}, _Names(owner)), owner)  # noqa: S307 - the text is the SDK's own annotation
    return hint


class _Names(dict[str, Any]):
    """The names that an annotation may use: its module's, then what the SDK shows of itself."""

    def __init__(self, owner: type) -> None:
        super().__init__({**vars(builtins), **vars(sys.modules[owner.__module__])})

    def __missing__(self, name: str) -> Any:
        # what only the type checker can see is a class of an object that we do not send expanded
        return getattr(stripe, name, Any)

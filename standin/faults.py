"""Scripted faults: which requests they strike, and how often."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum

from standin.errors import ApiError, ErrorType, Json, key_in_use, lock_timeout, throttled, unauthorized


class Action(StrEnum):
    """What is played; every name ending in `_effect`, `_after` or `_answer` comes after a real effect."""

    CLOSE_AFTER_EFFECT = "close_after_effect"
    CUT_ANSWER = "cut_answer"
    DELAY_MS = "delay_ms"
    DIE_AFTER_EFFECT = "die_after_effect"
    DIE_BEFORE_EFFECT = "die_before_effect"
    GARBAGE = "garbage"
    HANG_AFTER = "hang_after"
    HANG_BEFORE = "hang_before"
    HANG_MID_BODY = "hang_mid_body"
    HTML = "html"
    LOCK_TIMEOUT = "lock_timeout"
    OVERSIZE = "oversize"
    REDIRECT = "redirect"
    RESET_BEFORE_READ = "reset_before_read"
    STATUS_401 = "status:401"
    STATUS_409 = "status:409"
    STATUS_429 = "status:429"
    STATUS_500_AFTER = "status:500_after"
    STATUS_500_BEFORE = "status:500_before"
    STATUS_503 = "status:503"
    WRONG_AMOUNT = "wrong_amount"
    WRONG_LIVEMODE = "wrong_livemode"


class End(StrEnum):
    """How a connection ends under a fault."""

    FIN = "fin"
    RST = "rst"


def _unavailable() -> ApiError:
    headers = (("Stripe-Should-Retry", "true"),)
    return ApiError(503, "The service is temporarily unavailable.", kind=ErrorType.API, headers=headers)


# refusals that no endpoint was asked for, and that bind no key
REFUSALS: dict[Action, Callable[[], ApiError]] = {
    Action.LOCK_TIMEOUT: lock_timeout,
    Action.STATUS_401: unauthorized,
    Action.STATUS_409: key_in_use,
    Action.STATUS_429: lambda: throttled("endpoint-rate"),
    Action.STATUS_503: _unavailable,
}
# an intermediary answers these: the request never arrived
INTERMEDIARY = frozenset({Action.HTML, Action.REDIRECT})


@dataclass(frozen=True, slots=True)
class Match:
    """Which requests are struck: all conditions named must hold; `nth` is the first match struck."""

    method: str | None = None
    path: str | None = None
    path_prefix: str | None = None
    path_end: str | None = None
    key: str | None = None
    job_id: str | None = None
    nth: int = 1
    times: int = 1
    probability: float = 1.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Seen:
    """What of a request is matched."""

    method: str
    path: str
    key: str | None
    job_id: str | None


@dataclass(slots=True)
class Fault:
    """One scripted fault, and how often it has been met and played."""

    action: Action
    match: Match = field(default_factory=Match)
    delay_ms: float = 0
    end: End = End.RST  # of cut_answer
    effect: bool | None = None  # of garbage, html, redirect, oversize: whether the request was executed
    matched: int = 0
    played: int = 0
    dice: random.Random = field(default_factory=random.Random, repr=False)

    @property
    def executes(self) -> bool:
        """Say whether an intermediary's answer stands before a real execution."""
        return self.effect if self.effect is not None else self.action not in INTERMEDIARY

    def strikes(self, seen: Seen | None) -> bool:
        """Count the request when it matches, and say whether the fault is due; None is a bare connection."""
        if seen is not None and not _fits(self.match, seen):
            return False
        self.matched += 1
        if self.matched < self.match.nth or self.played >= self.match.times:
            return False
        return self.match.probability >= 1 or self.dice.random() < self.match.probability

    def describe(self) -> Json:
        """Give the fault and its counts as JSON."""
        return {
            "action": self.action.value,
            "match": asdict(self.match),
            "delay_ms": self.delay_ms,
            "end": self.end.value,
            "effect": self.effect,
            "matched": self.matched,
            "played": self.played,
        }


class Plan:
    """The faults in force, in order: the first that is due is played."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(self, given: object) -> Fault:
        """Put one fault in force, or raise ValueError for what cannot be read."""
        fault = _read_fault(given)
        self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Put no fault in force."""
        self._faults.clear()

    def describe(self) -> list[Json]:
        """Give all faults and their counts."""
        return [fault.describe() for fault in self._faults]

    def before_read(self) -> Fault | None:
        """Give the fault due for a connection whose bytes nobody has looked at."""
        return self._due(None)

    def for_request(self, seen: Seen) -> Fault | None:
        """Give the fault due for this request."""
        return self._due(seen)

    def _due(self, seen: Seen | None) -> Fault | None:
        due = None
        for fault in self._faults:
            if (fault.action is Action.RESET_BEFORE_READ) is (seen is None) and fault.strikes(seen):
                due = due or fault
        if due is not None:
            due.played += 1
        return due


def _fits(match: Match, seen: Seen) -> bool:
    return (
        match.method in {None, seen.method}
        and match.path in {None, seen.path}
        and (match.path_prefix is None or seen.path.startswith(match.path_prefix))
        and (match.path_end is None or seen.path.endswith(match.path_end))
        and match.key in {None, seen.key}
        and match.job_id in {None, seen.job_id}
    )


def _read_fault(given: object) -> Fault:
    if not isinstance(given, dict) or "action" not in given:
        raise ValueError("a fault is an object with an action")
    unknown = set(given) - {"action", "match", "delay_ms", "end", "effect"}
    raw_match = given.get("match", {})
    if not isinstance(raw_match, dict):
        raise ValueError("match is an object")  # noqa: TRY004 - one class for whatever JSON cannot be read
    unknown |= set(raw_match) - {f.name for f in fields(Match)}
    if unknown:
        raise ValueError(f"unknown: {', '.join(sorted(map(str, unknown)))}")
    action, match = Action(given["action"]), Match(**raw_match)
    bare = {match.method, match.path, match.path_prefix, match.path_end, match.key, match.job_id} == {None}
    if action is Action.RESET_BEFORE_READ and not bare:
        raise ValueError("reset_before_read strikes before anything is read: match by nth, times and probability only")
    fault = Fault(action, match, float(given.get("delay_ms", 0)), End(given.get("end", "rst")), given.get("effect"))
    fault.dice.seed(match.seed)
    return fault

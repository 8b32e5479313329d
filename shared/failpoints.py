"""Named places where a test may stop a process on purpose. Off, one costs a call and a comparison with None;
`python -m bench.failpoints` measures that beside an empty function."""

import os
import signal
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.resources import files


class Action(StrEnum):
    """What happens at a failpoint."""

    EXIT = "exit"
    """The process ends at once, as kill -9 would end it."""
    FREEZE = "freeze"
    """The process stops (SIGSTOP) until somebody continues it."""
    RAISE = "raise"
    """FailpointReached is raised."""
    CALL = "call"
    """What was given to `arm` is called, with the failpoint's name; then the process goes on."""


class FailpointReached(Exception):
    """A failpoint armed with `raise` was reached."""


STEPS: Mapping[str, str] = {
    "hint": "a hint is given to the thread that publishes it",
    "publish": "that thread publishes hints to the broker",
    "stamp": "what is remembered of the store outside of it is written",
    "tick": "a feeder's whole round",
    "get": "a job is read",
    "call": "a command or script is asked of a server",
    "trip": "what one turn of the loop asked of a server goes there together and is answered",
    "send": "a job is done at Stripe, or in the mock",
    "look": "an object is read at Stripe",
    "cancel": "a payment that nobody finished is canceled at Stripe",
    "connect": "a connection to Stripe is made",
    "write": "a request's bytes are handed to the kernel",
    "read": "the body of an answer is read",
    "classify": "an answer, or what came instead of one, is turned into an outcome",
    "probe": "a connection is tried to see whether Stripe is within reach",
    "reconcile.hold": "a comparison takes the lease that only one may have",
    "reconcile.begin": "a comparison begins anew",
    "reconcile.list": "a page of Stripe's list is read",
    "reconcile.retrieve": "one object is read again at Stripe",
    "reconcile.read": "what the desk has of a page's objects is read",
    "reconcile.fix": "what a discrepancy shows is recorded",
    "reconcile.note": "a discrepancy is noted on a job",
    "reconcile.jobs": "a page of jobs is compared with what was listed",
    "reconcile.save": "how far a comparison came is kept",
    "reconcile.give_up": "a job that a whole list does not show is ended",
    "resume": "a log file is read to see where it goes on",
    "log": "a page of lines is appended to a log file",
}
"""Steps that are no script: each has a failpoint `.before` and one `.after`, as each script of shared/lua has."""

PLACES: Mapping[str, str] = {
    "answer.before": "a submission is stored and hinted, and not answered yet",
    "stamp.drafted": "a new stamp is whole, and not in its place yet",
    "log.written": "lines are in a log file, and the file that says how far it came does not know yet",
}
"""Failpoints inside a step."""


def names() -> frozenset[str]:
    """The name of every failpoint."""
    scripts = (file.name.removesuffix(".lua") for file in (files("shared") / "lua").iterdir()
               if file.name.endswith(".lua") and not file.name.startswith("_"))
    return frozenset(PLACES) | {f"{step}.{side}" for step in (*STEPS, *scripts) for side in ("before", "after")}


@dataclass(slots=True)
class _Point:
    action: Action
    passes: int
    """How often it is passed unharmed first."""


@dataclass(slots=True)
class _Armed:
    points: dict[str, _Point]
    call: Callable[[str], None] | None = None
    passed: Counter[str] = field(default_factory=Counter)


_armed: _Armed | None = None

EXIT_CODE = 86
"""How a process that a failpoint ended can be told from one that failed."""


def read(text: str) -> dict[str, _Point]:
    """What a text like `claim.after=exit, record.before=freeze@3` (@3: at the third pass) arms.

    `send.before:job_…=exit` acts for that job only: how a test makes one deadly. Raises ValueError for what is not in
    that form, or names no failpoint.
    """
    found, known = {}, names() if text else frozenset()
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, _, action = part.partition("=")
        action, _, nth = action.partition("@")
        if name.partition(":")[0] not in known:
            raise ValueError(f"There is no failpoint {name!r}.")
        found[name] = _Point(Action(action), int(nth or "1") - 1)
    return found


def arm(text: str, call: Callable[[str], None] | None = None) -> None:
    """Arm what a text says, see `read`; "" disarms all. Each failpoint acts once. `call`: what the action `call` calls.

    Raises ValueError, and leaves what is armed as it is.
    """
    points = read(text)
    if call is None and any(point.action is Action.CALL for point in points.values()):
        raise ValueError("The action `call` is for tests that say what to call.")
    _set(_Armed(points, call) if points else None)


def watch() -> Counter[str]:
    """Arm nothing, and count from now on how often each failpoint is passed."""
    watched = _Armed({})
    _set(watched)
    return watched.passed


def left() -> frozenset[str]:
    """What is armed and has not acted yet."""
    return frozenset(_armed.points) if _armed is not None else frozenset()


def _set(armed: _Armed | None) -> None:
    global _armed  # noqa: PLW0603  # one process, one set of failpoints; a value passed everywhere would not be free
    _armed = armed


def failpoint(name: str, job_id: str = "") -> None:
    """Do what is armed under this name, or under it for this job, if anything is."""
    if _armed is not None:
        _armed.passed[name] += 1
        _reach(_armed, name)
        _reach(_armed, f"{name}:{job_id}")


def _reach(armed: _Armed, name: str) -> None:
    found = armed.points.get(name)
    if found is None:
        return
    if found.passes:
        found.passes -= 1
        return
    del armed.points[name]
    match found.action:
        case Action.EXIT:
            os._exit(EXIT_CODE)
        case Action.FREEZE:
            signal.raise_signal(signal.SIGSTOP)  # sent to the process, it would let this thread run on for a moment
        case Action.RAISE:
            raise FailpointReached(name)
        case Action.CALL if armed.call is not None:
            armed.call(name)

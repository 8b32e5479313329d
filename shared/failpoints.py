"""Named places where a test may stop a process on purpose. Off, one costs a comparison with None."""

import os
import signal
from dataclasses import dataclass
from enum import StrEnum


class Action(StrEnum):
    """What happens at a failpoint."""

    EXIT = "exit"
    """The process ends at once, as kill -9 would end it."""
    FREEZE = "freeze"
    """The process stops (SIGSTOP) until somebody continues it."""
    RAISE = "raise"
    """FailpointReached is raised."""


class FailpointReached(Exception):
    """A failpoint armed with `raise` was reached."""


@dataclass(slots=True)
class _Armed:
    action: Action
    passes: int
    """How often it is passed unharmed first."""


_armed: dict[str, _Armed] | None = None

EXIT_CODE = 86
"""How a process that a failpoint ended can be told from one that failed."""


def arm(text: str) -> None:
    """Arm from a text like `claim.after=exit, record.before=freeze@3` (@3: at the third pass); "" disarms all.

    `send.before:job_…=exit` acts for that job only: how a test makes one deadly. Raises ValueError for what is not in
    that form. Each failpoint acts once.
    """
    global _armed  # noqa: PLW0603  # one process, one set of failpoints; a value passed everywhere would not be free
    armed = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, _, action = part.partition("=")
        action, _, nth = action.partition("@")
        armed[name] = _Armed(Action(action), int(nth or "1") - 1)
    _armed = armed or None


def failpoint(name: str, job_id: str = "") -> None:
    """Do what is armed under this name, or under it for this job, if anything is."""
    if _armed is not None:
        _reach(_armed, name)
        _reach(_armed, f"{name}:{job_id}")


def _reach(armed: dict[str, _Armed], name: str) -> None:
    found = armed.get(name)
    if found is None:
        return
    if found.passes:
        found.passes -= 1
        return
    del armed[name]
    match found.action:
        case Action.EXIT:
            os._exit(EXIT_CODE)
        case Action.FREEZE:
            signal.raise_signal(signal.SIGSTOP)  # sent to the process, it would let this thread run on for a moment
        case Action.RAISE:
            raise FailpointReached(name)

"""No step on a job's path is without a failpoint: what is awaited or written there is covered, or excused by a reason."""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from shared import failpoints
from tests.faults.desk_processes import ROOT_FOLDER

PATH = (
    "api/payments.py", "api/hints.py", "shared/store.py", "shared/redis_calls.py", "shared/broker.py",
    "shared/circuit.py", "shared/instance.py", "shared/events.py", "worker/loop.py", "worker/attempt.py",
    "worker/pacing.py", "worker/reachability.py", "worker/feeder.py", "worker/stripe_processor.py",
    "worker/stripe_http.py", "worker/log_follower.py", "worker/log_file.py")
"""The modules that a job passes."""

EFFECTS = frozenset({"send_task", "execute_command", "write", "pwrite", "ftruncate", "flock"})
"""Calls that are not awaited and change something outside the process."""

EXCUSED: Mapping[str, str] = {
}
"""What needs no failpoint of its own, as it is written in the code, and why."""


@dataclass(frozen=True, slots=True)
class Step:
    """Something that is awaited, or has an effect, in a function."""

    file: str
    line: int
    function: str
    text: str
    calls: frozenset[str]
    """The names of all that is called in it."""
    between: bool
    """Whether its function has a failpoint before it and one after it."""


@dataclass(frozen=True, slots=True)
class Function:
    """A function of the path."""

    name: str
    has_failpoint: bool
    steps: tuple[Step, ...]


def _functions(file: str, source: str) -> Iterator[Function]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            own = list(_own(node))
            points = [part.lineno for part in own if isinstance(part, ast.Call) and _name(part) == "failpoint"]
            yield Function(node.name, bool(points), tuple(_steps(file, node.name, own, points)))


def _own(function: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a function without those of functions inside it."""
    for child in ast.iter_child_nodes(function):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield child
            yield from _own(child)


def _steps(file: str, function: str, own: list[ast.AST], points: list[int]) -> Iterator[Step]:
    awaited = {id(part) for node in own if isinstance(node, ast.Await) for part in ast.walk(node)}
    for node in own:
        for what in _what(node, awaited):
            calls = frozenset(_name(part) for part in ast.walk(what) if isinstance(part, ast.Call))
            between = any(point < what.lineno for point in points) and any(point > what.lineno for point in points)
            yield Step(file, what.lineno, function, ast.unparse(what), calls, between)


def _what(node: ast.AST, awaited: set[int]) -> Iterator[ast.expr]:
    match node:
        case ast.Await():
            yield node.value
        case ast.AsyncWith():
            yield from (item.context_expr for item in node.items)
        case ast.AsyncFor():
            yield node.iter
        case ast.comprehension(is_async=1):
            yield node.iter
        case ast.Call() if id(node) not in awaited and _name(node) in EFFECTS:
            yield node


def _name(call: ast.Call) -> str:
    """What is called, without what it belongs to."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def bare(sources: Mapping[str, str]) -> list[Step]:
    """The steps that no failpoint covers: not around them, not in what they call, and no reason.

    What they call is looked at by itself; so what remains is where the path ends without a failpoint.
    """
    functions = [function for file, source in sources.items() for function in _functions(file, source)]
    known = {function.name for function in functions if function.has_failpoint or function.steps}
    return [step for function in functions for step in function.steps if not _is_covered(step, known)]


def _is_covered(step: Step, known: set[str]) -> bool:
    callee = step.text.partition("(")[0]
    by_callee = bool(step.calls & known) and "redis." not in callee  # a client's methods share names with ours
    return step.between or by_callee or step.text in EXCUSED or callee in EXCUSED


def _sources() -> dict[str, str]:
    return {file: (ROOT_FOLDER / file).read_text() for file in PATH}


def test_every_step_on_a_jobs_path_has_a_failpoint_or_a_reason() -> None:
    found = [f"{step.file}:{step.line} {step.function}: {step.text}" for step in bare(_sources())]
    assert not found, "\n".join(found)

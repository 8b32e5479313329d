"""No step on a job's path is without a failpoint: what is awaited or written there is covered, or there is a reason."""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest

from shared import failpoints
from shared.redis_calls import SCRIPT_NAMES
from tests.faults.desk_processes import ROOT_FOLDER

PATH = (
    "api/payments.py", "api/hints.py", "shared/store.py", "shared/redis_calls.py", "shared/broker.py",
    "shared/circuit.py", "shared/epoch.py", "shared/events.py", "shared/operator.py", "shared/reconcile_state.py",
    "worker/loop.py", "worker/attempt.py", "worker/look.py", "worker/pacing.py", "worker/reachability.py",
    "worker/feeder.py", "worker/stripe_processor.py", "worker/stripe_http.py", "worker/log_follower.py",
    "worker/log_file.py", "worker/reconcile.py", "worker/reconcile_rounds.py", "worker/comparison.py",
    "worker/stripe_reader.py")
"""The modules that a job passes."""

EFFECTS = frozenset({"send_task", "execute_command", "write", "pwrite", "ftruncate", "flock"})
"""Calls that are not awaited and change something outside the process."""

_WAITS = "waits, and nothing has changed when it ends: who dies in it died before the next step"
_IN_PAGE = "between log.before and log.after, in the thread that catch_up waits for"
_IN_RESUME = "between resume.before and resume.after, in the thread that catch_up waits for"

EXCUSED: Mapping[str, str] = {
    "asyncio.sleep": _WAITS,
    "asyncio.shield": "waits for work that has failpoints of its own",
    "asyncio.timeout": "a deadline for what has failpoints of its own",
    "asyncio.gather(work, return_exceptions=True)": "waits for the thread of a page that was begun",
    "read_model": "reads the request: nothing is accepted yet",
    "desk.gate.together": "inside this process only",
    "desk.gate.alone": "inside this process only",
    "desk.ask": "asks what is named in it, JobStore.accept or JobStore.get, within a deadline",
    "do": "catch_up or _follow, which are looked at themselves",
    "asyncio.gather(keeping, return_exceptions=True)": "waits for a task that was cancelled",
    "self.guard": "Epoch.look_again, which is looked at itself",
    "self._checking": "inside this process only",
    "reply": "a call that was begun, with failpoints of its own",
    "asyncio.to_thread(Stamp.read, self._file)": "reads a file: nothing changes",
    "asyncio.wait(self._sending)": "the end of a process that has nothing left to do",
    "self.redis.aclose": "the end of a process that has nothing left to do",
    "self.redis.connection_pool.disconnect": "the end of a process that has nothing left to do",
    "asyncio.open_connection": "between probe.before and probe.after, in _connects",
    "self._client.raw_request_async": "the SDK's way to StripeHTTP.request_async; classify.before is behind it",
    "self._open().request": "connect, write and read have failpoints in aiohttp's trace and in _Request",
    "response.content.iter_any": "between read.before and read.after, in request_async",
    "fcntl.flock": "taken before anything is written, and freed by the kernel however its holder ends",
    "os.write(handle, data)": _IN_PAGE,
    "os.ftruncate(handle, found[1])": _IN_PAGE,
    "os.pwrite(handle, f'{position.ms:019d}-{position.sequence:020d}\\n'.encode(), 0)": _IN_PAGE,
    "os.ftruncate(handle, start + len(tail) - len(torn))": _IN_RESUME,
    "os.pwrite(handle, b'\\n', start + len(tail))": _IN_RESUME,
}
"""What needs no failpoint of its own, as it is written in the code, and why."""


@dataclass(frozen=True, slots=True)
class Step:
    """Something that is awaited, or has an effect, in a function."""

    file: str
    line: int
    function: str
    text: str
    callee: str
    """What is called, when it is a call."""
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
            callee = ast.unparse(what.func) if isinstance(what, ast.Call) else ""
            between = any(point < what.lineno for point in points) and any(point > what.lineno for point in points)
            yield Step(file, what.lineno, function, ast.unparse(what), callee, calls, between)


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
    by_callee = bool(step.calls & known) and "redis." not in step.callee  # a client's methods share names with ours
    return step.between or by_callee or step.text in EXCUSED or step.callee in EXCUSED


def _sources() -> dict[str, str]:
    return {file: (ROOT_FOLDER / file).read_text() for file in PATH}


def test_every_step_on_a_jobs_path_has_a_failpoint_or_a_reason() -> None:
    found = [f"{step.file}:{step.line} {step.function}: {step.text}" for step in bare(_sources())]
    assert not found, "\n".join(found)


def test_no_reason_is_given_for_what_is_no_longer_there() -> None:
    there = {text for file, source in _sources().items() for function in _functions(file, source)
             for step in function.steps for text in (step.text, step.callee)}
    assert sorted(set(EXCUSED) - there) == []


def test_every_failpoint_in_the_code_is_in_the_table_and_the_other_way_round() -> None:
    """A script's are made from its name, in RedisCalls.script."""
    there = set[str]()
    for file, source in _every_source().items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call) and _name(node) == "failpoint" and file != "shared/redis_calls.py":
                assert isinstance(node.args[0], ast.Constant), f"{file}:{node.lineno} is not written out"
            if isinstance(node, ast.Call) and _name(node) == "failpoint" and isinstance(node.args[0], ast.Constant):
                there.add(str(node.args[0].value))
    scripts = {f"{name}.{side}" for name in SCRIPT_NAMES for side in ("before", "after")}
    assert there | scripts == failpoints.names()


@pytest.mark.parametrize("bare_line", [
    "    await self._calls.redis.get('x')", "    await asyncio.open_unix_connection('x')", "    os.write(1, b'')",
    "    async with self._lock:\n        pass", "    return [one async for one in self._feed_of()]"])
def test_a_step_without_a_failpoint_is_named(bare_line: str) -> None:
    source = f"class Store:\n  async def get(self):\n    failpoint('get.before')\n{bare_line}\n"
    [step] = bare({"shared/store.py": source})
    assert (step.file, step.line, step.function) == ("shared/store.py", 4, "get")


def test_what_stands_between_failpoints_or_calls_what_has_them_is_covered() -> None:
    source = """
async def get(self):
    failpoint('get.before')
    await anything()
    failpoint('get.after')
async def page(self):
    return await self.store.get()
"""
    assert bare({"shared/store.py": source}) == []


def _every_source() -> dict[str, str]:
    return {str(file.relative_to(ROOT_FOLDER)): file.read_text() for package in ("api", "shared", "worker")
            for file in (ROOT_FOLDER / package).rglob("*.py")}

"""Plant one bug in a copy of the tree, run tests there, and say whether a check said no."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.plants.planting import PACKAGES, ROOT, Plant, copy_tree

SECONDS = 150.0
"""For the tests of one plant: more than the slowest takes on a busy machine."""
_END_SECONDS = 20.0

_EVERY_PROCESS = '''
"""Loaded by every Python process of this copy: writes down which code it runs."""
import os, sys

_SEEN = set()
_COPY, _TREE, _TOLD = {copy!r}, {tree!r}, {told!r}

def _watch(event, given):
    if event != "open" or not isinstance(given[0], str):
        return
    for root in (_COPY, _TREE):
        for package in {packages!r}:
            if given[0].startswith(f"{{root}}/{{package}}/") and (root, package) not in _SEEN:
                _SEEN.add((root, package))
                descriptor = os.open(_TOLD, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
                os.write(descriptor, f"{{'copy' if root == _COPY else 'TREE'}} {{package}} {{os.getpid()}}\\n".encode())
                os.close(descriptor)

sys.addaudithook(_watch)
'''


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one planted bug."""

    plant: str
    caught_by: str | None
    """The first test that a check failed; None when none did."""
    why: str
    seconds: float
    failed: tuple[str, ...] = ()
    """Every test that a check failed: more than one only when all were asked for."""


class Strayed(Exception):
    """Code of the tree ran where the copy's should have: nothing that was seen counts."""


def catch(plant: Plant | None, tests: Sequence[str], *, first: bool = True, seconds: float = SECONDS) -> Verdict:
    """Run tests on a copy with this bug, or with none, up to the first that fails unless all are asked for.

    Only a failed check counts: no error while collecting, no crash of a test, no time-out. Raises Strayed.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="plants-", ignore_cleanup_errors=True) as folder:
        copy, told, ran = (Path(folder).resolve() / name for name in ("tree", "told", "ran"))
        copy_tree(copy)
        (copy / "sitecustomize.py").write_text(_EVERY_PROCESS.format(
            copy=str(copy), tree=str(ROOT), told=str(ran), packages=PACKAGES))
        for edit in plant.edits if plant else ():
            edit.apply(copy)
        said = _run(copy, told, tests, first=first, seconds=seconds)
        facts = [json.loads(line) for line in told.read_text().splitlines()] if told.exists() else []
        processes = ran.read_text().splitlines() if ran.exists() else []
    _nothing_strayed(facts, processes, said)
    caught = [fact for fact in facts if "test" in fact and not fact["passed"] and fact["asserted"]]
    others = [fact for fact in facts if "test" in fact and not fact["passed"] and not fact["asserted"]]
    why = [f"{fact['test']}: {fact['error']}" for fact in caught or others] or [said[-400:]]
    return Verdict(plant.name if plant else "none", caught[0]["test"] if caught else None, why[0],
                   time.monotonic() - began, tuple(fact["test"] for fact in caught))


def _nothing_strayed(facts: list[dict[str, object]], processes: list[str], said: str) -> None:
    """Every process that touched the product must have had it from the copy, and the tests must have been run."""
    strayed = [line for line in processes if line.startswith("TREE")]
    ends = [fact["strayed"] for fact in facts if "strayed" in fact]
    if strayed or any(ends) or not any(line.startswith("copy shared") for line in processes):
        raise Strayed(f"{strayed} {ends}\n{said[-2000:]}")


def _run(copy: Path, told: Path, tests: Sequence[str], *, first: bool, seconds: float) -> str:
    """What pytest printed. Past the time it is asked to stop, so that it ends the servers that it started."""
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1", "PLANTS_TOLD": str(told)}
    command = [sys.executable, "-m", "pytest", "-p", "tests.plants.witness", "--hypothesis-seed=0", "--tb=short",
               "-o", "timeout_method=signal", f"--basetemp={copy.parent / 'tmp'}", *(["-x"] if first else []), *tests]
    with subprocess.Popen(command, cwd=copy, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, start_new_session=True) as running:
        try:
            return running.communicate(timeout=seconds)[0]
        except subprocess.TimeoutExpired:
            running.send_signal(signal.SIGINT)
        try:
            return "out of time\n" + running.communicate(timeout=_END_SECONDS)[0]
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signal.SIGKILL)
            return "out of time\n" + running.communicate()[0]

"""The planted bugs: read from tests/plants/bugs, and planted one by one in a copy of the tree."""

import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BUGS = Path(__file__).parent / "bugs"
PACKAGES = ("api", "worker", "shared", "cli", "standin", "bench")
"""What a copy must run as its own."""
_WITHOUT_GIT = (*PACKAGES, "drill", "tests", "docs", "pyproject.toml")

CHECK_INVARIANTS = (
    "tests/shared/test_store_model.py", "tests/shared/test_store_promises.py", "tests/faults/", "tests/sweep/")
"""Tests that play whatever comes and then check the desk's promises: none of them was written for one line of code."""


class Catcher(StrEnum):
    """What kind of check catches a bug."""

    INVARIANT = "invariant"
    """Promises that must hold after whatever was played."""
    TEST = "test"
    """A test of the very thing that is broken."""


@dataclass(frozen=True, slots=True)
class Edit:
    """One change of one file."""

    file: str
    find: str
    """The exact text, which the file has once."""
    replace: str

    def apply(self, root: Path) -> None:
        """Make the change. Raises LookupError when the text is not there exactly once."""
        path = root / self.file
        text = path.read_text()
        if text.count(self.find) != 1:
            raise LookupError(f"{self.file} has the text {text.count(self.find)} times: {self.find!r}")
        path.write_text(text.replace(self.find, self.replace))


@dataclass(frozen=True, slots=True)
class Plant:
    """A bug that somebody could write, and the tests that are known to catch it."""

    name: str
    hurts: str
    edits: tuple[Edit, ...]
    by: Catcher
    caught_by: tuple[str, ...]


def plants() -> Iterator[Plant]:
    """All planted bugs, by the files they are written in and their order there."""
    for file in sorted(BUGS.glob("*.toml")):
        for name, told in tomllib.loads(file.read_text()).items():
            yield _plant(name, told)


def _plant(name: str, told: dict[str, Any]) -> Plant:
    edits = tuple(Edit(each["file"], each["find"], each["replace"]) for each in [told, *told.get("also", [])])
    unknown = set(told) - {"hurts", "file", "find", "replace", "also", "by", "caught_by"}
    if unknown:
        raise ValueError(f"{name} has {unknown}")
    return Plant(name, told["hurts"], edits, Catcher(told["by"]), tuple(told["caught_by"]))


def copy_tree(to: Path) -> None:
    """Copy what git tracks, or would, to an empty folder; nothing in it is shared with the tree."""
    for name in _files():
        target = to / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target)


def _files() -> list[str]:
    if (ROOT / ".git").exists():
        listed = subprocess.run(("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"), cwd=ROOT,
                                capture_output=True, text=True, check=True).stdout.split("\0")
        return [name for name in listed if name and (ROOT / name).is_file()]
    tops = [ROOT / name for name in _WITHOUT_GIT]
    files = [file for top in tops for file in (top.rglob("*") if top.is_dir() else [top]) if file.is_file()]
    return [file.relative_to(ROOT).as_posix() for file in files if "__pycache__" not in file.parts]

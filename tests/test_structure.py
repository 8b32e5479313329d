"""What holds over the whole tree: the direction of imports, the checks, names, sizes, and nothing built at import."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("api", "worker", "shared", "cli", "standin", "bench", "drill")
EMPTY_NAMES = {"utils", "util", "helpers", "common", "manager", "service", "handler", "misc", "base"}
MOST_LINES = 400
STARTED_BY_IMPORT = ("worker.app", "cli.__main__", "standin.__main__")
"""Modules that are programs: they build or run something when they are loaded, and nobody imports them."""

_IMPORT_ALL = """
import importlib, socket, sys, threading

def refuse(*_, **__):
    raise AssertionError("a socket was opened while importing")

socket.socket.connect = socket.socket.bind = socket.create_connection = refuse
for name in sys.argv[1:]:
    before = set(threading.enumerate())
    importlib.import_module(name)
    assert set(threading.enumerate()) == before, f"{name} started a thread"
print(len(sys.argv) - 1)
"""

REAL_LOOKING = re.compile(
    r"(?:sk|rk)_live_[0-9A-Za-z]{16,}|(?:sk|rk)_test_51[0-9A-Za-z]{20,}|whsec_[0-9A-Za-z+/]{24,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY|\bAKIA[0-9A-Z]{16}\b|\bghp_[0-9A-Za-z]{30,}")
MACHINE_PATH = re.compile(r"(?<![\w.:])/(?:home|Users|root|work|mnt|private)/[A-Za-z0-9_.-]+")


def run(*command: str, seconds: float = 110) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False)


def tracked() -> list[Path]:
    """The files of the tree: what git tracks, and what it would."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout: tracked files are NOT checked")
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").stdout.split("\0")
    return [ROOT / name for name in listed if name and (ROOT / name).is_file()]


def sources(*folders: str) -> list[Path]:
    return [file for folder in folders for file in sorted((ROOT / folder).rglob("*.py"))]


def tools(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def test_imports_go_one_way() -> None:
    done = run(tools("lint-imports"), "--no-cache")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_ruff_finds_nothing() -> None:
    done = run(tools("ruff"), "check", "--no-cache", ".")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(180)
def test_mypy_finds_nothing() -> None:
    done = run(tools("mypy"), seconds=170)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_file_has_a_name_that_says_nothing() -> None:
    named = [file for file in sources(*PACKAGES, "tests") if EMPTY_NAMES & set(re.split(r"[_.]", file.stem.lower()))]
    assert named == []


def test_no_product_file_is_longer_than_one_can_read() -> None:
    files = [*sources(*PACKAGES), *(ROOT / "shared" / "lua").glob("*.lua"), ROOT / "paydesk"]
    long = {file.name: lines for file in files if (lines := len(file.read_text().splitlines())) > MOST_LINES}
    assert long == {}


def test_importing_opens_no_socket_and_starts_no_thread() -> None:
    modules = [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
               for file in sources("api", "worker", "shared", "cli", "drill")]
    imported = [module for module in modules if module not in STARTED_BY_IMPORT]
    done = run(sys.executable, "-W", "error", "-c", _IMPORT_ALL, *imported)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == len(imported) > 30


def test_the_programs_are_imported_by_nobody() -> None:
    imports = re.compile(r"^\s*(?:from|import)\s+(?:worker\.app|cli\.__main__|standin\.__main__)\b", re.MULTILINE)
    assert [file for file in sources(*PACKAGES, "tests") if imports.search(file.read_text())] == []


def test_the_environment_is_read_in_one_place() -> None:
    reads = re.compile(r"os\.environ|os\.getenv|\bgetenv\(")
    reading = {file.relative_to(ROOT).as_posix() for file in sources(*PACKAGES) if reads.search(file.read_text())}
    assert reading <= {"shared/settings.py"}


def test_no_real_looking_key_and_no_machine_path_is_in_the_tree() -> None:
    found = []
    for file in tracked():
        text = file.read_bytes().decode(errors="replace")
        for what in (REAL_LOOKING, MACHINE_PATH):
            found += [f"{file.relative_to(ROOT)}: {match[0][:16]}" for match in what.finditer(text)]
    assert found == []


def test_every_script_says_how_it_may_run_and_the_parts_of_scripts_do_not() -> None:
    scripts = sorted((ROOT / "shared" / "lua").glob("*.lua"))
    with_header = {file.name for file in scripts if file.read_text().startswith("#!lua")}
    assert with_header == {file.name for file in scripts if not file.name.startswith("_")}
    assert {"_job.lua", "_circuit.lua"} <= {file.name for file in scripts}

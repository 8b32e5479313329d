"""A machine with Python and nothing else: the runtime requirements alone must import and run everything.

Development packages bring things along (pytest brings `packaging`) that would hide a missing requirement.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("shared", "api", "worker", "cli")
STARTED_BY_CELERY = "worker/app.py"
"""Importing it builds a worker, so `up` is what tries it."""
READY_SECONDS = 60.0
OURS = ("STRIPE_", "PAYDESK_", "FLOWER_", "REDIS_", "BROKER_", "PORT", "LOG_DIR", "PYTHON", "VIRTUAL_ENV")

pytestmark = pytest.mark.timeout(180)  # it installs some sixty packages

IMPORTS_ALL = """
import importlib, pathlib, sys
for file in map(pathlib.Path, sys.argv[1:]):
    importlib.import_module(".".join(file.with_suffix("").parts).removesuffix(".__init__"))
"""


def bare_python() -> str:
    """The Python that made this environment, which sees none of its packages."""
    return str(Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}")


def surroundings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(OURS)}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the desk with only the runtime requirements, and without the pip and setuptools that venv brings."""
    folder = tmp_path_factory.mktemp("bare")
    for name in (*PACKAGES, "requirements"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(ROOT / "paydesk", folder)
    # `--help` prepares everything and starts nothing.
    made = subprocess.run([bare_python(), "paydesk", "--help"], cwd=folder, env=surroundings(), capture_output=True,
                          text=True, check=False)
    if "package index cannot be reached" in made.stderr:
        pytest.skip("OFFLINE: the runtime requirements were not tried on a bare machine")
    assert made.returncode == 0, made.stderr
    subprocess.run([folder / ".venv" / "bin" / "python", "-m", "pip", "uninstall", "-qy", "setuptools", "pip"],
                   capture_output=True, check=False)
    return folder


def test_every_module_imports_with_the_runtime_requirements_alone(checkout: Path) -> None:
    files = [file.relative_to(checkout) for package in PACKAGES for file in sorted((checkout / package).rglob("*.py"))]
    modules = [file for file in files if file.name != "__main__.py" and str(file) != STARTED_BY_CELERY]
    done = subprocess.run([checkout / ".venv" / "bin" / "python", "-c", IMPORTS_ALL, *modules], cwd=checkout,
                          env=surroundings(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_nothing_of_the_development_set_is_there(checkout: Path) -> None:
    for name in ("pytest", "fakeredis", "setuptools", "pip"):
        assert not list(checkout.glob(f".venv/lib/python3*/site-packages/{name}"))


@pytest.mark.skipif(not (ROOT / "api" / "main.py").exists() or not (ROOT / "worker" / "app.py").exists(),
                    reason="there is no web or worker to start yet")
def test_up_gets_ready_and_stops(checkout: Path) -> None:
    said = checkout / "said"
    with said.open("w") as stderr, subprocess.Popen([bare_python(), "paydesk", "up", "--port", "0"], cwd=checkout,
                                                    env=surroundings() | {"FLOWER_PORT": "0"}, stderr=stderr) as desk:
        deadline = time.monotonic() + READY_SECONDS
        while "Paydesk is ready" not in said.read_text() and desk.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        ready = said.read_text()
        desk.send_signal(signal.SIGTERM)
        assert desk.wait(60) == 0, said.read_text()
    assert re.search(r"API +http://127\.0\.0\.1:\d+/", ready), ready
    assert "Traceback" not in said.read_text()

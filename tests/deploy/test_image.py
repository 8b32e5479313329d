"""The image: everything that runs in it, nothing secret, nothing as root, and every package by its hash."""

import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from cli import processes
from tests.deploy import image

TRACES = (".env", ".paydesk/secret", "shared/.env", "api/.env.local", ".git/config", "cli/__pycache__/main.pyc",
          "shared/notes.pyc", "tests/test_secret.py", "worker/.netrc", "requirements/dev.lock", "id_ed25519")
"""What may lie around in a checkout that an image is built from."""

IMPORTS = """
import importlib, pathlib, sys
here, packages, *files = sys.argv[1:]
sys.path[:0] = [here]
sys.path.append(packages)  # without its .pth files, one of which leads to the checkout
for file in files:
    module = importlib.import_module(".".join(pathlib.PurePath(file).with_suffix("").parts).removesuffix(".__init__"))
    assert module.__file__.startswith(here), module.__file__
"""
STARTED_BY_CELERY = ("worker/app.py", "cli/__main__.py")
"""Importing them builds a worker, or runs the command line."""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is in /app."""
    folder = tmp_path_factory.mktemp("image")
    image.lay_out(image.ROOT, folder)
    return folder


def in_image(app: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python there, with the installed packages and nothing of the checkout."""
    return subprocess.run([sys.executable, "-S", *arguments], cwd=app, env=image.environment(), capture_output=True,
                          text=True, check=False)


def test_every_module_in_it_finds_every_other(app: Path) -> None:
    files = [str(file.relative_to(app)) for file in sorted(app.rglob("*.py"))]
    assert {"flowerconfig.py", "api/main.py", "worker/main.py", "shared/store.py"} <= set(files)
    wanted = [file for file in files if file not in STARTED_BY_CELERY]
    done = in_image(app, "-c", IMPORTS, str(app), sysconfig.get_path("purelib"), *wanted)
    assert done.returncode == 0, done.stderr


def test_it_has_the_scripts_of_the_store(app: Path) -> None:
    scripts = {file.name for file in (image.ROOT / "shared" / "lua").glob("*.lua")}
    assert {file.name for file in (app / "shared" / "lua").iterdir()} == scripts


def test_what_lies_around_in_a_checkout_stays_out(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    for name in ("shared", "api", "worker", "cli"):
        shutil.copytree(image.ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Procfile", "flowerconfig.py"):
        shutil.copy2(image.ROOT / name, checkout)
    for trace in TRACES:
        (checkout / trace).parent.mkdir(parents=True, exist_ok=True)
        (checkout / trace).write_text("secret")
    copied = image.lay_out(checkout, tmp_path / "app")
    assert "api/main.py" in copied
    assert not set(TRACES) & set(copied)
    rules = image.ignore_rules()
    assert all(image.is_ignored(trace, rules) for trace in TRACES)
    assert rules[0] == "*"  # an allow-list: what nobody thought of stays out too


def test_each_thing_that_is_allowed_is_there_and_is_copied() -> None:
    allowed = {rule[1:] for rule in image.ignore_rules() if rule.startswith("!")}
    assert all((image.ROOT / name).exists() for name in allowed)
    copied = {source for line in image.instructions("COPY") if "--from=" not in line for source in line.split()[:-1]}
    assert allowed == copied | {"requirements/runtime.lock"}


def test_it_runs_as_nobody_special() -> None:
    (user,) = image.instructions("USER")
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)
    text = (image.ROOT / "Dockerfile").read_text()
    assert text.index("\nUSER ") > text.rindex("\nCOPY ")  # so its own files are not its to change
    assert text.index("\nUSER ") > text.rindex("\nRUN ")


def test_it_names_no_secret() -> None:
    text = (image.ROOT / "Dockerfile").read_text()
    assert not re.search(r"(?i)^(ARG|ENV)\b.*(secret|key|password|token)", text, re.MULTILINE)
    assert set(image.environment()) == {"PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "PAYDESK_DATA_DIR"}


def test_packages_are_installed_by_their_hashes_only() -> None:
    text = (image.ROOT / "Dockerfile").read_text()
    (install,) = re.findall(r"pip install .*", text)
    assert "--require-hashes --only-binary=:all: -r requirements/runtime.lock" in install
    assert not re.search(r"\b(curl|wget|apt-get|ADD)\b", text)


def test_it_serves_with_the_line_of_the_procfile() -> None:
    assert image.command() == ["sh", "-c", f"exec {processes.WEB}"]

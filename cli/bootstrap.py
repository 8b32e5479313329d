"""From a bare Python to a running desk: makes `.venv` from the hash-locked requirements, then hands over to it.

Standard library only: nothing else is installed when this runs.
"""

import configparser
import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from cli.pip_wheel import UNREACHABLE, UNTRUSTED, PipUnavailable, pinned_pip

ROOT = Path(__file__).resolve().parent.parent
EXIT_FAILED = 1
EXIT_INTERRUPTED = 130
LOCK_COMMAND = ("uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-emit-index-url "
                "--no-emit-find-links --no-header requirements/{name}.in -o requirements/{name}.lock")

PIP_FAULTS = {
    r"No space left on device|Disk quota exceeded": "The disk is full: free about 300 MB where the checkout is.",
    r"DO NOT MATCH THE HASHES": "A downloaded package differs from its locked hash, so it was not installed.",
    r"NewConnectionError|NameResolutionError|ConnectTimeoutError|ReadTimeoutError|ProxyError|Name or service not known|"
    r"Temporary failure in name resolution|Network is unreachable|Connection refused|Connection reset": UNREACHABLE,
    r"CERTIFICATE_VERIFY_FAILED|SSLError": UNTRUSTED,
    r"No matching distribution found for (?P<what>[^=\s]+)":
        "The package index has no ready-made {what} for this Python and machine.",
}
"""What pip says when it fails, and the sentence for it; the first that fits."""


ALL_TESTS = ("-n", str(max(2, min(4, os.cpu_count() or 2))), "--dist", "loadfile")
"""Much of the suite waits for processes and leases, so it runs in several; a file's tests stay together, in order."""


class BootstrapFailed(Exception):
    """The environment cannot be made; the message is the one sentence for the user."""


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Prepare what the verb needs and become it. Returns an exit code only when that did not come to be."""
    verb = arguments[0] if arguments else ""
    try:
        if verb == "lock":
            return _compile_locks()
        environment = Environment(ROOT / ".venv", ROOT / "requirements", environ)
        python = environment.ensure("dev" if verb == "test" else "runtime")
        if verb == "test":
            os.chdir(ROOT)
            _become(python, "-m", "pytest", *(arguments[1:] or ALL_TESTS))
        # -P: a folder named `cli` where the user stands must not be taken for ours.
        _become(python, "-P", "-m", "cli", *arguments)
    except (BootstrapFailed, PipUnavailable) as failed:
        return _refuse(str(failed))
    except OSError as failed:
        return _refuse(f"{failed.strerror or failed}: {failed.filename or ROOT}.")
    except KeyboardInterrupt:
        _say("Interrupted; what is half made is finished by the next run.")
        return EXIT_INTERRUPTED
    return EXIT_FAILED


def _become(python: Path, *arguments: str) -> None:
    sys.stderr.flush()
    os.execv(python, [str(python), *arguments])  # noqa: S606  # our own interpreter, by path


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _refuse(sentence: str) -> int:
    _say(f"paydesk: {sentence}")
    return EXIT_FAILED


def _compile_locks() -> int:
    """For maintainers: compile requirements/*.in into the locks, with uv."""
    if shutil.which("uv") is None:
        raise BootstrapFailed("`./paydesk lock` needs uv on PATH.")
    for name in ("runtime", "dev"):
        done = subprocess.run(LOCK_COMMAND.format(name=name).split(), cwd=ROOT, check=False)
        if done.returncode:
            return done.returncode
    return 0


class Environment:
    """A virtual environment that holds exactly what a lock file names, made or mended when it does not."""

    def __init__(self, home: Path, requirements: Path, environ: Mapping[str, str]) -> None:
        self.home = home
        self._environ = environ
        self.python = home / "bin" / "python"
        self._requirements = requirements
        self._stamp_file = home / "paydesk-installed.json"
        self._install_log = home / "paydesk-install.log"

    def ensure(self, lock: str) -> Path:
        """Return its Python, with everything in `<lock>.lock` installed. Costs nothing the second time."""
        if self._has(lock):
            return self.python
        with self._alone():
            if not self._has(lock):
                self._build(lock)
        return self.python

    def _fingerprint(self, lock: str) -> str:
        return hashlib.sha256((self._requirements / f"{lock}.lock").read_bytes()).hexdigest()

    def _has(self, lock: str) -> bool:
        return self.python.exists() and self._stamps().get(lock) == self._fingerprint(lock)

    def _stamps(self) -> dict[str, str]:
        try:
            return dict(json.loads(self._stamp_file.read_text()))
        except (OSError, ValueError):
            return {}

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One at a time: the lock is on the folder beside the environment, which no rebuild replaces."""
        folder = os.open(self.home.parent, os.O_RDONLY)
        try:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                _say("Waiting for another paydesk that is preparing .venv.")
                fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def _build(self, lock: str) -> None:
        began = time.monotonic()
        file = self._requirements / f"{lock}.lock"
        count = len(re.findall(r"^[A-Za-z0-9]", file.read_text(), re.MULTILINE))
        _say(f"Preparing {self.home.name} with {count} locked packages; this happens once.")
        if not self._runs():
            self._make()
        self._stamp_file.unlink(missing_ok=True)
        self._install(file)
        self._find_checkout()
        # The development set contains the runtime set, so one install answers for both.
        names = ("runtime", "dev") if lock == "dev" else ("runtime",)
        draft = self._stamp_file.with_suffix(".draft")
        draft.write_text(json.dumps({name: self._fingerprint(name) for name in names}))
        draft.replace(self._stamp_file)
        _say(f"Ready to run after {time.monotonic() - began:.0f} s.")

    def _runs(self) -> bool:
        probe = "import os, sys; sys.exit(sys.version_info < (3, 11) or not os.path.samefile(sys.argv[1], sys.prefix))"
        return self._succeeds("-c", probe, str(self.home))

    def _succeeds(self, *arguments: str) -> bool:
        try:
            done = subprocess.run([self.python, *arguments], capture_output=True, check=False)
        except OSError:
            return False
        return done.returncode == 0

    def _make(self) -> None:
        bundled = ["--without-pip"] if importlib.util.find_spec("ensurepip") is None else []
        made = subprocess.run([sys.executable, "-m", "venv", "--clear", *bundled, self.home],
                              capture_output=True, text=True, check=False)
        if made.returncode:
            raise BootstrapFailed(_sentence_for(made.stdout + made.stderr, "Python could not make .venv"))

    def _install(self, file: Path) -> None:
        environment = {"PIP_RETRIES": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", **self._environ}
        if not self._succeeds("-m", "pip", "--version"):
            # A wheel is a zip that Python can import from: pip runs out of it without being installed.
            environment["PYTHONPATH"] = str(pinned_pip(self.home, PipOptions(self._environ)))
        done = subprocess.run(
            [self.python, "-m", "pip", "install", "--quiet", "--require-hashes", "--only-binary=:all:",
             "--no-warn-script-location", "-r", file],
            env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace", check=False)
        if done.returncode:
            with contextlib.suppress(OSError):  # a full disk may be what is to be told
                self._install_log.write_text(done.stdout)
            raise BootstrapFailed(_sentence_for(done.stdout, f"Installing failed; {self._install_log} tells more"))

    def _find_checkout(self) -> None:
        """The checkout is imported from where it is; a .pth file says where, also to a process started elsewhere."""
        for packages in self.home.glob("lib/python3*/site-packages"):
            (packages / "paydesk.pth").write_text(f"{ROOT}\n")


class PipOptions:
    """What the machine's pip configuration says, read as pip does: the environment, then its files."""

    FILES = ("/etc/pip.conf", "~/.pip/pip.conf", "~/.config/pip/pip.conf")

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def get(self, name: str) -> str:
        """The option's value, "" when nothing sets it."""
        from_environment = self._environ.get("PIP_" + name.upper().replace("-", "_"))
        if from_environment:
            return from_environment
        named = self._environ.get("PIP_CONFIG_FILE", "")
        if named == os.devnull:  # pip's way to be told of no file at all
            return ""
        parser = configparser.RawConfigParser()
        with contextlib.suppress(configparser.Error, UnicodeDecodeError):
            parser.read([Path(file).expanduser() for file in (*self.FILES, named)])
        return parser.get("install", name, fallback="") or parser.get("global", name, fallback="")


def _sentence_for(output: str, otherwise: str) -> str:
    for pattern, sentence in PIP_FAULTS.items():
        found = re.search(pattern, output)
        if found:
            return sentence.format(**found.groupdict())
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return f"{otherwise}: {lines[-1]}" if lines else f"{otherwise}."

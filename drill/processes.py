"""One process of the drilled desk: killed and frozen by its pid, and started again as it was."""

import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path


class DeskProcess:
    """A process that the drill may kill at any moment; the drill is also what starts it again."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path, *,
                 in_child: Callable[[], None] | None) -> None:
        self.name = name
        self.frozen = False
        self._command, self._environment, self._folder, self._log = command, environment, folder, log
        self._in_child = in_child
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and do not wait for it. Called from the main thread, which it must not outlive."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=self._folder, env=self._environment, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True, preexec_fn=self._in_child)  # noqa: PLW1509  # one system call

    @property
    def runs(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """How it ended; None while it runs."""
        return None if self._process is None else self._process.poll()

    def kill(self) -> None:
        """End it as a crash would, frozen or not."""
        self.frozen = False
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def freeze(self) -> None:
        """Stop its time."""
        if self.runs and self._process is not None:
            self._process.send_signal(signal.SIGSTOP)
            self.frozen = True

    def thaw(self) -> None:
        """Let its time go on."""
        if self._process is not None and self.frozen:
            self._process.send_signal(signal.SIGCONT)
        self.frozen = False

    def told(self, lines: int = 15) -> str:
        """The last lines of its log."""
        if not self._log.exists():
            return ""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])

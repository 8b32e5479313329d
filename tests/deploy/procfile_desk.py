"""A whole desk as somebody runs it who has a process runner and two servers: the Procfile's lines, through a shell."""

import contextlib
import http.client
import os
import re
import select
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from cli.servers import BROKER, LOOPBACK, STORE, EmbeddedServer, free_port
from tests.cli.conftest import eventually
from tests.deploy import image

READY_SECONDS = 45.0
STOP_SECONDS = 40.0


def procfile() -> dict[str, str]:
    """The Procfile's lines by name, read as its runners do."""
    lines = (image.ROOT / "Procfile").read_text().splitlines()
    return {match[1]: match[2] for line in lines if (match := re.match(r"([A-Za-z0-9_-]+):\s*(.+)$", line))}


class ProcfileDesk:
    """A desk in mock mode on servers that it did not start; everything that it writes is in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.app, self.data = folder / "app", folder / "data"
        self._logs = folder / "logs"
        self._servers = [EmbeddedServer(role, folder / "outside") for role in (STORE, BROKER)]
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        # Each process holds the other end, its shell's child too, which outlives the shell: at its end all have ended.
        self._held_by_all, self._held = os.pipe()
        self.files: list[str] = []
        """What the image holds, and so the desk runs from."""

    def __enter__(self) -> Self:
        try:
            return self._start()
        except BaseException:
            self.close()
            raise

    def _start(self) -> Self:
        for server in self._servers:
            server.start()
        for made in (self.app, self.data, self._logs):
            made.mkdir()
        self.files = image.lay_out(image.ROOT, self.app)
        self.port, self.flower_port = free_port(), free_port()
        self.url = f"http://{LOOPBACK}:{self.port}"
        self.redis_url, broker_url = (server.url for server in self._servers)
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}"
        # Nothing is inherited: a setting of whoever runs the tests must not reach it.
        self.environment = image.environment() | {
            "PATH": path, "HOME": str(self.data), "PAYDESK_DATA_DIR": str(self.data), "REDIS_URL": self.redis_url,
            "BROKER_URL": broker_url, "PAYDESK_PORT": str(self.port), "FLOWER_PORT": str(self.flower_port)}
        for name, line in procfile().items():
            with self.log(name).open("wb") as log:
                self._processes[name] = subprocess.Popen(["sh", "-c", line], cwd=self.app, env=self.environment,
                                                         stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                                         start_new_session=True, pass_fds=(self._held,))
        try:
            eventually(lambda: self._failed() or self.status("/readyz") == 200, "readiness",
                       within_seconds=READY_SECONDS)
            assert not self._failed()
        except AssertionError as failed:
            raise AssertionError(f"{failed}\n{self.said()}") from None
        return self

    def _failed(self) -> bool:
        return any(process.poll() is not None for process in self._processes.values())

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End everything that was started, as its runner would."""
        os.close(self._held)
        self._signal(signal.SIGTERM)
        if not select.select([self._held_by_all], [], [], STOP_SECONDS)[0]:
            self._signal(signal.SIGKILL)
        os.close(self._held_by_all)
        for process in self._processes.values():
            process.wait()
        for server in self._servers:
            server.kill()

    def _signal(self, number: signal.Signals) -> None:
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)

    def log(self, name: str) -> Path:
        """What a process says."""
        return self._logs / f"{name}.log"

    def said(self) -> str:
        """What all of them say."""
        return "\n".join(f"-- {name}\n{self.log(name).read_text()}" for name in self._processes)

    def status(self, path: str, port: int | None = None) -> int | None:
        """How an address answers; None when nobody does."""
        connection = http.client.HTTPConnection(LOOPBACK, port or self.port, timeout=5)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except OSError:
            return None
        finally:
            connection.close()

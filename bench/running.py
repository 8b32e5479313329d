"""Runs a desk as its user does, `./paydesk up` in a process of its own, and times what it does."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from shared.settings import process_environment

LOOPBACK = "127.0.0.1"
CHECKOUT = Path(__file__).resolve().parent.parent
READY_SECONDS = 180.0


@dataclass(frozen=True, slots=True)
class RunningDesk:
    """A desk that answers at `url`."""

    url: str
    data_dir: Path
    ready_seconds: float
    process: subprocess.Popen[bytes]

    def stop(self) -> float:
        """Stop it as Ctrl-C does; answers how many seconds that took."""
        start = time.perf_counter()
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)
        return time.perf_counter() - start


def free_port() -> int:
    """A port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def running_desk(data_dir: Path, *, checkout: Path = CHECKOUT, settings: dict[str, str] | None = None,
                 workers: int = 2) -> Iterator[RunningDesk]:
    """A desk that is ready, stopped at the end. `settings` are environment variables; the key is empty unless given."""
    port = free_port()
    environment = process_environment(**{"STRIPE_SECRET_KEY": "", "REDIS_URL": "", "BROKER_URL": "", "FLOWER_PORT": "0",
                                         **(settings or {})})
    command = [sys.executable, str(checkout / "paydesk"), "up", "--port", str(port), "--data-dir", str(data_dir),
               "--workers", str(workers)]
    start = time.perf_counter()
    with (data_dir.parent / f"{data_dir.name}.out").open("wb") as output:
        process = subprocess.Popen(command, cwd=checkout, env=environment, stdin=subprocess.DEVNULL, stdout=output,
                                   stderr=output, start_new_session=True)
    try:
        url = f"http://{LOOPBACK}:{port}"
        _wait_until_ready(port, process, output.name)
        yield RunningDesk(url, data_dir, time.perf_counter() - start, process)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(60)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def _wait_until_ready(port: int, process: subprocess.Popen[bytes], output: str) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError):
            connection = http.client.HTTPConnection(LOOPBACK, port, timeout=2)
            connection.request("GET", "/readyz")
            if connection.getresponse().status == HTTPStatus.OK:
                return
        time.sleep(0.05)
    raise RuntimeError(f"The desk did not become ready: {Path(output).read_text(errors='replace')[-2000:]}")

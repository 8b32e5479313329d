"""The verbs of a client, run as their user does: a process, two outputs, an exit code; and a desk of any manners."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
SECONDS = 40


class Done(NamedTuple):
    """How a run ended."""

    code: int
    out: str
    err: str


def command(*arguments: str) -> list[str]:
    """`paydesk` with these arguments."""
    return [sys.executable, "-P", "-m", "cli", *arguments]


def surroundings(url: str, **environment: str) -> dict[str, str]:
    """What a verb may know: where a desk is, and nothing of whoever runs the tests."""
    return {"PATH": os.defpath, "PYTHONPATH": str(ROOT), "PAYDESK_URL": url, "LANG": "C.UTF-8", **environment}


def paydesk(folder: Path, url: str, *arguments: str, **environment: str) -> Done:
    """Run a verb in an empty folder, its output piped."""
    done = subprocess.run(command(*arguments), cwd=folder, env=surroundings(url, **environment), capture_output=True,
                          text=True, timeout=SECONDS, check=False, stdin=subprocess.DEVNULL)
    return Done(done.returncode, done.stdout, done.stderr)


class Asked(NamedTuple):
    """A request that a stub got."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any
    at_seconds: float


class StubDesk:
    """Answers every request with the next of these answers, the last again and again; None: hangs up."""

    def __init__(self, *answers: tuple[int, str] | None) -> None:
        self._answers = list(answers)
        self.asked: list[Asked] = []

    def answer(self, request: Asked) -> tuple[int, str] | None:
        """The answer to the next request."""
        self.asked.append(request)
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


@contextmanager
def serving(stub: StubDesk) -> Iterator[str]:
    """Where the stub answers, as long as this lasts."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(length)) if length else None
            answer = stub.answer(Asked(self.command, self.path, dict(self.headers), body, time.monotonic()))
            if answer is None:
                self.close_connection = True
                return
            status, text = answer
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        do_POST = do_GET  # noqa: N815  # the name that http.server calls

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()

"""Drives a stand-in from a test, the drill or the bench: starts it, scripts it, asks it what really happened."""

from __future__ import annotations

import json
import select
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from standin.client_webhooks import WebhookControl

Json = dict[str, Any]
_ROOT = Path(__file__).resolve().parents[1]
_READY = "stand-in ready on "
_START_SECONDS = 20.0
_STOP_SECONDS = 10.0
# loopback is never asked through a proxy
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class StandinFailed(RuntimeError):
    """The stand-in did not start, or did not take a control request."""


class Standin:
    """One running stand-in; stopping ends only the process that `start` began."""

    def __init__(self, base_url: str, process: subprocess.Popen[str] | None = None) -> None:
        self.base_url = base_url
        self._process = process
        self._url = base_url
        facts = self.get_settings()
        self._url = str(facts["control_url"])
        self.control_url = self._url
        self.db: str | None = facts["db"]
        self.webhooks = WebhookControl(self._ask)

    @classmethod
    def start(cls, db: Path | str | None = None, port: int = 0, control_port: int = 0, *, memory: bool = False) -> Self:
        """Start one as a process of its own and wait until it listens."""
        arguments = [sys.executable, "-m", "standin", "--port", str(port), "--control-port", str(control_port)]
        if db is not None:
            arguments += ["--db", str(Path(db).absolute())]
        if memory:
            arguments.append("--memory")
        process = subprocess.Popen(arguments, cwd=_ROOT, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        try:
            return cls(_await_ready(process), process)
        except BaseException:
            _end(process, kill=True)
            raise

    def stop(self) -> None:
        """End the process that `start` began, politely first; no matter how often."""
        if self._process is not None:
            _end(self._process, kill=False)

    def kill(self) -> None:
        """End the process that `start` began with SIGKILL, as a crash would."""
        if self._process is not None:
            _end(self._process, kill=True)

    @property
    def exit_status(self) -> int | None:
        """Give how the process ended, None while it runs or when another began it."""
        return None if self._process is None else self._process.poll()

    def fault(
        self, action: str, *, delay_ms: float = 0, end: str = "rst", effect: bool | None = None, **match: Any
    ) -> Json:
        """Script one fault; `match` takes the names of `faults.Match`, such as method, path_end, job_id, nth, times."""
        given = {"action": action, "match": match, "delay_ms": delay_ms, "end": end, "effect": effect}
        found: Json = self._ask("POST", "faults", {"faults": [given]})["faults"][0]
        return found

    def faults(self) -> list[Json]:
        """Give the faults in force with how often each was matched and played."""
        return list(self._ask("GET", "faults")["faults"])

    def clear_faults(self) -> None:
        """Put no fault in force."""
        self._ask("DELETE", "faults")

    def effects(self, kind: str | None = None, job_id: str | None = None) -> list[Json]:
        """Give what really happened, oldest first."""
        found = self._ask("GET", "effects")["effects"]
        return [e for e in found if kind in {None, e["kind"]} and job_id in {None, e["job_id"]}]

    def requests(self) -> list[Json]:
        """Give what was asked and answered, oldest first; one in flight has no `finished_at`."""
        return list(self._ask("GET", "requests")["requests"])

    def advance(self, seconds: float) -> None:
        """Move the stand-in's clock forward."""
        self._ask("POST", "clock", {"advance_seconds": seconds})

    def pay(self, payment_intent: str) -> Json:
        """Play the customer who pays an intent in a browser; give the intent."""
        return self._ask("POST", "pay", {"payment_intent": payment_intent})

    def dispute(self, of: str, step: str) -> Json:
        """Play the bank: `open` a dispute of an intent; `withdraw`, `reinstate`, `win` or `lose` one."""
        return self._ask("POST", "dispute", {"of": of, "step": step})

    def rates(self) -> Json:
        """Give requests for each endpoint in windows of 100 ms, the most in flight at once, effects for each second."""
        return self._ask("GET", "rates")

    def settings(
        self,
        *,
        latency_ms: float | None = None,
        latency: Json | None = None,
        limits: Json | None = None,
        capture: bool | None = None,
    ) -> Json:
        """Set latency, limits (`{}` lifts either) or capturing (`requests` shows what came); give what is in force.

        `latency` is {"seed", "default": {"p50_ms", "p95_ms"}, "endpoints": {"POST /v1/payment_intents": {…}}}.
        """
        asked = {"latency_ms": latency_ms, "latency": latency, "limits": limits, "capture": capture}
        return self._ask("POST", "settings", {name: value for name, value in asked.items() if value is not None})

    def get_settings(self) -> Json:
        """Give what is in force, both addresses and the database file."""
        return self._ask("GET", "settings")

    def refuse(self, seconds: float | None = None, *, drop: str = "idle") -> None:
        """Refuse connections for a time or until `accept`; `drop` resets open ones: none, idle or all."""
        self._ask("POST", "refuse", {"seconds": seconds, "drop": drop})

    def accept(self) -> None:
        """Take connections again."""
        self._ask("POST", "accept")

    def reset(self) -> None:
        """Forget objects, keys, effects, events, webhooks, faults, settings, logs and how far the clock was moved."""
        self._ask("POST", "reset")

    def _ask(self, method: str, name: str, body: Json | None = None) -> Json:
        data = None if body is None else json.dumps(body).encode()
        if data is None and method == "POST":
            data = b""
        url = f"{self._url}/_standin/{name}"
        request = urllib.request.Request(url, data=data, method=method)  # noqa: S310 - always http on loopback
        try:
            with _OPENER.open(request, timeout=30) as answer:
                found: Json = json.load(answer)
                return found
        except urllib.error.HTTPError as error:
            with error:
                raise StandinFailed(f"{method} {name}: {error.status} {error.read().decode()}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _await_ready(process: subprocess.Popen[str]) -> str:
    pipe = process.stderr
    assert pipe is not None  # noqa: S101 - asked for when it was started
    deadline = time.monotonic() + _START_SECONDS
    said = ""
    while time.monotonic() < deadline:
        if not select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
            break
        line = pipe.readline()
        if line.startswith(_READY):
            # a full pipe would stop the stand-in, so what it says is passed on
            threading.Thread(target=_pass_on, args=(pipe,), daemon=True).start()
            return line.removeprefix(_READY).strip()
        said += line
        if not line:
            break
    pipe.close()
    raise StandinFailed(f"the stand-in did not start: {said.strip()}")


def _pass_on(pipe: IO[str]) -> None:
    with pipe:
        for line in pipe:
            sys.stderr.write(line)


def _end(process: subprocess.Popen[str], *, kill: bool) -> None:
    if process.poll() is None:
        if kill:
            process.kill()
        else:
            process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_STOP_SECONDS)

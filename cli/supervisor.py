"""Keeps processes running: starts them stage by stage, restarts what dies, stops them in reverse; all by their pids."""

import asyncio
import contextlib
import ctypes
import json
import os
import re
import signal
import sys
import time
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.errors import PaydeskError, SettingsRefused

EXIT_REFUSED = 78
POLL_SECONDS = 0.05
HURRIED_SECONDS = 1.0
"""What a process still gets to end by itself once the user hurries."""
STARTS_BEFORE_GIVING_UP = 3
LOG_BYTES = 10_000_000
GRAVE = frozenset({"warning", "error", "critical"})
GRAVE_TEXT = re.compile(r"\b(WARNING|ERROR|CRITICAL|FATAL)\b")
_PR_SET_PDEATHSIG = 1


class StartFailed(PaydeskError):
    """A process does not come up; the message is the one sentence for the user."""

    code = "start_failed"


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """One process to keep running."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    cwd: Path | None = None
    ready: Callable[[], bool] | None = None
    """Asked in a thread until it says yes, before the next stage starts; None: started is enough."""
    ready_seconds: float = 60
    stop_seconds: float = 10
    """How long it may take to end after SIGTERM; then it is killed."""
    echo: bool = True
    """Whether its warnings are shown on the terminal; its log file has everything in any case."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before a restart: doubling, from the start again after a steady run."""

    first_seconds: float = 0.2
    longest_seconds: float = 15
    steady_seconds: float = 30

    def delays(self) -> Iterator[float]:
        """The waits between restarts that follow close upon each other."""
        delay = self.first_seconds
        while True:
            yield delay
            delay = min(delay * 2, self.longest_seconds)


class Supervisor:
    """Runs stages of processes until stop(). Whatever ends before is started again, with back-off.

    No child outlives it: on Linux not even when it is killed with -9 (elsewhere that is left to the next start).
    """

    def __init__(self, log_dir: Path, say: Callable[[str], None], *, backoff: Backoff | None = None) -> None:
        self.failure: asyncio.Future[PaydeskError] = asyncio.get_running_loop().create_future()
        """Done when a process cannot be brought up at all."""
        self._log_dir = log_dir
        self._say = say
        self._backoff = backoff or Backoff()
        self._stages: list[list[_Child]] = []
        self._hurried = asyncio.Event()
        self._up = False

    async def start(self, stages: Sequence[Sequence[ProcessSpec]]) -> None:
        """Start each stage once the one before is ready. Raises StartFailed when one does not get ready in time."""
        for specs in stages:
            children = [_Child(spec, self._log_dir, self._say, self._backoff, self._judge) for spec in specs]
            self._stages.append(children)
            for child in children:
                child.begin()
            for child in children:
                await child.until_ready()

    def settled(self) -> None:
        """Say that all is up: from now on every end is followed by a restart, whatever its reason."""
        self._up = True

    def hurry(self) -> None:
        """Give what is still stopping a second instead of its full time."""
        self._hurried.set()

    async def stop(self) -> None:
        """End everything in reverse order of start, each stage before the next."""
        for children in reversed(self._stages):
            await asyncio.gather(*(child.stop(self._hurried) for child in children))

    def restarts(self) -> dict[str, int]:
        """How often each process was started again."""
        return {child.spec.name: child.restarts for children in self._stages for child in children}

    def pids(self) -> dict[str, int]:
        """The processes that run now."""
        return {child.spec.name: child.pid for children in self._stages for child in children if child.pid}

    def _judge(self, child: "_Child", code: int) -> None:
        """Before everything is up, a process that refuses or keeps ending is the user's to mend, not ours to repeat."""
        if self._up or self.failure.done():
            return
        refused = code == EXIT_REFUSED
        if refused or child.restarts + 1 >= STARTS_BEFORE_GIVING_UP:
            sentence = f"{child.spec.name} does not start ({_ending(code)}): {child.last_line} See {child.log.path}."
            self.failure.set_result(SettingsRefused(sentence) if refused else StartFailed(sentence))


class _Child:
    """One supervised process over all its restarts."""

    def __init__(self, spec: ProcessSpec, log_dir: Path, say: Callable[[str], None], backoff: Backoff,
                 judge: Callable[["_Child", int], None]) -> None:
        self.spec = spec
        self.restarts = 0
        self.last_line = ""
        self.log = _LogFile(log_dir / f"{spec.name.replace(' ', '-')}.log")
        self._say = say
        self._backoff = backoff
        self._judge = judge
        self._process: Process | None = None
        self._stopping = asyncio.Event()
        self._life: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None and self._process.returncode is None else 0

    def begin(self) -> None:
        self._life = asyncio.create_task(self._live(), name=self.spec.name)

    async def until_ready(self) -> None:
        deadline = time.monotonic() + self.spec.ready_seconds
        while self.spec.ready is not None and not await asyncio.to_thread(self.spec.ready):
            if time.monotonic() > deadline:
                raise StartFailed(f"{self.spec.name} is not ready after {self.spec.ready_seconds:g} s; "
                                  f"{self.log.path} tells more.")
            await asyncio.sleep(POLL_SECONDS)

    async def stop(self, hurried: asyncio.Event) -> None:
        self._stopping.set()
        if self._life is None:
            return
        self._signal(signal.SIGTERM)
        hurry = asyncio.create_task(hurried.wait())
        await asyncio.wait({self._life, hurry}, timeout=self.spec.stop_seconds, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        if hurried.is_set() and not self._life.done():
            await asyncio.wait({self._life}, timeout=HURRIED_SECONDS)
        if not self._life.done():
            self._say(f"{self.spec.name} did not end by itself and was killed.")
            self._signal(signal.SIGKILL)
        await self._life
        self.log.close()

    async def _live(self) -> None:
        delays = self._backoff.delays()
        while True:
            began = time.monotonic()
            code = await self._run_once()
            if self._stopping.is_set():
                return
            if time.monotonic() - began > self._backoff.steady_seconds:
                delays = self._backoff.delays()
            self._judge(self, code)
            delay = next(delays)
            self.restarts += 1
            self._say(f"{self.spec.name} ended ({_ending(code)}); restart {self.restarts} in {delay:g} s.")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay)
                return

    async def _run_once(self) -> int:
        try:
            self._process = process = await asyncio.create_subprocess_exec(
                *self.spec.command, env=self.spec.environment, cwd=self.spec.cwd, stdin=asyncio.subprocess.DEVNULL,
                stdout=PIPE, stderr=STDOUT, start_new_session=True,
                preexec_fn=die_with_parent())  # it makes one system call, prepared before the fork
        except OSError as failed:
            self.last_line = f"{failed.strerror}: {failed.filename}."
            return 127
        if self._stopping.is_set():
            self._signal(signal.SIGTERM)
        await self._follow(process)
        return await process.wait()

    async def _follow(self, process: Process) -> None:
        output = process.stdout
        while output is not None:
            try:
                line = await output.readline()
            except ValueError:  # a line beyond the reader's limit: it is dropped
                continue
            if not line:
                return
            self.log.write(line)
            text = line.decode(errors="replace").rstrip()
            self.last_line = text or self.last_line
            shown = _worth_showing(text) if self.spec.echo else ""
            if shown:
                self._say(f"{self.spec.name:<8} | {shown}")

    def _signal(self, number: signal.Signals) -> None:
        """Its whole session, which it leads; it is not reaped yet, so the number is still its own."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)


class _LogFile:
    """A log that keeps at most one older file beside it; a full disk loses lines, never the process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=0)

    def write(self, line: bytes) -> None:
        with contextlib.suppress(OSError):
            if self._file.tell() + len(line) > LOG_BYTES:
                self._file.close()
                self.path.replace(self.path.with_suffix(".log.1"))
                self._file = self.path.open("ab", buffering=0)
            self._file.write(line)

    def close(self) -> None:
        self._file.close()


def _worth_showing(text: str) -> str:
    """What the terminal shows of a log line: of a structured one its event's first line, "" below a warning."""
    try:
        line = json.loads(text)
        return f"{line['level']}: {line['event']}".partition("\n")[0] if line["level"] in GRAVE else ""
    except (ValueError, KeyError, TypeError):
        return text if GRAVE_TEXT.search(text) else ""


def _ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def die_with_parent() -> Callable[[], None] | None:
    """What a child does before it becomes its program: ask the kernel to be killed when this process is gone."""
    if sys.platform != "linux":
        return None
    parent = os.getpid()
    prctl = ctypes.CDLL(None).prctl

    def in_child() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:  # it was gone before the kernel had been asked
            os._exit(1)

    return in_child

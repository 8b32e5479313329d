"""Forked processes: from one warm parent, in milliseconds, ended by a failpoint or watched to their end."""

import asyncio
import json
import mmap
import os
import select
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cli.servers import EmbeddedServer
from shared import failpoints
from tests.faults.sweep.combinations import Crash, Stop

_LONGEST_SECONDS = 60.0
_NOTE_BYTES = 1 << 16


Arm = Callable[[], None]
"""Called by a forked process when it is built and its failpoint is to be armed."""
Main = Callable[[Arm], Coroutine[Any, Any, None]]


class Note:
    """A page of memory in which a forked process leaves word."""

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, _NOTE_BYTES)

    def write(self, **said: Any) -> None:
        """Add to what was said."""
        text = json.dumps({**self.read(), **said}).encode()
        self._page[:len(text) + 1] = text + b"\0"

    def read(self) -> dict[str, Any]:
        """All that was said."""
        text = bytes(self._page[:]).partition(b"\0")[0]
        found: dict[str, Any] = json.loads(text) if text else {}
        return found

    def clear(self) -> None:
        """Forget it."""
        self._page[0] = 0


@dataclass(frozen=True, slots=True)
class Ended:
    """How a forked process ended."""

    exit_code: int
    store_died: bool
    reached: bool
    """Whether its failpoint was reached."""
    passed: Counter[str] = field(default_factory=Counter)
    """How often each failpoint was passed, if that was watched."""


class Forks:
    """Forks processes that use one store, and starts that again when one of them has killed it."""

    def __init__(self, store: EmbeddedServer, log: Path) -> None:
        self._store = store
        self._log = log
        self.note = Note()
        self._passed: Counter[str] | None = None

    def run(self, main: Main, stop: Stop | None, *, watched: bool = False) -> Ended:
        """Run a coroutine in a process of its own until it ends, is stopped, or has taken too long."""
        self.note.clear()
        store_id = self._store_id()
        child = os.fork()
        if child == 0:
            self._be_child(main, stop, store_id, watched=watched)
        store_died = self._wait(child, store_id)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        reached = stop is not None and (store_died if stop.crash is Crash.STORE else code == failpoints.EXIT_CODE)
        return Ended(code, store_died, reached, Counter(self.note.read().get("passed", {})))

    def _store_id(self) -> int:
        process = self._store._process
        assert process is not None
        return process.pid

    def _wait(self, child: int, store_id: int) -> bool:
        """Return when the child has ended; a store that dies meanwhile is started again at once."""
        store_died, deadline = False, time.monotonic() + _LONGEST_SECONDS
        child_end, store_end = os.pidfd_open(child), os.pidfd_open(store_id)
        try:
            poll = select.poll()
            for end in (child_end, store_end):
                poll.register(end, select.POLLIN)
            while True:
                ready = {end for end, _ in poll.poll(max(0.0, 1000 * (deadline - time.monotonic())))}
                if store_end in ready:
                    poll.unregister(store_end)
                    self._restart()
                    store_died = True
                if child_end in ready:
                    return store_died
                if not ready:
                    os.kill(child, signal.SIGKILL)
        finally:
            os.close(child_end)
            os.close(store_end)

    def _restart(self) -> None:
        self._store.kill()
        self._store.start()

    def _be_child(self, main: Main, stop: Stop | None, store_id: int, *,
                  watched: bool) -> None:
        code = 1
        try:
            log = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(log, 1)
            os.dup2(log, 2)
            asyncio.run(main(lambda: self._arm(stop, store_id, watched=watched)))
            if self._passed is not None:
                self.note.write(passed=self._passed)
            code = 0
        except BaseException:  # noqa: BLE001  # it is told in the log, and by the exit code
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _arm(self, stop: Stop | None, store_id: int, *, watched: bool) -> None:
        if watched:
            self._passed = failpoints.watch()
        if stop is None or watched:
            return

        def kill_store(_: str) -> None:
            end = os.pidfd_open(store_id)
            os.kill(store_id, signal.SIGKILL)
            select.select([end], [], [])  # from here on nothing is answered any more
            if stop.crash is Crash.BOTH:
                os._exit(failpoints.EXIT_CODE)

        action = failpoints.Action.EXIT if stop.crash is Crash.EXIT else failpoints.Action.CALL
        failpoints.arm(f"{stop.failpoint}={action}@{stop.nth}", kill_store)

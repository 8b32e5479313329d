"""Writes the log files from the streams: one follower per folder, resuming after the last whole line. Best effort.

Nothing waits for it: a full disk, a missing folder or a follower that dies costs lines until it is mended, never a job.
"""

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import structlog
from redis.exceptions import RedisError

from shared.errors import StoreUnavailable
from shared.events import START, Events, Log, Position, gap
from shared.failpoints import failpoint

log = structlog.get_logger(__name__)

TICK_SECONDS = 1.0
LOCK_FILE = ".log_follower.lock"
_TAIL_BYTES = 64 * 1024
"""Longer than any line: where the last whole line of a file is looked for."""


class LogFollower:
    """Follows the streams into the log files of one folder, if no other process does."""

    def __init__(self, events: Events, folder: Path) -> None:
        self._events = events
        self._folder = folder
        self._positions: dict[Log, Position] = {}
        self._failing = False

    async def run(self) -> None:
        """Wait for the folder, then write what comes, until cancelled."""
        while True:
            with contextlib.suppress(OSError), _alone(self._folder) as alone:
                if alone:
                    self._positions = {}
                    await self._follow()
            await asyncio.sleep(TICK_SECONDS)

    async def _follow(self) -> None:
        while True:
            await self.tick()
            await asyncio.sleep(TICK_SECONDS)

    async def tick(self) -> int:
        """Write what has come since the last tick; answers how many lines. A failure is said once and tried again."""
        try:
            written = sum([await self._write_log(each) for each in Log])
        except (OSError, StoreUnavailable, RedisError) as failure:
            if not self._failing:
                log.warning("log_stopped", folder=str(self._folder), reason=type(failure).__name__)
            self._failing = True
            self._positions = {}
            return 0
        if self._failing:
            log.warning("log_resumed", folder=str(self._folder))
        self._failing = False
        return written

    async def _write_log(self, which: Log) -> int:
        if which not in self._positions:
            self._positions[which] = await asyncio.to_thread(resume, self._folder, which)
            await self._note_gap(which)
        written = 0
        async for page in self._events.lines(which, self._positions[which]):
            failpoint("log.before")
            await asyncio.to_thread(_append, self._folder / which, "".join(line for _, line in page))
            failpoint("log.after")
            if page:
                self._positions[which] = page[-1][0]
                written += len(page)
        return written

    async def _note_gap(self, which: Log) -> None:
        """Say that lines are missing, when the entries behind the last one written are gone."""
        last, first = self._positions[which], await self._events.first(which)
        if last == START or first is None or first <= last or await self._events.kept(last):
            return
        await asyncio.to_thread(_append, self._folder / which, gap(last, first))


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Hold the folder if nobody else does; the kernel frees it however the holder ends."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / LOCK_FILE).open("a") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def resume(folder: Path, which: Log) -> Position:
    """Where a log goes on: behind its last whole line, or that of the file it was moved to; START for a new one.

    A torn line, left by a crash or a full disk, is cut off.
    """
    path = folder / which
    if path.exists():
        _mend(path)
    files = sorted(folder.glob(f"{which}*"))
    return max((position for file in files if (position := _last_position(file))), default=START)


def _mend(path: Path) -> None:
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        start = max(0, size - _TAIL_BYTES)
        file.seek(start)
        tail = file.read()
        if tail and not tail.endswith(b"\n"):
            file.truncate(start + tail.rfind(b"\n") + 1)


def _last_position(path: Path) -> Position | None:
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    return next((position for line in reversed(lines) if (position := Position.of_line(line))), None)


def _append(path: Path, text: str) -> None:
    """Append to a file that is opened by name each time, so that a moved one is left alone; never through a link."""
    if not text:
        return
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        data = text.encode()
        while data:
            data = data[os.write(handle, data):]
    finally:
        os.close(handle)

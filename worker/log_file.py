"""The files of a log folder: held by one process, appended to by whole lines, and read again to see where to go on.

What is already in a file says where it goes on, so a crash between any two steps loses and doubles nothing. Only for a
file that was taken away (moved, compressed, emptied) a small position file beside it remembers. Everything here blocks.
"""

import contextlib
import errno
import fcntl
import os
import stat
from pathlib import Path

from shared.events import LINE_BEGINS, START, Log, Position
from shared.failpoints import failpoint

_TAIL_BYTES = 64 * 1024
"""Many times the longest line: the end of a file in which its last lines are looked for."""
_BEGINS = LINE_BEGINS.encode()
_NEVER_ELSEWHERE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""Never through a link that somebody put there, and never waiting for a pipe's reader."""


class LogFolder:
    """A folder of logs. The lock is on the folder itself: whoever deletes it or puts another in its place, nobody ever
    writes beside its holder. The kernel frees it however the holder ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held: int | None = None

    def hold(self) -> bool:
        """Take the folder, made if need be; False when another process has it."""
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._held = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.let_go()
            return False
        return True

    def still(self) -> bool:
        """Whether what is held is still what stands at the path."""
        try:
            return self._held is not None and os.path.samestat(os.fstat(self._held), self._path.stat())
        except FileNotFoundError:
            return False

    def let_go(self) -> None:
        """Free it for others."""
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def names(self) -> list[str]:
        """What is in it."""
        return os.listdir(self._at())  # noqa: PTH208  # pathlib cannot list what is only held open

    def remove(self, *names: str) -> None:
        """Delete files that may be there."""
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self._at())

    def open(self, name: str, flags: int) -> int:
        """Open a regular file in the folder that is held, whatever stands at its path by now."""
        handle = os.open(name, flags | _NEVER_ELSEWHERE, 0o600, dir_fd=self._at())
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise OSError(errno.EINVAL, "no regular file", name)
        return handle

    def _at(self) -> int:
        if self._held is None:
            raise OSError(errno.EBADF, "the folder is not held")
        return self._held


class LogFile:
    """One log in a folder that is held."""

    def __init__(self, folder: LogFolder, log: Log) -> None:
        self._folder = folder
        self._name = str(log)
        self._left: tuple[int, int] | None = None

    def resume(self, newest: Position | None, known: Position = START) -> Position:
        """Where to go on: behind the last whole line of the file, else where the log had come to before it was moved.

        A torn line, left by a crash or a full disk, is cut off. Places after `newest` are none of this store's.
        """
        limit = newest or START
        try:
            handle = self._folder.open(self._name, os.O_RDWR)
        except FileNotFoundError:
            self._left, position = None, None
        else:
            try:
                _mend(handle, finish=True)
                self._left, position = _identity(handle), _last(handle, limit)
            finally:
                os.close(handle)
        if position is None:
            moved = [self._of_moved(name, limit) for name in self._folder.names()
                     if name.startswith(self._name) and name != self._name]
            position = max(place for place in (*moved, self._kept(), known, START) if place and place <= limit)
        self._keep(position)
        return position

    def append(self, text: str, last: Position) -> bool:
        """Append lines to the file that now has the name; False, and nothing done, when it is not as it was left.

        An empty or missing one is a rotation and goes on.
        """
        handle = self._folder.open(self._name, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            found = _identity(handle)
            if found != self._left and found[1]:
                return False
            try:
                data = text.encode()
                while data:
                    data = data[os.write(handle, data):]
            except OSError:  # all of a page or nothing: what moves the file to make room takes no half page along
                os.ftruncate(handle, found[1])
                raise
            self._left = _identity(handle)
        finally:
            os.close(handle)
        failpoint("log.written")
        self._keep(last)
        return True

    def _of_moved(self, name: str, limit: Position) -> Position | None:
        try:
            handle = self._folder.open(name, os.O_RDWR)
        except OSError:
            return None
        try:
            _mend(handle, finish=False)
            return _last(handle, limit)
        finally:
            os.close(handle)

    @property
    def _position_name(self) -> str:
        return f".{self._name}.position"

    def _kept(self) -> Position | None:
        try:
            handle = self._folder.open(self._position_name, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            return Position.read(os.read(handle, 64).decode("ascii", "replace").strip())
        finally:
            os.close(handle)

    def _keep(self, position: Position) -> None:
        """Always as many bytes in the same place: a full disk has room for them."""
        handle = self._folder.open(self._position_name, os.O_WRONLY | os.O_CREAT)
        try:
            os.pwrite(handle, f"{position.ms:019d}-{position.sequence:020d}\n".encode(), 0)
        finally:
            os.close(handle)


def _identity(handle: int) -> tuple[int, int]:
    found = os.fstat(handle)
    return found.st_ino, found.st_size


def _tail(handle: int) -> tuple[int, bytes]:
    """The last bytes of a file and where they start."""
    size = os.fstat(handle).st_size
    start = max(0, size - _TAIL_BYTES)
    tail = b""
    while piece := os.pread(handle, size - start - len(tail), start + len(tail)):
        tail += piece
    return start, tail


def _mend(handle: int, *, finish: bool) -> None:
    """Cut off a torn line of ours; finish a line that somebody else left without its end, where we go on."""
    start, tail = _tail(handle)
    torn = tail[tail.rfind(b"\n") + 1:]
    if not torn:
        return
    begins_a_line = len(torn) < len(tail) or start == 0
    if begins_a_line and torn[:len(_BEGINS)] == _BEGINS[:len(torn)]:
        os.ftruncate(handle, start + len(tail) - len(torn))
    elif finish:
        os.pwrite(handle, b"\n", start + len(tail))


def _last(handle: int, limit: Position) -> Position | None:
    """The last place among the lines at the end of a file."""
    _, tail = _tail(handle)
    places = (Position.of_line(line) for line in tail.decode(errors="replace").split("\n"))
    return max((place for place in places if place and place <= limit), default=None)

"""What was asked and what was answered, newest last, in memory only."""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass
from itertools import count

from standin.errors import Json

KEPT = 100_000


@dataclass(slots=True)
class Entry:
    """One request; `status` stays None when no whole answer left."""

    seq: int
    method: str | None
    path: str | None
    key: str | None
    job_id: str | None
    started_at: float
    account: str | None = None
    status: int | None = None
    fault: str | None = None
    replayed: bool = False
    finished_at: float | None = None
    sent: Json | None = None  # what came, while capturing is on; never the authorization


class Log:
    """The last hundred thousand requests."""

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque(maxlen=KEPT)
        self._numbers = count(1)

    def open(self, method: str | None, path: str | None, key: str | None, job_id: str | None, now: float) -> Entry:
        """Note a request at its arrival, so that one in flight can be seen."""
        entry = Entry(next(self._numbers), method, path, key, job_id, now)
        self._entries.append(entry)
        return entry

    def describe(self) -> list[Json]:
        """Give all entries as JSON."""
        return [asdict(entry) for entry in self._entries]

    def clear(self) -> None:
        """Forget all entries."""
        self._entries.clear()

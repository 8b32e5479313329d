"""How fast requests came in, in windows of real time, and how many were in flight at once."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager

from standin.errors import Json

WINDOW_MS = 100
_PER_SECOND = 1000 // WINDOW_MS
_KEPT = 36_000  # an hour


class Rates:
    """Counts every request at its arrival, whatever becomes of it; the stand-in's own clock plays no part."""

    def __init__(self) -> None:
        self._windows: dict[str, deque[list[int]]] = defaultdict(lambda: deque(maxlen=_KEPT))
        self._in_flight = 0
        self._max_in_flight = 0

    @contextmanager
    def counted(self, endpoint: str) -> Iterator[None]:
        """Count one request, and that it is in flight until its answer or its end."""
        window = int(time.time() * 1000) // WINDOW_MS
        counts = self._windows[endpoint]
        if counts and counts[-1][0] == window:
            counts[-1][1] += 1
        else:
            counts.append([window, 1])
        self._in_flight += 1
        self._max_in_flight = max(self._max_in_flight, self._in_flight)
        try:
            yield
        finally:
            self._in_flight -= 1

    def describe(self) -> Json:
        """Give each endpoint's `[start in Unix ms, requests]` of every window that had any, and its worst second."""
        endpoints = {
            name: {"windows": [[at * WINDOW_MS, n] for at, n in counts], "peak_per_second": _peak(counts)}
            for name, counts in self._windows.items()
        }
        return {
            "window_ms": WINDOW_MS,
            "endpoints": endpoints,
            "in_flight": self._in_flight,
            "max_in_flight": self._max_in_flight,
        }

    def clear(self) -> None:
        """Forget all counts; what is in flight stays so."""
        self._windows.clear()
        self._max_in_flight = self._in_flight


def per_second(moments: list[float]) -> list[list[int]]:
    """Give `[second, how many]` for each second that had any."""
    found: dict[int, int] = defaultdict(int)
    for moment in moments:
        found[int(moment)] += 1
    return [[second, found[second]] for second in sorted(found)]


def _peak(counts: deque[list[int]]) -> int:
    """Any ten windows in a row are looked at, not only those that begin with a second."""
    found, total = 0, 0
    open_windows: deque[list[int]] = deque()
    for at, n in counts:
        open_windows.append([at, n])
        total += n
        while open_windows[0][0] <= at - _PER_SECOND:
            total -= open_windows.popleft()[1]
        found = max(found, total)
    return found

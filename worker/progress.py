"""Does this process still get its hints? Told by what it begins while hints wait, not by whether it is alive.

A consumer of Celery may stand still for good while its process, its connections and its heartbeat are well.
"""

import time
from collections.abc import Callable

STALLED_AFTER_SECONDS = 20.0
"""Longer than Celery takes to find a broker that came back (15 s); with what follows it is noticed within 30 s."""
MOST_PER_TICK_SECONDS = 2.0
"""What one tick may count at most: a machine that slept, or was starved, did not wait in that time."""

Clock = Callable[[], float]


class Progress:
    """Tells a stalled consumer from an idle or a busy one. Used on one thread; whoever ticks says what waits."""

    def __init__(self, threads: int, *, clock: Clock = time.monotonic) -> None:
        self._threads = threads
        self._clock = clock
        self._last_tick = clock()
        self._running = 0
        self._waited_seconds = 0.0
        self._consuming = False

    @property
    def running(self) -> int:
        """Tasks that have begun and not ended."""
        return self._running

    @property
    def stalled(self) -> bool:
        """Whether hints waited all the time, a thread was free all the time, and nothing began."""
        return self._waited_seconds >= STALLED_AFTER_SECONDS

    def consumes(self, *, consuming: bool) -> None:
        """Say whether hints are expected at all: not before the consumer is up, nor once it was asked to stop."""
        self._consuming = consuming
        self._waited_seconds = 0.0

    def began(self) -> None:
        """A task began."""
        self._running += 1
        self._waited_seconds = 0.0

    def ended(self) -> None:
        """A task ended."""
        self._running -= 1

    def tick(self, waiting: int | None) -> None:
        """So many hints wait now; None when the broker did not tell, which says nothing about the consumer."""
        now = self._clock()
        passed, self._last_tick = now - self._last_tick, now
        is_due = self._consuming and waiting is not None and waiting > 0 and self._running < self._threads
        self._waited_seconds = self._waited_seconds + min(passed, MOST_PER_TICK_SECONDS) if is_due else 0.0

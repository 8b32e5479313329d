"""The drill's own time: it stands still while the desk is behind, so that load and breaks keep step on any machine."""

import asyncio
import time
from collections.abc import Callable

BEHIND_SECONDS = 2.0
ENOUGH_UNDER_WAY = 30
_STEP_SECONDS = 0.05
_LONGEST_STEP_SECONDS = 0.5


class Pace:
    """Seconds of the drill since it began. Clients and breaks wait on it, so a slow machine stretches both alike."""

    def __init__(self, *, most_under_way: int, still_seconds: float,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = 0.0
        self.next_break: float | None = None
        """When the next break was to be made; None when none is left."""
        self.stopped = False
        """Whether nothing more is to be begun."""
        self._most_under_way, self._still_seconds = most_under_way, still_seconds
        self._clock = clock
        self._seen = clock()
        self._still_since: float | None = None

    def see(self, under_way: int | None) -> None:
        """Go on by the time that passed since the last look, unless the desk or the breaks are behind.

        After `still_seconds` it goes on all the same: a desk that is stuck must not keep the drill from its end.
        """
        now = self._clock()
        passed, self._seen = now - self._seen, now
        most = ENOUGH_UNDER_WAY if self._breaks_are_behind else self._most_under_way
        if under_way is not None and under_way > most:
            self._still_since = now if self._still_since is None else self._still_since
            if now - self._still_since < self._still_seconds:
                return
        else:
            self._still_since = None
        self.seconds += passed

    @property
    def _breaks_are_behind(self) -> bool:
        """They wait for workers that start again; what is under way already is enough for them to meet."""
        return self.next_break is not None and self.seconds - self.next_break > BEHIND_SECONDS

    async def until(self, seconds: float) -> None:
        """Return once the drill is that old, or at once when it is stopped."""
        while (left := seconds - self.seconds) > 0 and not self.stopped:  # noqa: ASYNC110  # many wait, each for its own time
            await asyncio.sleep(min(max(left, _STEP_SECONDS), _LONGEST_STEP_SECONDS))

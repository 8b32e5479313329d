"""The drill's own time: it stands still while the desk is behind, so that load and breaks keep step on any machine."""

import asyncio
import time

_STEP_SECONDS = 0.05
_LONGEST_STEP_SECONDS = 0.5


class Pace:
    """Seconds of the drill since it began. Clients and breaks wait on it, so a slow machine stretches both alike."""

    def __init__(self, *, most_under_way: int, still_seconds: float) -> None:
        self.seconds = 0.0
        self._most_under_way, self._still_seconds = most_under_way, still_seconds
        self._seen = time.monotonic()
        self._still_since: float | None = None

    def see(self, under_way: int | None) -> None:
        """Go on by the time that passed since the last look, unless too much is under way.

        After `still_seconds` it goes on all the same: a desk that is stuck must not keep the drill from its end.
        """
        now = time.monotonic()
        passed, self._seen = now - self._seen, now
        if under_way is not None and under_way > self._most_under_way:
            self._still_since = self._still_since or now
            if now - self._still_since < self._still_seconds:
                return
        else:
            self._still_since = None
        self.seconds += passed

    async def until(self, seconds: float) -> None:
        """Return once the drill is that old."""
        while (left := seconds - self.seconds) > 0:  # noqa: ASYNC110  # many wait, each for its own time
            await asyncio.sleep(min(max(left, _STEP_SECONDS), _LONGEST_STEP_SECONDS))

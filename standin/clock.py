"""The time as the stand-in sees it: the machine's, plus what a test has moved it by."""

from __future__ import annotations

import time


class Clock:
    """Never goes back, short of a reset: a test can only advance it."""

    def __init__(self, advanced_seconds: float = 0.0) -> None:
        self.advanced_seconds = advanced_seconds

    def now(self) -> float:
        """Give Unix seconds."""
        return time.time() + self.advanced_seconds

    def monotonic(self) -> float:
        """Give seconds for rate limits; advancing refills them."""
        return time.monotonic() + self.advanced_seconds

    def advance(self, seconds: float) -> None:
        """Move the time forward."""
        if not 0 <= seconds <= 10**9:
            raise ValueError("advance_seconds must be between 0 and 1000000000")
        self.advanced_seconds += seconds

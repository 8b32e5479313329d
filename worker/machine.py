"""What a worker takes from its machine: clocks and chance. A simulation gives it others."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass


def _seconds_awake_and_asleep() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine that a worker runs on. Waiting is not among these: that is the loop's, by the loop's own clock."""

    lease_seconds: Callable[[], float] = _seconds_awake_and_asleep
    """A clock that nobody sets and that runs on while the machine sleeps, where its system has one: leases go by it."""
    wall_ms: Callable[[], int] = _wall_ms
    """Milliseconds since 1970, as this machine believes: only for when to look again, never for leases."""
    between: Callable[[float, float], float] = random.uniform
    """A number between two, at random: it spreads load, and nothing secret hangs on it."""

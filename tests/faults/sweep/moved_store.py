"""The store with a clock that the sweep moves: leases and waits end at once, in the scripts' own time."""

from typing import Any

from shared.jobs import Lane
from shared.redis_calls import ROOT
from tests.shared.moved_clock import OFFSET

Client = Any
"""A synchronous client: redis-py's types cannot tell that it is one."""


def next_due_ms(store: Client) -> float | None:
    """When the next unfinished job needs attention; None when there is none."""
    first = (store.zrange(f"{ROOT}due:{lane}", 0, 0, withscores=True) for lane in Lane)
    scores: list[float] = [score for found in first for _, score in found]
    return min(scores, default=None)


def move_to(store: Client, moment_ms: float) -> None:
    """Let the store's clock show at least this."""
    seconds, micros = store.time()
    missing_ms = moment_ms - (1000 * seconds + micros // 1000) - int(store.get(OFFSET) or 0)
    if missing_ms >= 0:
        store.incrby(OFFSET, int(missing_ms) + 1)

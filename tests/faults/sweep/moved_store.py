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


def now_ms(store: Client) -> int:
    """What the store's clock shows."""
    seconds, micros = store.time()
    return 1000 * int(seconds) + int(micros) // 1000 + int(store.get(OFFSET) or 0)


def move_to(store: Client, moment_ms: float) -> float:
    """Let the store's clock show at least this; answers by how many seconds it was put forward."""
    missing_ms = int(moment_ms) + 1 - now_ms(store)
    if missing_ms > 0:
        store.incrby(OFFSET, missing_ms)
    return max(0, missing_ms) / 1000

"""The store with a clock that the sweep moves: leases and waits end at once, in the scripts' own time."""

from typing import TYPE_CHECKING

from shared.jobs import Lane
from shared.redis_calls import ROOT
from tests.shared.moved_clock import OFFSET

if TYPE_CHECKING:
    from redis import Redis


def next_due_ms(store: "Redis") -> float | None:
    """When the next unfinished job needs attention; None when there is none."""
    scores = [score for lane in Lane for _, score in store.zrange(f"{ROOT}due:{lane}", 0, 0, withscores=True)]
    return min(scores, default=None)


def move_to(store: "Redis", moment_ms: float) -> None:
    """Let the store's clock show at least this."""
    seconds, micros = store.time()
    missing_ms = moment_ms - (1000 * seconds + micros // 1000) - int(store.get(OFFSET) or 0)
    if missing_ms >= 0:
        store.incrby(OFFSET, int(missing_ms) + 1)

"""The store with a clock that the sweep moves: leases and waits end at once, in the scripts' own time."""

import hashlib
import math

from redis import Redis

from shared.jobs import Lane
from shared.redis_calls import ROOT, SCRIPT_NAMES, RedisCalls, script_text

_MOVED = f"{ROOT}moved_seconds"
_CLOCK = "local clock = redis.call('TIME')"
_MOVED_CLOCK = f"{_CLOCK}\nclock[1] = clock[1] + tonumber(redis.call('GET', root .. 'moved_seconds') or '0')"


def with_moved_clock(calls: RedisCalls) -> RedisCalls:
    """Let a process's scripts read the moved clock; the one line that reads the time is replaced."""
    for name in SCRIPT_NAMES:
        text = script_text(name)
        if _CLOCK in text:
            text = text.replace(_CLOCK, _MOVED_CLOCK)
            calls._scripts[name] = text
            calls._shas[name] = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    return calls


def next_due_ms(store: "Redis") -> float | None:
    """When the next unfinished job needs attention; None when there is none."""
    scores = [score for lane in Lane for _, score in store.zrange(f"{ROOT}due:{lane}", 0, 0, withscores=True)]
    return min(scores, default=None)


def move_to(store: "Redis", moment_ms: float) -> None:
    """Let the store's clock show at least this."""
    seconds, micros = store.time()
    moved = int(store.get(_MOVED) or 0)
    missing_ms = moment_ms - (1000 * (seconds + moved) + micros // 1000)
    if missing_ms >= 0:
        store.set(_MOVED, moved + math.floor(missing_ms / 1000) + 1)

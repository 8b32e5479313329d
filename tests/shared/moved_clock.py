"""A store whose clock is put where a test wants it: the real scripts, but for the one line that reads the time."""

import hashlib
from typing import Any

from shared.redis_calls import ROOT, RedisCalls

OFFSET = f"{ROOT}test:clock_offset_ms"
READS_TIME = "local clock = redis.call('TIME')"
READS_MOVED_TIME = f"""{READS_TIME}
do
  local micros = clock[1] * 1000000 + clock[2] + tonumber(redis.call('GET', '{OFFSET}') or '0') * 1000
  clock = {{math.floor(micros / 1000000), micros % 1000000}}
end"""


class MovedClock(RedisCalls):
    """Calls to a store whose clock, in scripts and in TIME, is ahead of its machine's or behind it by an offset."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        moved = {name: text.replace(READS_TIME, READS_MOVED_TIME) for name, text in self._scripts.items()}
        assert moved["claim"] != self._scripts["claim"], "the line that reads the time is another one now"
        self._scripts = moved
        self._shas = {name: hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
                      for name, text in moved.items()}

    async def step(self, ms: int) -> None:
        """Put the clock forward by so much, or back."""
        await super().call("INCRBY", OFFSET, ms)

    async def call(self, *command: Any) -> Any:
        """As ever; TIME tells the moved clock."""
        reply = await super().call(*command)
        if command != ("TIME",):
            return reply
        micros = int(reply[0]) * 1_000_000 + int(reply[1]) + int(await super().call("GET", OFFSET) or 0) * 1000
        return list(divmod(micros, 1_000_000))

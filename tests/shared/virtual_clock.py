"""A store whose scripts take the time from a key, so that days pass when a test says so."""

import hashlib

from redis.asyncio import Redis

from shared.redis_calls import RedisCalls
from tests.shared.moved_clock import READS_TIME

_BEGINS_MS = 1_800_000_000_000
_READS_KEY = (f"local clock = {{redis.call('HGET', 'clock', 'seconds') or '{_BEGINS_MS // 1000}', "
              "redis.call('HGET', 'clock', 'micros') or '0'}")


class ClockedCalls(RedisCalls):
    """Calls to a real server whose clock stands until `pass_ms`. Expiry of keys is still the server's own."""

    def __init__(self, redis: "Redis", *, deadline_seconds: float) -> None:
        super().__init__(redis, deadline_seconds=deadline_seconds)
        self._scripts = {name: text.replace(READS_TIME, _READS_KEY) for name, text in self._scripts.items()}
        self._shas = {name: hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
                      for name, text in self._scripts.items()}
        self.now_ms = _BEGINS_MS

    async def pass_ms(self, ms: int) -> None:
        """Let so much time pass."""
        self.now_ms += ms
        await self.call("HSET", "clock", "seconds", self.now_ms // 1000, "micros", self.now_ms % 1000 * 1000)

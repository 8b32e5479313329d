"""The shared budget of calls to Stripe: a slot is reserved, waited for, and only then used."""

from dataclasses import dataclass

from shared.jobs import Lane, Mode
from shared.redis_calls import RedisCalls

BURST = 5
"""Slots that may be used at once after a pause."""

AHEAD_MS = {Lane.INTERACTIVE: 30_000, Lane.BULK: 80}
"""How far ahead each lane may reserve. Bulk stays close, so that a single charge's extra wait is short; beyond it a job
goes back to what is due, and its thread with it. Interactive jobs wait their turn: with more threads than so much of
the budget, what goes back would be hinted again and again, and in the meantime the budget be unused."""


@dataclass(frozen=True, slots=True)
class Slots:
    """Slots of the budget: how many, when the first comes, and the time between two."""

    granted: int
    first_in_seconds: float
    apart_seconds: float


class Pacing:
    """Reserves slots for one desk's calls, exact over all its workers: GCRA in one script."""

    def __init__(self, calls: RedisCalls, *, mode: Mode, calls_per_second: float) -> None:
        self._calls = calls
        self._mode = mode
        self._calls_per_second = calls_per_second

    async def reserve(self, lane: Lane, wanted: int) -> Slots:
        """Reserve up to `wanted` slots; none when the next free one lies further ahead than the lane may reserve."""
        granted, first_ms, apart_us = await self._calls.script(
            "reserve", self._mode, self._calls_per_second, BURST, wanted, AHEAD_MS[lane])
        return Slots(granted, first_ms / 1000, apart_us / 1_000_000)

"""Token buckets, one per account and endpoint and one per account over all."""

from __future__ import annotations

from dataclasses import dataclass, field

from standin.clock import Clock
from standin.errors import throttled


@dataclass(slots=True)
class Limits:
    """What is allowed per second; None is unlimited. `burst` defaults to one second's worth."""

    global_per_second: float | None = None
    endpoint_per_second: float | None = None
    endpoints: dict[str, float] = field(default_factory=dict)
    burst: float | None = None


class Limiter:
    """Refuses with 429 what exceeds the limits; takes a token only when every bucket has one."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._buckets: dict[tuple[str, str], tuple[float, float]] = {}
        self.limits = Limits()

    def set(self, limits: Limits) -> None:
        """Put new limits in force, all buckets full."""
        self.limits = limits
        self._buckets.clear()

    def take(self, account: str, endpoint: str) -> None:
        """Take one token from the endpoint's and the global bucket, or raise the 429."""
        limits = self.limits
        rate = limits.endpoints.get(endpoint, limits.endpoint_per_second)
        due = []
        if rate is not None:
            due.append((endpoint, rate, "endpoint-rate"))
        if limits.global_per_second is not None:
            due.append(("", limits.global_per_second, "global-rate"))
        now = self._clock.monotonic()
        filled = {}
        for name, per_second, reason in due:
            capacity = limits.burst if limits.burst is not None else max(1.0, per_second)
            tokens, since = self._buckets.get((account, name), (capacity, now))
            tokens = min(capacity, tokens + (now - since) * per_second)
            if tokens < 1:
                raise throttled(reason)
            filled[account, name] = (tokens - 1, now)
        self._buckets.update(filled)

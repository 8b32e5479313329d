"""How bad it gets: a seed draws it once, so that seeds differ in kind and not only in luck."""

import random
from dataclasses import dataclass

from shared.settings import Fallback


@dataclass(frozen=True, slots=True)
class Climate:
    """The desk's terms and the likelihood of each fault, of one seed."""

    workers: int
    threads: int
    lease_seconds: float
    calls_per_second: float
    fallback: Fallback
    seconds: float
    """How long clients submit."""
    between_strikes: float
    """Mean seconds between two strikes of the weather."""
    store_loses: float
    """How many of the calls to the store lose their request, and as many their reply."""
    stripe_fails: float
    """How many of the calls to Stripe go wrong in some way."""
    stripe_lags: float
    """How many of them take about as long as a lease, or much longer."""
    hints_lost: float
    resubmits: float
    saved_failures: int
    """How many calls may end in a 500 that Stripe keeps: each leaves a job in doubt for hours."""
    days: bool
    """Whether clients and customers come back after hours, up to a day: such a seed takes several times as long."""

    @classmethod
    def draw(cls, rng: random.Random, charges: int) -> "Climate":
        """The climate of a seed, for so many charges."""
        per_second = rng.choice((20.0, 50.0, 100.0, 400.0))
        return cls(
            workers=rng.randint(1, 4), threads=rng.choice((4, 8, 16)), lease_seconds=rng.choice((2.0, 8.0, 60.0)),
            calls_per_second=per_second, fallback=rng.choice((Fallback.MOCK, Fallback.MOCK, Fallback.DEFER)),
            seconds=rng.uniform(20, 60) + charges / per_second, between_strikes=rng.choice((1.5, 3.0, 6.0)),
            store_loses=rng.choice((0.0, 0.005, 0.02)), stripe_fails=rng.choice((0.02, 0.1, 0.3)),
            stripe_lags=rng.choice((0.0, 0.05, 0.4)),
            hints_lost=rng.choice((0.0, 0.05, 0.5)), resubmits=rng.choice((0.05, 0.3)),
            saved_failures=rng.choice((0, 1, 3)), days=rng.random() < 0.08)

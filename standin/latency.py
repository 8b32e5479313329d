"""How long an answer takes: drawn from a distribution for each request, the same draws for the same seed."""

from __future__ import annotations

import math
import random
from dataclasses import asdict, dataclass

from standin.errors import Json

# how many standard deviations the 95th percentile of a normal distribution lies above its middle
_P95_DEVIATIONS = 1.6448536269514722


@dataclass(frozen=True, slots=True)
class Spread:
    """A log-normal distribution by two of its percentiles, as measured latencies are told."""

    p50_ms: float
    p95_ms: float

    def draw(self, dice: random.Random) -> float:
        """Give milliseconds."""
        wide = math.log(self.p95_ms / self.p50_ms) / _P95_DEVIATIONS
        return self.p50_ms * math.exp(wide * dice.gauss(0.0, 1.0))


class Latency:
    """What every answer waits for: a constant, and a draw for its endpoint."""

    def __init__(self) -> None:
        self.constant_ms = 0.0
        self._seed = 0
        self._default: Spread | None = None
        self._endpoints: dict[str, Spread] = {}
        self._dice: dict[str, random.Random] = {}

    def set(self, given: Json) -> None:
        """Put distributions in force: `default` and `endpoints` hold p50_ms and p95_ms; `{}` lifts them."""
        unknown = set(given) - {"seed", "default", "endpoints"}
        if unknown:
            raise ValueError(f"unknown: {', '.join(sorted(unknown))}")
        default = None if given.get("default") is None else _read(given["default"])
        endpoints = {name: _read(spread) for name, spread in given.get("endpoints", {}).items()}
        self._seed, self._default, self._endpoints = int(given.get("seed", 0)), default, endpoints
        self._dice.clear()

    def draw_ms(self, endpoint: str) -> float:
        """Give what this request waits for; endpoints draw apart, so one's traffic does not change another's."""
        spread = self._endpoints.get(endpoint, self._default)
        if spread is None:
            return self.constant_ms
        if endpoint not in self._dice:
            self._dice[endpoint] = random.Random(f"{self._seed} {endpoint}")  # noqa: S311 - to be repeatable
        return self.constant_ms + spread.draw(self._dice[endpoint])

    def describe(self) -> Json:
        """Give what is in force."""
        endpoints = {name: asdict(spread) for name, spread in self._endpoints.items()}
        default = None if self._default is None else asdict(self._default)
        return {"seed": self._seed, "default": default, "endpoints": endpoints}


def _read(given: Json) -> Spread:
    spread = Spread(**{name: float(value) for name, value in given.items()})
    if not 0 < spread.p50_ms <= spread.p95_ms:
        raise ValueError("p50_ms is above 0, and p95_ms not below it")
    return spread

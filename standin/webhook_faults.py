"""Scripted faults of webhooks: what may go wrong between Stripe and whoever listens."""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass, field, fields

from standin.errors import Json


@dataclass(slots=True)
class WebhookFault:
    """Strikes the first attempt of deliveries whose event is of these types; `nth` is the first one struck."""

    types: list[str] | None = None
    nth: int = 1
    times: int = 1
    probability: float = 1.0
    seed: int = 0
    copies: int = 1  # how often it is posted
    delay_seconds: float = 0  # by the stand-in's clock
    age_seconds: float = 0  # how old its timestamp is; negative lies in the future
    forged: bool = False  # signed with a secret that the endpoint does not have
    lost: bool = False  # never posted: only the list of events has it
    matched: int = 0
    played: int = 0
    dice: random.Random = field(default_factory=random.Random, repr=False)

    def strikes(self, kind: str) -> bool:
        """Count the delivery when it matches, and say whether the fault is due."""
        if self.types is not None and kind not in self.types:
            return False
        self.matched += 1
        if self.matched < self.nth or self.played >= self.times:
            return False
        return self.probability >= 1 or self.dice.random() < self.probability

    def describe(self) -> Json:
        """Give the fault and its counts as JSON."""
        found = asdict(self)
        del found["dice"]
        return found


class WebhookPlan:
    """The faults in force, in order: the first that is due is played."""

    def __init__(self) -> None:
        self._faults: list[WebhookFault] = []

    def add(self, given: object) -> WebhookFault:
        """Put one fault in force, or raise ValueError for what cannot be read."""
        fault = _read(given)
        self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Put no fault in force."""
        self._faults.clear()

    def describe(self) -> list[Json]:
        """Give all faults and their counts."""
        return [fault.describe() for fault in self._faults]

    def due(self, kind: str) -> WebhookFault:
        """Give the fault due for an event of this type, or one that changes nothing."""
        struck = [fault for fault in self._faults if fault.strikes(kind)]
        if not struck:
            return WebhookFault()
        struck[0].played += 1
        return struck[0]


def _read(given: object) -> WebhookFault:
    if not isinstance(given, dict):
        raise ValueError("a fault is an object")  # noqa: TRY004 - one class for whatever JSON cannot be read
    unknown = set(given) - ({f.name for f in fields(WebhookFault)} - {"matched", "played", "dice"})
    if unknown:
        raise ValueError(f"unknown: {', '.join(sorted(map(str, unknown)))}")
    fault = WebhookFault(**given)
    if fault.copies < 1 or fault.delay_seconds < 0:
        raise ValueError("copies is 1 or more, and delay_seconds is not negative")
    fault.dice.seed(fault.seed)
    return fault

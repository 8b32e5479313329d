"""What a drill is going to do, all of it drawn from its seed: who submits what, what breaks, and when."""

import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from shared.jobs import Kind

CHARGES_PER_SECOND = 28.0
"""What a desk on two slow cores keeps up with while a fifth of its calls fail and its workers are killed."""
SECONDS_PER_WORKER_KILL = 3.5
"""A worker needs about two seconds of a core to start."""
LEAST_SECONDS = 12.0

DECLINED_SHARE, INTENT_SHARE, CUSTOMER_SHARE = 0.06, 0.06, 0.04

_ROUTES = {Kind.CHARGE: "/api/stripe/process-charge", Kind.PAYMENT_INTENT: "/api/stripe/create-payment",
           Kind.CUSTOMER: "/api/stripe/create-customer"}
CLIENT_KEY = "drill_key"
"""The metadata that carries a client's key to Stripe, so that the oracle need not believe the desk's job ids."""
_DECLINING = ("pm_card_chargeDeclined", "pm_card_visa_chargeDeclinedInsufficientFunds",
              "pm_card_chargeDeclinedExpiredCard")


class Break(StrEnum):
    """What is done to the desk while it works."""

    WORKER_KILLED = "worker killed"
    STORE_KILLED = "store killed"
    BROKER_KILLED = "broker killed"
    WEB_KILLED = "front door killed"
    WORKER_PAUSED = "worker frozen past its lease"
    ANSWER_CUT = "answer cut on the wire"
    WIRE_DROPPED = "connections to Stripe dropped"
    WIRE_HELD = "wire to Stripe held"
    STORE_REPLY_CUT = "store's reply cut on the wire"
    OUTAGE = "Stripe out of reach for everybody"
    STORM = "storm of 429"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that breaks, at seconds of the drill."""

    at_seconds: float
    what: Break


@dataclass(frozen=True, slots=True)
class Submission:
    """What one client asks for, under its own key."""

    key: str
    kind: Kind
    route: str
    body: Mapping[str, Any]
    cents: int | None
    declines: bool
    posts: int
    """How many times at once: a double click is two."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The size of a drill. Two with the same plan submit the same and break the same at the same seconds."""

    charges: int
    seed: int
    seconds: float
    """How long the load lasts."""
    breaks: Mapping[Break, int]
    workers: int = 3
    lease_seconds: float = 4.0
    still_seconds: float = 330.0
    """How long, once nothing breaks any more, no job need end before the rest counts as unfinished: a job that failed
    often is tried again after 300 s at most."""
    patience_seconds: float = 120.0
    """How long a client asks again before it gives up."""
    most_under_way: int = 150
    """The drill's time stands still while more jobs than this are unfinished: enough to keep every worker busy, and a
    machine that is slow today is not buried."""

    @classmethod
    def of(cls, *, charges: int, seed: int, worker_kills: int, store_kills: int, minutes: float | None = None) -> Self:
        """A plan in proportion to its kills of workers."""
        kills = worker_kills
        breaks = {
            Break.WORKER_KILLED: kills, Break.STORE_KILLED: store_kills, Break.BROKER_KILLED: _part(kills, 7),
            Break.WEB_KILLED: _part(kills, 5), Break.WORKER_PAUSED: _part(kills, 8), Break.ANSWER_CUT: _part(kills, 2),
            Break.WIRE_DROPPED: _part(kills, 4), Break.WIRE_HELD: _part(kills, 5),
            Break.STORE_REPLY_CUT: _part(kills, 2), Break.OUTAGE: _part(kills, 50), Break.STORM: _part(kills, 8)}
        seconds = max(charges / CHARGES_PER_SECOND, kills * SECONDS_PER_WORKER_KILL, LEAST_SECONDS)
        return cls(charges, seed, seconds if minutes is None else minutes * 60, breaks)

    def events(self) -> list[Event]:
        """What breaks, in order: each kind spread over the time, none at its very ends."""
        dice = self._dice("events")
        return sorted((Event(self.seconds * (0.04 + 0.92 * (place + dice.random()) / count), what)
                       for what, count in self.breaks.items() for place in range(count)),
                      key=lambda event: event.at_seconds)

    def submissions(self) -> Iterator[Submission]:
        """What clients ask for, one after the other, without an end."""
        dice = self._dice("submissions")
        number = 0
        while True:
            number += 1
            yield _submission(dice, f"drill-{self.seed}-{number}")

    @property
    def total(self) -> int:
        """Submissions that hold about so many charges."""
        return math.ceil(self.charges / (1 - INTENT_SHARE - CUSTOMER_SHARE))

    def dice(self) -> random.Random:
        """Dice for whom an event strikes."""
        return self._dice("targets")

    def _dice(self, name: str) -> random.Random:
        return random.Random(f"{self.seed} {name}")  # noqa: S311  # to be repeatable


def _part(count: int, of: int) -> int:
    return 0 if count == 0 else max(1, round(count / of))


def _submission(dice: random.Random, key: str) -> Submission:
    drawn, posts = dice.random(), 2 if dice.random() < 0.03 else 1
    marks = {"metadata": {CLIENT_KEY: key}}
    if drawn < CUSTOMER_SHARE:
        body = {"email": f"{key}@example.com", "name": "Drill", **marks}
        return Submission(key, Kind.CUSTOMER, _ROUTES[Kind.CUSTOMER], body, None, declines=False, posts=posts)
    cents = dice.randint(50, 99_999)
    body = {"amount": f"{cents // 100}.{cents % 100:02d}", **marks}
    if drawn < CUSTOMER_SHARE + INTENT_SHARE:
        return Submission(key, Kind.PAYMENT_INTENT, _ROUTES[Kind.PAYMENT_INTENT], body, cents, declines=False,
                          posts=posts)
    declines = dice.random() < DECLINED_SHARE
    body["payment_method_id"] = dice.choice(_DECLINING) if declines else "pm_card_visa"
    return Submission(key, Kind.CHARGE, _ROUTES[Kind.CHARGE], body, cents, declines=declines, posts=posts)


FAULTS: tuple[Mapping[str, Any], ...] = (
    {"action": "die_after_effect", "share": 0.035},
    {"action": "close_after_effect", "share": 0.02},
    {"action": "cut_answer", "share": 0.02},
    {"action": "cut_answer", "share": 0.01, "end": "fin"},
    {"action": "die_before_effect", "share": 0.015},
    {"action": "reset_before_read", "share": 0.01},
    {"action": "status:429", "share": 0.03},
    {"action": "status:409", "share": 0.02},
    {"action": "status:503", "share": 0.02},
    {"action": "lock_timeout", "share": 0.01},
    {"action": "garbage", "share": 0.02},
    {"action": "html", "share": 0.01},
    {"action": "redirect", "share": 0.005},
    {"action": "oversize", "share": 0.001},
    {"action": "hang_before", "share": 0.001},
    {"action": "hang_after", "share": 0.001},
    {"action": "delay_ms", "share": 0.006, "delay_ms": 5_000.0},  # longer than the lease
    {"action": "delay_ms", "share": 0.01, "delay_ms": 800.0},
    {"action": "status:500_before", "share": 0.003},
    {"action": "status:500_after", "share": 0.003},
)
"""What the stand-in does to about a fifth of all calls, by its own dice. A 500 that came is what its key answers for
good, so whether Stripe has the object can only be seen in Stripe's list."""

LATENCY = {"p50_ms": 120.0, "p95_ms": 500.0}
STORM_CALLS, STORM_SHARE = 60, 0.9
OUTAGE_SECONDS = 4.5
"""Longer than it takes all workers to find that none can connect: then the mock may answer."""
HELD_SECONDS = 2.5
PAUSED_BEYOND_LEASE_SECONDS = 1.5

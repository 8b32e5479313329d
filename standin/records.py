"""What is kept, and what the stand-in asks of whoever keeps it."""

from __future__ import annotations

import secrets
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from standin.errors import Json


class Kind(StrEnum):
    """The objects that are kept."""

    CUSTOMER = "customer"
    DISPUTE = "dispute"
    EVENT = "event"
    PAYMENT_INTENT = "payment_intent"
    REFUND = "refund"
    WEBHOOK_DELIVERY = "webhook_delivery"
    WEBHOOK_ENDPOINT = "webhook_endpoint"


class EffectKind(StrEnum):
    """What can really happen: an object comes to be, or money moves."""

    CHARGE = "charge"
    CUSTOMER = "customer"
    DISPUTE = "dispute"
    DISPUTE_REINSTATED = "dispute_reinstated"
    DISPUTE_WITHDRAWN = "dispute_withdrawn"
    PAYMENT_INTENT = "payment_intent"
    REFUND = "refund"
    REFUND_FAILED = "refund_failed"


@dataclass(slots=True)
class Record:
    """An object as Stripe shows it (`body`), and what only the stand-in knows of it (`notes`)."""

    account: str
    id: str
    kind: Kind
    created: int
    lookup: str | None  # the one thing that lists filter by: a customer, an e-mail, an intent, an event's type
    body: Json
    notes: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Effect:
    """One thing that really happened."""

    account: str
    key: str | None
    object_id: str
    kind: EffectKind
    amount: int | None
    status: str | None
    payment_intent: str | None
    job_id: str | None
    created: float


@dataclass(frozen=True, slots=True)
class Saved:
    """The first answer given for an idempotency key."""

    fingerprint: str
    status: int
    body: bytes
    request_id: str
    created: float


@dataclass(frozen=True, slots=True)
class Page:
    """What a list asks for; bounds on `created` are inclusive."""

    kind: Kind
    limit: int
    lookups: tuple[str, ...] = ()  # any of them; empty is all
    created_from: int = 0
    created_to: int = 2**62
    after: str | None = None


def new_id(prefix: str) -> str:
    """Give an id that nothing else has; of the length of Stripe's."""
    return f"{prefix}_3{secrets.token_hex(12)[1:]}"


class Store(Protocol):
    """Keeps everything; writes belong inside `transaction`."""

    keeps_events: bool

    def new_id(self, prefix: str) -> str:
        """Give an id that nothing in it has: at random, unless a run must be the same again."""
        ...

    def transaction(self) -> AbstractContextManager[None]:
        """Keep all of what is written inside, or nothing."""
        ...

    def get(self, account: str, name: str) -> Record | None:
        """Give the account's object of that id."""
        ...

    def owner(self, name: str) -> str | None:
        """Give the account that an id belongs to, whoever asks."""
        ...

    def put(self, record: Record) -> None:
        """Keep the object as it now is."""
        ...

    def page(self, account: str, page: Page) -> list[Record]:
        """Give the account's objects, newest first; one more than the limit shows that more exist."""
        ...

    def every(self, kind: Kind) -> list[Record]:
        """Give all objects of a kind, of every account."""
        ...

    def add_effect(self, effect: Effect) -> None:
        """Note what really happened."""
        ...

    def effects(self) -> list[Json]:
        """Give all that really happened, oldest first."""
        ...

    def balance(self, account: str) -> int:
        """Give the money the account holds, in cents."""
        ...

    def saved(self, account: str, key: str) -> Saved | None:
        """Give the first answer of an idempotency key."""
        ...

    def save(self, account: str, key: str, saved: Saved) -> None:
        """Keep the first answer of an idempotency key, in place of an expired one."""
        ...

    def advanced_seconds(self) -> float:
        """Give how far the clock had been moved."""
        ...

    def set_advanced_seconds(self, seconds: float) -> None:
        """Keep how far the clock has been moved."""
        ...

    def clear(self) -> None:
        """Forget everything."""
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...


# which way each kind of effect moves the account's balance
MONEY_IN = (EffectKind.CHARGE, EffectKind.DISPUTE_REINSTATED, EffectKind.REFUND_FAILED)
MONEY_OUT = (EffectKind.DISPUTE_WITHDRAWN, EffectKind.REFUND)

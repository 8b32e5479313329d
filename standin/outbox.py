"""Which events go to which webhook endpoint: written down with the event, so a kill loses none."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from enum import StrEnum

from standin.clock import Clock
from standin.errors import Json
from standin.post import loopback
from standin.records import Kind, Record, Store

# Stripe's sandbox tries three times over a few hours
RETRY_SECONDS = (60.0, 3600.0, 3 * 3600.0)
_OURS = ""  # the account of what no account owns


class Progress(StrEnum):
    """Where a delivery stands."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    GIVEN_UP = "given_up"
    LOST = "lost"


@dataclass(slots=True)
class Endpoint:
    """Somebody who listens: where, under which secrets, to which types (None is all)."""

    id: str
    url: str
    secrets: list[str]
    types: list[str] | None = None
    retry_seconds: list[float] = field(default_factory=lambda: list(RETRY_SECONDS))


@dataclass(slots=True)
class Delivery:
    """One event on its way to one endpoint."""

    id: str
    account: str
    event: str
    type: str
    endpoint: str
    due: float
    attempts: int = 0


class Outbox:
    """Makes the deliveries of an event in the event's own transaction, and hands them over after it."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._endpoints: dict[str, Endpoint] = {}
        self._fresh: list[Delivery] = []
        self.hand_over: Callable[[list[Delivery]], None] = lambda _: None

    def load(self) -> None:
        """Take up what an earlier process left: its endpoints, and what was still to be delivered."""
        for record in self._store.every(Kind.WEBHOOK_ENDPOINT):
            if record.lookup is None:
                self._endpoints[record.id] = Endpoint(**record.body)
        left = [r for r in self._store.every(Kind.WEBHOOK_DELIVERY) if r.lookup == Progress.WAITING]
        self.hand_over([Delivery(**record.body) for record in left])

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Keep all of what is written inside, or nothing; deliveries begin once it is kept."""
        self._fresh = []
        with self._store.transaction():
            yield
        fresh, self._fresh = self._fresh, []
        if fresh:
            self.hand_over(fresh)

    def take(self, event: Record) -> None:
        """Write down the event's deliveries, and on the event how many there are."""
        for endpoint in self._endpoints.values():
            if endpoint.types is not None and event.lookup not in endpoint.types:
                continue
            name = f"wd_{secrets.token_hex(12)}"
            made = Delivery(name, event.account, event.id, str(event.lookup), endpoint.id, self._clock.now())
            self.put(made, Progress.WAITING)
            self._fresh.append(made)
            event.body["pending_webhooks"] += 1

    def put(self, delivery: Delivery, progress: Progress) -> None:
        """Keep how far a delivery is."""
        created, body = int(self._clock.now()), asdict(delivery)
        kept = Record(_OURS, delivery.id, Kind.WEBHOOK_DELIVERY, created, progress.value, body)
        self._store.put(kept)

    def endpoint(self, name: str) -> Endpoint | None:
        """Give an endpoint that still listens."""
        return self._endpoints.get(name)

    def endpoints(self) -> list[Endpoint]:
        """Give all endpoints, oldest first."""
        return list(self._endpoints.values())

    def register(self, given: Json) -> Endpoint:
        """Add an endpoint, or raise ValueError for what cannot be read."""
        if not self._store.keeps_events:
            raise ValueError("no webhooks with --memory")
        endpoint = Endpoint(**{**_read(given), "id": f"we_{secrets.token_hex(12)}"})
        with self._store.transaction():
            self._store.put(_kept(endpoint, None))
        self._endpoints[endpoint.id] = endpoint
        return endpoint

    def unregister(self, name: str | None = None) -> None:
        """Take one endpoint away, or all; what is on its way to it is lost."""
        gone = [e for e in self._endpoints.values() if name in {None, e.id}]
        with self._store.transaction():
            for endpoint in gone:
                self._store.put(_kept(endpoint, "gone"))
        for endpoint in gone:
            del self._endpoints[endpoint.id]

    def forget(self) -> None:
        """Forget all endpoints, which the store has forgotten already."""
        self._endpoints.clear()


def _kept(endpoint: Endpoint, lookup: str | None) -> Record:
    return Record(_OURS, endpoint.id, Kind.WEBHOOK_ENDPOINT, 0, lookup, asdict(endpoint))


def _read(given: Json) -> Json:
    unknown = set(given) - {"url", "secret", "secrets", "types", "retry_seconds"}
    if unknown:
        raise ValueError(f"unknown: {', '.join(sorted(unknown))}")
    asked = dict(given)
    if "secret" in asked:
        asked["secrets"] = [asked.pop("secret"), *asked.get("secrets", [])]
    loopback(str(asked.get("url", "")))
    if not _are_texts(asked.get("secrets")) or not asked["secrets"]:
        raise ValueError("a webhook has a secret, or a list of secrets")
    if asked.get("types") is not None and not _are_texts(asked["types"]):
        raise ValueError("types is a list of event types, or null for all")
    if "retry_seconds" in asked:
        asked["retry_seconds"] = [float(seconds) for seconds in asked["retry_seconds"]]
    return asked


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) and item for item in value)

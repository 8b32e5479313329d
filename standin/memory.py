"""The store of the bench: nothing survives, nothing waits for a disk."""

from __future__ import annotations

from collections import defaultdict
from contextlib import AbstractContextManager, nullcontext

from standin.errors import Json
from standin.records import MONEY_IN, MONEY_OUT, Effect, Kind, Page, Record, Saved, new_id

_NOTHING = nullcontext()


class MemoryStore:
    """As fast as dicts are; a transaction holds nothing back, so refusals must come before writes."""

    keeps_events = False  # two more objects a charge would halve what the bench measures

    def __init__(self) -> None:
        self._objects: dict[str, Record] = {}
        self._listed: dict[tuple[str, Kind], list[str]] = defaultdict(list)
        self._places: dict[str, int] = {}
        self._effects: list[Effect] = []
        self._saved: dict[tuple[str, str], Saved] = {}
        self._balances: dict[str, int] = defaultdict(int)
        self._advanced_seconds = 0.0

    def new_id(self, prefix: str) -> str:
        """Give an id that nothing else has."""
        return new_id(prefix)

    def transaction(self) -> AbstractContextManager[None]:
        """Keep what is written inside."""
        return _NOTHING

    def get(self, account: str, name: str) -> Record | None:
        """Give the account's object of that id."""
        record = self._objects.get(name)
        return record if record is not None and record.account == account else None

    def owner(self, name: str) -> str | None:
        """Give the account that an id belongs to, whoever asks."""
        record = self._objects.get(name)
        return None if record is None else record.account

    def put(self, record: Record) -> None:
        """Keep the object as it now is."""
        if record.id not in self._objects:
            listed = self._listed[record.account, record.kind]
            self._places[record.id] = len(listed)
            listed.append(record.id)
        self._objects[record.id] = record

    def page(self, account: str, page: Page) -> list[Record]:
        """Give the account's objects, newest first; one more than the limit shows that more exist."""
        listed = self._listed[account, page.kind]
        start = len(listed) if page.after is None else self._places[page.after]
        found: list[Record] = []
        for place in range(start - 1, -1, -1):
            record = self._objects[listed[place]]
            if record.created < page.created_from or len(found) > page.limit:
                break
            if record.created <= page.created_to and (not page.lookups or record.lookup in page.lookups):
                found.append(record)
        return found[: page.limit + 1]

    def every(self, kind: Kind) -> list[Record]:
        """Give all objects of a kind, of every account."""
        return [record for record in self._objects.values() if record.kind is kind]

    def add_effect(self, effect: Effect) -> None:
        """Note what really happened."""
        self._effects.append(effect)
        sign = (effect.kind in MONEY_IN) - (effect.kind in MONEY_OUT)
        self._balances[effect.account] += sign * (effect.amount or 0)

    def effects(self) -> list[Json]:
        """Give all that really happened, oldest first."""
        return [
            {
                "account": e.account,
                "key": e.key,
                "object_id": e.object_id,
                "kind": e.kind.value,
                "amount": e.amount,
                "status": e.status,
                "payment_intent": e.payment_intent,
                "job_id": e.job_id,
                "created": e.created,
            }
            for e in self._effects
        ]

    def balance(self, account: str) -> int:
        """Give the money the account holds, in cents."""
        return self._balances.get(account, 0)

    def saved(self, account: str, key: str) -> Saved | None:
        """Give the first answer of an idempotency key."""
        return self._saved.get((account, key))

    def save(self, account: str, key: str, saved: Saved) -> None:
        """Keep the first answer of an idempotency key, in place of an expired one."""
        self._saved[account, key] = saved

    def advanced_seconds(self) -> float:
        """Give how far the clock had been moved."""
        return self._advanced_seconds

    def set_advanced_seconds(self, seconds: float) -> None:
        """Keep how far the clock has been moved."""
        self._advanced_seconds = seconds

    def clear(self) -> None:
        """Forget everything."""
        for kept in (self._objects, self._listed, self._places, self._effects, self._saved, self._balances):
            kept.clear()
        self._advanced_seconds = 0.0

    def close(self) -> None:
        """Nothing to let go of."""

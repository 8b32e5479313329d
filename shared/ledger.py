"""The books: every movement of money is one append-only entry, unique per Stripe object and kind; totals follow it.

The entries and the totals are written by record.lua in one step; this file says what each kind of entry counts as, and
recounts the books from the entries alone.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from shared.jobs import Book
from shared.redis_calls import ROOT, RedisCalls
from shared.results import Payment

_PAGE = 2000


class EntryKind(StrEnum):
    """Why money moved. Cents are signed from the desk's side: money in is positive."""

    CAPTURED = "captured"
    REFUNDED = "refunded"
    REFUND_FAILED = "refund_failed"
    """Gives back a refund that the bank returned; `reverses` names its entry."""
    DISPUTE_WITHDRAWN = "dispute_withdrawn"
    DISPUTE_REINSTATED = "dispute_reinstated"
    REVERSED = "reversed"
    """Takes a mock entry back once its charge was settled for real or written off; `reverses` names it."""


@dataclass(frozen=True, slots=True)
class _Counting:
    column: str
    counter: str | None = None


COUNTS_AS = {
    EntryKind.CAPTURED: _Counting("processed_cents", "succeeded"),
    EntryKind.REFUNDED: _Counting("refunded_cents"),
    EntryKind.REFUND_FAILED: _Counting("refunded_cents"),
    EntryKind.DISPUTE_WITHDRAWN: _Counting("disputed_cents"),
    EntryKind.DISPUTE_REINSTATED: _Counting("disputed_cents"),
    EntryKind.REVERSED: _Counting("reversed_cents", "reversals"),
}
"""Which total each kind of entry adds its cents to, and which count it raises. Totals other than `processed_cents` are
therefore negative sums: money that went out."""


def captured(payment: Payment, *, book: Book, account: str, job_id: str) -> dict[str, str]:
    """The entry of the money received by a payment, as record.lua books it."""
    return _entry(EntryKind.CAPTURED, object_id=payment.id, cents=payment.received_cents, currency=payment.currency,
                  book=book, account=account, payment_id=payment.id, job_id=job_id)


def _entry(kind: EntryKind, *, object_id: str, cents: int, currency: str, book: Book, account: str, payment_id: str,
           job_id: str) -> dict[str, str]:
    counting = COUNTS_AS[kind]
    entry = {"object": object_id, "kind": kind, "cents": str(cents), "currency": currency, "book": book,
             "account": account, "payment": payment_id, "job": job_id, "column": counting.column}
    return entry | ({"counter": counting.counter} if counting.counter else {})


@dataclass(frozen=True, slots=True)
class Totals:
    """The sums of one book in cents; `refunded_cents`, `disputed_cents` and `reversed_cents` count what went out."""

    processed_cents: int = 0
    refunded_cents: int = 0
    disputed_cents: int = 0
    reversed_cents: int = 0
    succeeded: int = 0
    failed: int = 0

    @property
    def net_cents(self) -> int:
        """What is left."""
        return self.processed_cents - self.refunded_cents - self.disputed_cents - self.reversed_cents

    @classmethod
    def from_hash(cls, fields: dict[str, str]) -> "Totals":
        """Read the hash that record.lua keeps."""

        def number(name: str) -> int:
            return int(fields.get(name, "0"))

        return cls(processed_cents=number("processed_cents"), refunded_cents=-number("refunded_cents"),
                   disputed_cents=-number("disputed_cents"), reversed_cents=-number("reversed_cents"),
                   succeeded=number("succeeded") - number("reversals"), failed=number("failed"))


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that does not add up: where, what it says, and what counting gives."""

    where: str
    says: str
    counted: str


class Ledger:
    """Reads the books. Writing them is record.lua's alone."""

    def __init__(self, calls: RedisCalls) -> None:
        self._calls = calls

    async def totals(self) -> dict[Book, Totals]:
        """The totals of each book. Costs the same however many entries there are."""
        found = await asyncio.gather(*(self._calls.call("HGETALL", f"{ROOT}totals:{book}") for book in Book))
        return {book: Totals.from_hash(fields) for book, fields in zip(Book, found, strict=True)}

    async def entries(self, *, after: str = "-", up_to: str = "+") -> AsyncIterator[tuple[str, dict[str, str]]]:
        """Every entry in order, a page at a time; `up_to` is included."""
        while True:
            page = await self._calls.call("XRANGE", f"{ROOT}ledger", after, up_to, "COUNT", _PAGE)
            for number, fields in page:
                yield number, fields
            if len(page) < _PAGE:
                return
            after = f"({page[-1][0]}"

    async def captured_cents(self, payment_ids: Sequence[str]) -> dict[str, int]:
        """What is booked as received by each of these payments; one that is not booked is left out."""
        if not payment_ids:
            return {}
        numbers = await self._calls.call("HMGET", f"{ROOT}ledger:seen",
                                         *(f"{payment_id}:{EntryKind.CAPTURED}" for payment_id in payment_ids))
        booked = [(payment_id, number) for payment_id, number in zip(payment_ids, numbers, strict=True) if number]
        entries = await asyncio.gather(*(self._calls.call("XRANGE", f"{ROOT}ledger", number, number)
                                         for _, number in booked))
        return {payment_id: int(entry[0][1]["cents"]) for (payment_id, _), entry in zip(booked, entries, strict=True)
                if entry}

    async def differences(self) -> list[Difference]:
        """Recount every book to the last entry that there was when its totals were read; right while money moves.

        Totals and entry are written in one step, so at one moment the totals include exactly the entries there are.
        """
        said, last = await self._moment()
        counted: dict[Book, dict[str, int]] = {book: {} for book in Book}
        repeated: list[Difference] = []
        seen: set[str] = set()
        async for number, entry in self.entries(up_to=last):
            _count(counted[Book(entry["book"])], entry)
            unique = f"{entry['object']}:{entry['kind']}"
            if unique in seen:
                repeated.append(Difference(f"ledger entry {number}", f"{unique} again", "once"))
            seen.add(unique)
        return repeated + [difference for book in Book for difference in _compare(book, said[book], counted[book])]

    async def _moment(self) -> tuple[dict[Book, dict[str, str]], str]:
        """All totals and the last entry's number at one moment, since money may move between two reads."""
        *found, tip = await self._calls.moment(*(("HGETALL", f"{ROOT}totals:{book}") for book in Book),
                                               ("XREVRANGE", f"{ROOT}ledger", "+", "-", "COUNT", "1"))
        totals = (dict(zip(flat[::2], flat[1::2], strict=True)) for flat in found)
        return dict(zip(Book, totals, strict=True)), tip[0][0] if tip else "0-0"


def _compare(book: Book, said: dict[str, str], counted: dict[str, int]) -> list[Difference]:
    return [Difference(f"totals of the {book} book: {column}", said.get(column, "0"), str(counted.get(column, 0)))
            for column in sorted({*counted, *_columns(said)}) if int(said.get(column, "0")) != counted.get(column, 0)]


def _columns(fields: dict[str, str]) -> set[str]:
    """What a totals hash says that entries must explain; failures move no money and have none."""
    return set(fields) - {"last_entry", "failed"}


def _count(sums: dict[str, int], entry: dict[str, Any]) -> None:
    counting = COUNTS_AS[EntryKind(entry["kind"])]
    for name, amount in ((counting.column, int(entry["cents"])), (counting.counter, 1), ("entries", 1)):
        if name:
            sums[name] = sums.get(name, 0) + amount

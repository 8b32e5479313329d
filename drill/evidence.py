"""What is known when a drill has ended: the clients' answers, the desk's records and books, and Stripe's own file."""

import asyncio
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from drill.plan import CLIENT_KEY, Submission
from shared.jobs import Book, Job
from shared.ledger import Ledger
from shared.redis_calls import ROOT, RedisCalls
from shared.verify import differences

_TOGETHER = 500


@dataclass(frozen=True, slots=True)
class Effect:
    """Something that really happened at Stripe."""

    kind: str
    object_id: str
    cents: int | None
    job_id: str | None


@dataclass(frozen=True, slots=True)
class Made:
    """An object that Stripe has, by the key of the client that asked for it."""

    id: str
    kind: str
    client_key: str | None
    job_id: str | None
    received_cents: int


@dataclass(frozen=True, slots=True)
class AtStripe:
    """The stand-in's own file: the oracle, which knows nothing of the desk's records."""

    effects: Sequence[Effect]
    made: Sequence[Made]
    bound_to_500: frozenset[str]
    """Idempotency keys that answer 500 for good."""


@dataclass(frozen=True, slots=True)
class AtTheDesk:
    """What the desk says of itself."""

    jobs: Mapping[str, Job]
    booked: Mapping[Book, Mapping[str, int]]
    """Cents by job, summed over the ledger's entries."""
    totals: Mapping[Book, int]
    differences: Sequence[str]
    """What `paydesk verify` finds."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """All of it."""

    submitted: Mapping[str, Submission]
    accepted: Mapping[str, frozenset[str]]
    """The jobs that a client's key was answered with."""
    refused: Mapping[str, str]
    stripe: AtStripe
    desk: AtTheDesk


def read_stripe(db: Path) -> AtStripe:
    """Read the stand-in's file, also while it is in use."""
    with closing(sqlite3.connect(f"file:{db}?mode=ro", uri=True)) as file:
        effects = [Effect(*row) for row in file.execute(
            "SELECT kind, object_id, amount, job_id FROM effects ORDER BY seq")]
        made = [_made(kind, json.loads(body)) for kind, body in file.execute(
            "SELECT kind, body FROM objects WHERE kind IN ('payment_intent', 'customer') ORDER BY seq")]
    return AtStripe(effects, made, read_bound(db))


def read_bound(db: Path) -> frozenset[str]:
    """The idempotency keys that answer 500 for good."""
    with closing(sqlite3.connect(f"file:{db}?mode=ro", uri=True)) as file:
        return frozenset(key for (key,) in file.execute("SELECT key FROM idempotency WHERE status >= 500"))


def _made(kind: str, body: Mapping[str, object]) -> Made:
    marks = body.get("metadata")
    metadata: Mapping[str, str] = marks if isinstance(marks, dict) else {}
    received = body.get("amount_received")
    return Made(str(body["id"]), kind, metadata.get(CLIENT_KEY), metadata.get("paydesk_job_id"),
                received if isinstance(received, int) else 0)


async def read_desk(calls: RedisCalls) -> AtTheDesk:
    """Read every job and every entry, and recount the books."""
    ids = await calls.call("ZRANGE", f"{ROOT}jobs", 0, -1)
    jobs: dict[str, Job] = {}
    for some in _pages(ids):
        for fields in await asyncio.gather(*(calls.call("HGETALL", f"{ROOT}job:{job_id}") for job_id in some)):
            if fields:
                jobs[fields["id"]] = Job.from_hash(fields)
    ledger = Ledger(calls)
    booked: dict[Book, dict[str, int]] = {book: {} for book in Book}
    async for _, entry in ledger.entries():
        of_book = booked[Book(entry["book"])]
        of_book[entry["job"]] = of_book.get(entry["job"], 0) + int(entry["cents"])
    totals = {book: said.net_cents for book, said in (await ledger.totals()).items()}
    found = [f"{one.where}: says {one.says}, counted {one.counted}" for one in await differences(calls)]
    return AtTheDesk(jobs, booked, totals, found)


def _pages(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), _TOGETHER):
        yield ids[start:start + _TOGETHER]

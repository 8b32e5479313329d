"""The durable store: one SQLite file, fsynced at every commit, readable by other processes as the oracle."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from standin.errors import Json
from standin.records import MONEY_IN, MONEY_OUT, Effect, Kind, Page, Record, Saved, new_id

_SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
  seq INTEGER PRIMARY KEY, account TEXT NOT NULL, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, created INTEGER NOT NULL,
  lookup TEXT, body TEXT NOT NULL, notes TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS objects_listed ON objects (account, kind, seq);
CREATE TABLE IF NOT EXISTS idempotency (
  account TEXT NOT NULL, key TEXT NOT NULL, fingerprint TEXT NOT NULL, status INTEGER NOT NULL, body BLOB NOT NULL,
  request_id TEXT NOT NULL, created REAL NOT NULL, PRIMARY KEY (account, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS effects (
  seq INTEGER PRIMARY KEY, account TEXT NOT NULL, key TEXT, object_id TEXT NOT NULL, kind TEXT NOT NULL, amount INTEGER,
  status TEXT, payment_intent TEXT, job_id TEXT, created REAL NOT NULL);
CREATE TABLE IF NOT EXISTS clock (only_row INTEGER PRIMARY KEY CHECK (only_row = 1), advanced_seconds REAL NOT NULL);
"""
_UPSERT = (
    "INSERT INTO objects (account, id, kind, created, lookup, body, notes) VALUES (?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (id) DO UPDATE SET lookup = excluded.lookup, body = excluded.body, notes = excluded.notes"
)
_PAGE = (
    "SELECT account, id, kind, created, lookup, body, notes FROM objects WHERE account = :account AND kind = :kind "
    "AND created BETWEEN :created_from AND :created_to "
    "AND (:lookups = '[]' OR lookup IN (SELECT value FROM json_each(:lookups))) "
    "AND (:after IS NULL OR seq < (SELECT seq FROM objects WHERE id = :after)) ORDER BY seq DESC LIMIT :limit"
)


class SqliteStore:
    """What a transaction wrote survives a kill and a power cut."""

    keeps_events = True

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.executescript(_SCHEMA)

    def new_id(self, prefix: str) -> str:
        """Give an id that nothing else has."""
        return new_id(prefix)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Keep all of what is written inside, or nothing."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def get(self, account: str, name: str) -> Record | None:
        """Give the account's object of that id."""
        sql = "SELECT account, id, kind, created, lookup, body, notes FROM objects WHERE id = ? AND account = ?"
        row = self._db.execute(sql, (name, account)).fetchone()
        return None if row is None else _record(row)

    def owner(self, name: str) -> str | None:
        """Give the account that an id belongs to, whoever asks."""
        row = self._db.execute("SELECT account FROM objects WHERE id = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def put(self, record: Record) -> None:
        """Keep the object as it now is."""
        body, notes = json.dumps(record.body), json.dumps(record.notes)
        row = (record.account, record.id, record.kind.value, record.created, record.lookup, body, notes)
        self._db.execute(_UPSERT, row)

    def page(self, account: str, page: Page) -> list[Record]:
        """Give the account's objects, newest first; one more than the limit shows that more exist."""
        asked = {
            "account": account,
            "kind": page.kind.value,
            "created_from": page.created_from,
            "created_to": page.created_to,
            "lookups": json.dumps(page.lookups),
            "after": page.after,
            "limit": page.limit + 1,
        }
        return [_record(row) for row in self._db.execute(_PAGE, asked)]

    def every(self, kind: Kind) -> list[Record]:
        """Give all objects of a kind, of every account."""
        sql = "SELECT account, id, kind, created, lookup, body, notes FROM objects WHERE kind = ? ORDER BY seq"
        return [_record(row) for row in self._db.execute(sql, (kind.value,))]

    def add_effect(self, effect: Effect) -> None:
        """Note what really happened."""
        self._db.execute(
            "INSERT INTO effects (account, key, object_id, kind, amount, status, payment_intent, job_id, created) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                effect.account,
                effect.key,
                effect.object_id,
                effect.kind.value,
                effect.amount,
                effect.status,
                effect.payment_intent,
                effect.job_id,
                effect.created,
            ),
        )

    def effects(self) -> list[Json]:
        """Give all that really happened, oldest first."""
        cursor = self._db.execute(
            "SELECT account, key, object_id, kind, amount, status, payment_intent, job_id, created "
            "FROM effects ORDER BY seq"
        )
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]

    def balance(self, account: str) -> int:
        """Give the money the account holds, in cents."""
        sql = "SELECT kind, SUM(amount) FROM effects WHERE account = ? GROUP BY kind"
        sums: dict[str, int] = dict(self._db.execute(sql, (account,)).fetchall())
        return sum(sums.get(k, 0) for k in MONEY_IN) - sum(sums.get(k, 0) for k in MONEY_OUT)

    def saved(self, account: str, key: str) -> Saved | None:
        """Give the first answer of an idempotency key."""
        sql = "SELECT fingerprint, status, body, request_id, created FROM idempotency WHERE account = ? AND key = ?"
        row = self._db.execute(sql, (account, key)).fetchone()
        return None if row is None else Saved(*row)

    def save(self, account: str, key: str, saved: Saved) -> None:
        """Keep the first answer of an idempotency key, in place of an expired one."""
        row = (account, key, saved.fingerprint, saved.status, saved.body, saved.request_id, saved.created)
        self._db.execute("INSERT OR REPLACE INTO idempotency VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def advanced_seconds(self) -> float:
        """Give how far the clock had been moved."""
        row = self._db.execute("SELECT advanced_seconds FROM clock").fetchone()
        return 0.0 if row is None else float(row[0])

    def set_advanced_seconds(self, seconds: float) -> None:
        """Keep how far the clock has been moved."""
        self._db.execute("INSERT OR REPLACE INTO clock VALUES (1, ?)", (seconds,))

    def clear(self) -> None:
        """Forget everything."""
        for sql in ("DELETE FROM objects", "DELETE FROM idempotency", "DELETE FROM effects", "DELETE FROM clock"):
            self._db.execute(sql)

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()


def _record(row: tuple[str, str, str, int, str | None, str, str]) -> Record:
    account, name, kind, created, lookup, body, notes = row
    return Record(account, name, Kind(kind), created, lookup, json.loads(body), json.loads(notes))

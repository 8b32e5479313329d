"""The nouns of the desk, once: kinds, statuses, modes, books, and the Job as everybody sees it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any

from shared.money import dollars_number


class Kind(StrEnum):
    """What a job does; also the name of its Celery task."""

    PAYMENT_INTENT = "payment_intent"
    CHARGE = "charge"
    CUSTOMER = "customer"
    REFUND = "refund"
    STATUS_REFRESH = "status_refresh"
    """Looks at a payment and records what it sees; for a mock payment it plays the customer who pays."""


class Status(StrEnum):
    """Where a job is in its life. Only the scripts in shared/lua change it, by compare-and-set."""

    QUEUED = "queued"
    """Set by accept; a worker's claim comes next."""
    RUNNING = "running"
    """Set by claim, for the length of a lease."""
    RETRYING = "retrying"
    """Set by release: again at a set time, and nothing of it can have reached Stripe."""
    UNKNOWN = "unknown"
    """Set by release or a lease that ended: Stripe may have it. The same key again, then looked up; never guessed."""
    PENDING = "pending"
    """Set by record: Stripe has it, and the customer or the bank must finish it."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    PARKED = "parked"
    """Set by claim or release: a human must look."""

    @property
    def final(self) -> bool:
        """Whether nothing can change it any more."""
        return self in FINAL

    @property
    def awaits_nobody(self) -> bool:
        """Whether a waiter may be answered now: no worker is going to move it soon."""
        return self in FINAL or self in (Status.PENDING, Status.PARKED)


FINAL = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELED})
UNFINISHED = tuple(status for status in Status if status not in FINAL)


class Mode(StrEnum):
    """What a job was accepted for, by the kind of the Stripe key at that moment; frozen with it."""

    LIVE = "live"
    TEST = "test"
    NONE = "none"
    """No key: the mock answers, at any later time too."""


class Book(StrEnum):
    """Where money that moved is written down."""

    LIVE = "live"
    TEST = "test"
    MOCK = "mock"


class Lane(StrEnum):
    """Which of the two due sets and Celery queues a job goes through."""

    INTERACTIVE = "interactive"
    BULK = "bulk"


class Certainty(StrEnum):
    """What is known of whether a job reached Stripe."""

    NOT_SENT = "not_sent"
    POSSIBLY_SENT = "possibly_sent"
    SETTLED = "settled"


class FallbackReason(StrEnum):
    """Why the mock answered instead of Stripe."""

    NO_API_KEY = "no_api_key"
    NETWORK_ERROR = "network_error"


LOCAL_CALLER = "local"
"""Who asks, on a desk without API keys."""


def timestamp(ms: int | None) -> str | None:
    """Milliseconds since 1970 as RFC 3339 in UTC with milliseconds; None stays None."""
    if ms is None:
        return None
    return f"{_second(ms // 1000)}.{ms % 1000:03d}Z"


@lru_cache(maxsize=1024)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job as it is accepted: everything frozen, nothing of its life yet. Its id was made before."""

    id: str
    kind: Kind
    caller: str
    body_hash: str
    """SHA-256 over the caller's normalised fields; two submissions with one key must agree on it."""
    request: Mapping[str, Any]
    """The caller's normalised fields."""
    params: Mapping[str, Any]
    """What Stripe gets, the same bytes at every attempt."""
    mode: Mode
    account: str
    api_version: str
    amount_cents: int | None = None
    lane: Lane = Lane.INTERACTIVE
    reference: str | None = None
    fresh: bool = False
    """Its id is random: unlike one that derives from what the caller sent, nobody can have asked for it before."""
    links: Mapping[str, str] = field(default_factory=dict)
    """Other jobs that this one belongs to: `retry_of`, `settles`, `pays`."""

    def queued(self, created_ms: int) -> "Job":
        """The job right after it was accepted."""
        return Job(id=self.id, kind=self.kind, status=Status.QUEUED, caller=self.caller, mode=self.mode,
                   account=self.account, api_version=self.api_version, lane=self.lane, request=self.request,
                   params=self.params, amount_cents=self.amount_cents,
                   currency=None if self.amount_cents is None else CURRENCY, reference=self.reference,
                   created_ms=created_ms, updated_ms=created_ms, retry_of=self.links.get("retry_of"),
                   settles=self.links.get("settles"), pays=self.links.get("pays"))

    def fields(self) -> dict[str, str]:
        """The hash fields that accept writes; it adds the status and the times."""
        found = {"v": RECORD_VERSION, "id": self.id, "kind": self.kind, "caller": self.caller,
                 "body_hash": self.body_hash, "request": _json(self.request), "params": _json(self.params),
                 "mode": self.mode, "account": self.account, "api_version": self.api_version, "lane": self.lane,
                 **self.links}
        if self.amount_cents is not None:
            found |= {"amount_cents": str(self.amount_cents), "currency": CURRENCY}
        if self.reference is not None:
            found["reference"] = self.reference
        return found


RECORD_VERSION = "1"
CURRENCY = "usd"
_json = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as the store has it now. Times are milliseconds since 1970 by the store's clock; None: not yet."""

    id: str
    kind: Kind
    status: Status
    caller: str
    mode: Mode
    account: str
    api_version: str
    lane: Lane
    request: Mapping[str, Any]
    params: Mapping[str, Any]
    amount_cents: int | None
    currency: str | None
    reference: str | None
    created_ms: int
    updated_ms: int
    batch_id: str | None = None
    attempts: int = 0
    fence: int = 0
    doubts: int = 0
    crashes: int = 0
    book: Book | None = None
    result: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None
    stripe_id: str | None = None
    retry_of: str | None = None
    settles: str | None = None
    pays: str | None = None
    contradicted_by: str | None = None
    first_sent_ms: int | None = None
    next_ms: int | None = None
    lease_until_ms: int = 0
    """Until when a worker has it; 0: nobody."""
    listed_ms: int = 0
    """When the comparison that last saw its object in Stripe's list began."""
    finished_ms: int | None = None

    @classmethod
    def from_hash(cls, fields: Mapping[str, str]) -> "Job":
        """Read a job's hash. Unknown fields are left alone, so that an older program can read a newer record."""

        def number(name: str) -> int | None:
            return int(fields[name]) if fields.get(name) else None

        def shape(name: str) -> Any:
            return json.loads(fields[name]) if fields.get(name) else None

        return cls(
            id=fields["id"], kind=Kind(fields["kind"]), status=Status(fields["status"]), caller=fields["caller"],
            mode=Mode(fields["mode"]), account=fields["account"], api_version=fields["api_version"],
            lane=Lane(fields["lane"]), request=shape("request") or {}, params=shape("params") or {},
            amount_cents=number("amount_cents"), currency=fields.get("currency"), reference=fields.get("reference"),
            batch_id=fields.get("batch_id"), attempts=number("attempts") or 0, fence=number("fence") or 0,
            doubts=number("doubts") or 0, crashes=number("crashes") or 0,
            book=Book(fields["book"]) if fields.get("book") else None, result=shape("result"), error=shape("error"),
            stripe_id=fields.get("stripe_id"), retry_of=fields.get("retry_of"), settles=fields.get("settles"),
            pays=fields.get("pays"), contradicted_by=fields.get("contradicted_by"),
            first_sent_ms=number("first_sent_ms"), next_ms=number("next_ms"),
            lease_until_ms=number("lease_until_ms") or 0, listed_ms=number("listed_ms") or 0,
            created_ms=int(fields["created_ms"]), updated_ms=int(fields["updated_ms"]),
            finished_ms=number("finished_ms"))

    @property
    def certainty(self) -> Certainty:
        """`settled` once an answer is recorded; else whether any attempt may have reached Stripe."""
        if self.status.final or self.status is Status.PENDING:
            return Certainty.SETTLED
        return Certainty.POSSIBLY_SENT if self.doubts else Certainty.NOT_SENT

    @property
    def mock_mode(self) -> bool:
        """Whether the mock answered."""
        return self.book is Book.MOCK

    def wire(self) -> dict[str, Any]:
        """The job as clients see it (API.md, "The job")."""
        waits = self.status in (Status.RETRYING, Status.UNKNOWN)
        return {
            "object": "job", "id": self.id, "kind": self.kind, "status": self.status, "final": self.status.final,
            "certainty": self.certainty, "mock_mode": self.mock_mode, "book": self.book, "attempts": self.attempts,
            "amount": None if self.amount_cents is None else dollars_number(self.amount_cents),
            "currency": self.currency, "reference": self.reference, "batch_id": self.batch_id,
            "result": self.result, "error": self.error, "next_attempt_at": timestamp(self.next_ms) if waits else None,
            "retry_of": self.retry_of, "settles": self.settles, "settlement": None,
            "contradicted_by": self.contradicted_by, "created_at": timestamp(self.created_ms),
            "updated_at": timestamp(self.updated_ms), "finished_at": timestamp(self.finished_ms),
            "links": {"self": job_path(self.id)},
        }


def job_path(job_id: str) -> str:
    """Where a job is polled."""
    return f"/api/jobs/{job_id}"


def job_error(code: str, message: str, *, retryable: bool = False, decline_code: str | None = None,
              stripe_request_id: str | None = None) -> dict[str, Any]:
    """A job's `error` as clients see it; absent parts are left out."""
    parts = {"code": code, "message": message, "decline_code": decline_code, "stripe_request_id": stripe_request_id,
             "retryable": retryable}
    return {name: value for name, value in parts.items() if value is not None}

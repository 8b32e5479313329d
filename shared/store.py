"""JobStore: the jobs and their atomic steps, each one script of shared/lua. The truth is behind this file."""

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from shared.errors import IdempotencyConflict, StoreLost, StoreUnavailable
from shared.failpoints import failpoint
from shared.ids import token
from shared.jobs import Book, Job, Kind, Lane, Mode, NewJob, Status
from shared.redis_calls import ROOT, RedisCalls

CHANGED_CHANNEL = f"{ROOT}changed"
"""Where the id of a job is published when nobody is going to move it soon: it wakes the waiters."""

SECRET_SECONDS = 30 * 24 * 3600
"""How long a client_secret is kept (API.md)."""

BLIND_RESEND_MS = 12 * 3600 * 1000
"""Until how long after the first send a job in doubt may be sent again. Stripe forgets a key after 24 h, and the same
key would then charge anew (docs.stripe.com/api/idempotent_requests, read 2026-11-23); half of that leaves room."""

CRASHES_THAT_PARK = 6
"""One crash may be a neighbour's; after it a job runs alone, and five crashes alone are its own."""
_LIST_PAGE = 200


@dataclass(frozen=True, slots=True)
class Accepted:
    """An accepted job, and whether an earlier submission had made it."""

    job: Job
    replayed: bool


@dataclass(frozen=True, slots=True)
class Due:
    """A job that feed handed out."""

    job_id: str
    kind: str


class Claimed(list[Job]):
    """The jobs that a claim leased, in order; `crashed` names those that it would lease only to run alone."""

    def __init__(self, jobs: Iterable[Job], crashed: Sequence[str] = ()) -> None:
        super().__init__(jobs)
        self.crashed = crashed


class Basis(StrEnum):
    """On what ground an answer stands."""

    FACT = "fact"
    """Stripe said so: recorded whoever brings it, even after its lease."""
    MOCK = "mock"
    """The mock said so: only on proof that no attempt may have reached Stripe."""
    REFUSAL = "refusal"
    """The processor refused: needs the live lease."""
    ABSENCE = "absence"
    """A whole list proves that Stripe has nothing: only for a job in doubt that is too old to be sent again."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is to be recorded of a job: its outcome, the payment learned, and the entries to book, in one step."""

    job: Job
    basis: Basis
    status: Status
    book: Book
    result: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None
    stripe_id: str | None = None
    client_secret: str | None = None
    payment: Mapping[str, str] | None = None
    entries: Sequence[Mapping[str, str]] = ()
    counts_as_failed: bool = False
    only_without_doubt: bool = False
    """A refusal that says nothing about earlier attempts stands only if none is in doubt."""
    look_ms: int = 0
    """For a pending job: when to look at it again."""
    answered: bool = True
    """Whether Stripe itself said anything: then it is within reach. The mock's answers say nothing of it."""
    follow_up: NewJob | None = None
    follow_up_ms: int = 0
    stub: "Stub | None" = None
    """The job as it is to be made again if the store does not have it."""

    def text(self) -> str:
        """The answer as record.lua reads it."""
        fields = {"book": self.book, "stripe_id": self.stripe_id, "result": _json_or_none(self.result),
                  "error": _json_or_none(self.error)}
        said = {
            "job": self.job.id, "fence": str(self.job.fence), "basis": self.basis, "status": self.status,
            "fields": {name: text for name, text in fields.items() if text is not None},
            "error_code": self.error["code"] if self.error else None, "look_ms": self.look_ms,
            "count_failed": self.book if self.counts_as_failed else None,
            "answered": (self.answered and self.basis is not Basis.MOCK) or None,
            "clean": self.only_without_doubt or None,
            "secret": self.client_secret, "secret_seconds": SECRET_SECONDS, "payment": self.payment,
            "entries": list(self.entries) or None,
            "follow_up": None if self.follow_up is None else {
                "id": self.follow_up.id, "fields": self.follow_up.fields(), "delay_ms": self.follow_up_ms},
            "stub": None if self.stub is None else {**self.stub.new.fields(), "created_ms": str(self.stub.created_ms)},
            "resend_ms": BLIND_RESEND_MS if self.basis is Basis.ABSENCE else None,
        }
        return json.dumps({name: value for name, value in said.items() if value is not None})


@dataclass(frozen=True, slots=True)
class Stub:
    """A lost job, made again from its object at Stripe: without its caller and body, which a resubmission brings back.

    `new` has an empty body hash and caller; `created_ms`: when the object was made.
    """

    new: NewJob
    created_ms: int


class Recorded(StrEnum):
    """What became of an answer."""

    RECORDED = "recorded"
    ALREADY = "already"
    """It was recorded before, by whoever was first."""
    CONTRADICTED = "contradicted"
    """The job had ended otherwise; the money is booked and the job says so."""
    FENCED = "fenced"
    """A guess without a live lease: nothing happened."""
    IN_DOUBT = "in_doubt"
    """A guess while another attempt may have reached Stripe: nothing happened."""
    REACHABLE = "reachable"
    """A mock answer while Stripe is not out of everybody's reach: nothing happened."""
    MISSING = "missing"
    """The store does not know the job; what money moved is booked."""


@dataclass(frozen=True, slots=True)
class Page:
    """Jobs, newest first, and whether there are older ones."""

    jobs: Sequence[Job]
    has_more: bool = False


class JobStore:
    """The jobs of one desk. Each method is one atomic step; StoreUnavailable leaves open whether it took effect."""

    def __init__(self, calls: RedisCalls) -> None:
        self._calls = calls

    async def accept(self, new: NewJob, *, delay_ms: int, deadline_seconds: float) -> Accepted:
        """Accept a job once; asked again with the same id and body, answer the job as it now stands.

        `delay_ms`: when it is due if no hint reaches a worker. A lost reply is asked again with the same token until
        the deadline, so the answer is the first one.
        Raises IdempotencyConflict (another body), StoreFull, StoreLost, StoreUnavailable.
        """
        said, created_ms, doubts = await self._calls.script_until_answered(
            deadline_seconds, "accept", new.id, token(), new.body_hash, delay_ms, json.dumps(new.fields()),
            _flag(new.fresh))
        if said == "conflict":
            raise IdempotencyConflict("This Idempotency-Key came before with another request.")
        if said == "created":
            return Accepted(replace(new.queued(int(created_ms)), doubts=int(doubts)), replayed=False)
        job = await self.get(new.id)
        if job is None:
            raise StoreUnavailable("The store lost the job while it was read.")
        return Accepted(job, replayed=True)

    async def get(self, job_id: str) -> Job | None:
        """The job as it stands, its client_secret in the result while that is kept; None when there is none.

        Raises StoreLost, StoreUnavailable.
        """
        failpoint("get.before")
        fields, secret = await asyncio.gather(self._calls.call("HGETALL", _job_key(job_id)),
                                              self._calls.call("GET", f"{ROOT}secret:{job_id}"))
        if not fields and not await self._calls.call("EXISTS", f"{ROOT}epoch"):
            raise StoreLost("The store was emptied: what this desk had in it is gone.")
        failpoint("get.after")
        return _job(fields, secret) if fields else None

    async def page(self, *, caller: str, limit: int, status: Status | None = None, kind: Kind | None = None,
                   starting_after: str | None = None) -> Page | None:
        """This caller's jobs, newest first, without client secrets; None when `starting_after` names no job.

        The shortest index is walked; a second filter is applied on the way.
        """
        index = await self._shortest_index(status, kind)
        rank = 0
        if starting_after is not None:
            created = await self._calls.call("ZSCORE", f"{ROOT}jobs", starting_after)
            if created is None:
                return None
            rank = await self._rank_after(index, starting_after, created)
        chosen: list[Job] = []
        while len(chosen) <= limit:
            ids = await self._calls.call("ZREVRANGE", index, rank, rank + _LIST_PAGE - 1)
            chosen += [job for job in await self.read(ids) if job is not None and job.caller == caller
                       and kind in (None, job.kind) and status in (None, job.status)]
            rank += len(ids)
            if len(ids) < _LIST_PAGE:
                break
        return Page(chosen[:limit], has_more=len(chosen) > limit)

    async def _shortest_index(self, status: Status | None, kind: Kind | None) -> str:
        """The index with the fewest jobs that holds every one that is asked for."""
        indexes = [f"{ROOT}jobs:{status}"] * bool(status) + [f"{ROOT}jobs:kind:{kind}"] * bool(kind) or [f"{ROOT}jobs"]
        sizes = await asyncio.gather(*(self._calls.call("ZCARD", index) for index in indexes))
        return min(zip(sizes, indexes, strict=True))[1]

    async def _rank_after(self, index: str, job_id: str, created: float) -> int:
        """Where the walk goes on behind a job, also in an index that it has left meanwhile."""
        rank = await self._calls.call("ZREVRANK", index, job_id)
        if rank is not None:
            return int(rank) + 1
        newer: int = await self._calls.call("ZCOUNT", index, f"({created}", "+inf")
        return newer

    async def counts(self) -> dict[Status, int]:
        """How many jobs are in each status."""
        cards = await asyncio.gather(*(self._calls.call("ZCARD", f"{ROOT}jobs:{status}") for status in Status))
        return dict(zip(Status, cards, strict=True))

    async def claim(self, job_ids: Sequence[str], *, lease_ms: int, mode: Mode, account: str, claim_token: str,
                    alone: bool = False) -> Claimed:
        """Lease the jobs that may be worked now; the others are left out.

        Sent again with its token after a lost reply, it answers the same jobs. Each gets a fence, and, unless its mode
        is `none`, a doubt. A job with a crash behind it is leased only to a caller whose process runs nothing else.
        """
        answers = await self._calls.script("claim", claim_token, lease_ms, mode, account, BLIND_RESEND_MS,
                                           CRASHES_THAT_PARK, _flag(alone), *job_ids)
        jobs = (_job(dict(zip(answer[2::2], answer[3::2], strict=True)), None)
                for answer in answers if answer[1] == "claimed")
        return Claimed(jobs, [answer[0] for answer in answers if answer[1] == "crashed"])

    async def record(self, answer: Answer, *, deadline_seconds: float) -> Recorded:
        """Record an answer with its money, once. Safe to say again: a lost reply is asked again until the deadline."""
        verdict, _ = await self._calls.script_until_answered(deadline_seconds, "record", answer.text())
        return Recorded(verdict)

    async def release(self, job: Job, *, error: Mapping[str, Any], delay_ms: int, unsent: bool, answered: bool,
                      park: bool = False) -> Status | None:
        """Give a claimed job back, due again after `delay_ms`, or to a human; None when its lease is another's by now.

        `unsent`: proof that this attempt sent nothing takes its own doubt away. `answered`: Stripe is reachable.
        """
        said = await self._calls.script_until_answered(
            2.0, "release", job.id, job.fence, _flag(unsent), _flag(answered), delay_ms, json.dumps(error),
            Status.PARKED if park else "")
        return None if said == "fenced" else Status(said)

    async def note(self, job_id: str, by: str) -> bool:
        """Note on a job that something at Stripe speaks against it; True when nothing was noted before."""
        return bool(await self._calls.script_until_answered(2.0, "note", job_id, by))

    async def read(self, job_ids: Sequence[str]) -> list[Job | None]:
        """The jobs as they stand, without their client secrets, in the order in which they are named."""
        hashes = await asyncio.gather(*(self._calls.call("HGETALL", _job_key(job_id)) for job_id in job_ids))
        return [_job(fields, None) if fields else None for fields in hashes]

    async def created(self, *, since_ms: int, until_ms: int, most: int = _LIST_PAGE) -> tuple[list[str], int | None]:
        """Ids of jobs that were accepted in a window, oldest first, and where the next page begins; None: nowhere."""
        while True:
            flat = await self._calls.call("ZRANGEBYSCORE", f"{ROOT}jobs", since_ms, until_ms, "WITHSCORES", "LIMIT", 0,
                                          most)
            page = [(job_id, int(created_ms)) for job_id, created_ms in zip(flat[::2], flat[1::2], strict=True)]
            last = page[-1][1] if len(page) == most else None
            whole = [job_id for job_id, created_ms in page if created_ms != last]
            if whole or last is None:
                return whole, last
            most *= 2  # all of one millisecond: they fit on no page of that size

    async def in_status(self, status: Status, *, most: int) -> list[str]:
        """Ids of the jobs in a status, oldest first."""
        found: list[str] = await self._calls.call("ZRANGE", f"{ROOT}jobs:{status}", 0, most - 1)
        return found

    async def feed(self, lane: Lane, *, most: int, grace_ms: int) -> list[Due]:
        """Hand out up to `most` jobs that are due in a lane; they are due again after the grace."""
        flat = await self._calls.script("feed", lane, most, grace_ms)
        return [Due(job_id, kind) for job_id, kind in zip(flat[0::2], flat[1::2], strict=True)]


def _job_key(job_id: str) -> str:
    return f"{ROOT}job:{job_id}"


def _job(fields: dict[str, str], secret: str | None) -> Job:
    job = Job.from_hash(fields)
    if secret is None or job.result is None or "client_secret" not in job.result:
        return job
    return replace(job, result={**job.result, "client_secret": secret})


def _flag(value: bool) -> str:  # noqa: FBT001  # a flag is what this writes
    return "1" if value else "0"


def _json_or_none(value: Mapping[str, Any] | None) -> str | None:
    return None if value is None else json.dumps(value, separators=(",", ":"), ensure_ascii=False)

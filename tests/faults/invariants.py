"""What must hold when a test ends, whatever it broke, read from the store and the stand-in."""

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.jobs import Book, Job, Kind, Lane, Status
from shared.ledger import EntryKind, Ledger, Totals
from shared.redis_calls import ROOT, RedisCalls
from shared.store import JobStore
from shared.verify import differences
from standin.client import Standin
from tests.faults.desk_processes import DeskProcesses

_FENCES_A_LOSS = 1_000_000
"""Fences begin above this once the store has lost something."""
_SECRET = "_secret_"
_WAITING = frozenset({Status.RETRYING, Status.UNKNOWN, Status.PENDING})
_ENDS = frozenset(f"job.{status}" for status in Status if status.final)


@dataclass(frozen=True, slots=True)
class Picture:
    """The store and the stand-in, read when nothing moves any more."""

    jobs: dict[str, Job]
    left: Mapping[str, Status]
    """Jobs that may stay without an end, and how they may stand."""
    ends: Counter[str]
    """How often each job came to an end, by its events."""
    indexes: dict[Status, set[str]]
    due: set[str]
    booked: dict[str, int]
    """Cents captured, by job."""
    totals: dict[Book, Totals]
    effects: Sequence[Mapping[str, Any]]
    requests: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class AtStripe:
    """What the stand-in says of itself: what really happened, and what it was asked."""

    effects: Sequence[Mapping[str, Any]]
    requests: Sequence[Mapping[str, Any]]


async def check(desk: DeskProcesses) -> None:
    """Wait for every job's end, then fail with each invariant that does not hold."""
    await desk.settled()
    broken = await violations(desk.calls, desk.standin, accepted=desk.accepted, left=desk.left)
    broken += [line async for line in _calls_without_an_attempt(desk)]
    assert not broken, "\n".join([*broken, desk.told()])


async def _calls_without_an_attempt(desk: DeskProcesses) -> AsyncIterator[str]:
    """Each attempt calls once: nothing below it tries again by itself. What a store lost attempts of is not asked."""
    calls = Counter(request["job_id"] for request in desk.standin.requests()
                    if request["method"] == "POST" and str(request["path"]).count("/") == 2)
    for job_id in desk.accepted:
        job = await desk.jobs.get(job_id)
        if job is None or job.fence >= _FENCES_A_LOSS or (job.first_sent_ms and not job.attempts):
            continue
        if calls[job_id] > job.attempts:
            yield f"{job_id} was sent {calls[job_id]} times in {job.attempts} attempts"


async def violations(calls: RedisCalls, standin: Standin, *, accepted: Iterable[str],
                     left: Mapping[str, Status]) -> list[str]:
    """Each invariant that does not hold now that nothing moves any more. `left`: who may stand without an end."""
    seen = await look(calls, left, AtStripe(standin.effects(), standin.requests()))
    return await broken_in(seen, calls, accepted)


async def broken_in(seen: Picture, calls: RedisCalls, accepted: Iterable[str]) -> list[str]:
    """Each invariant that does not hold, as a line for people."""
    lost = [f"{job_id} was accepted and is lost" for job_id in accepted if job_id not in seen.jobs]
    adds_up = [f"the desk's own books: {difference}" for difference in await differences(calls)]
    secrets = [f"{key} holds a client_secret" async for key in _open_secrets(calls)]
    return [*lost, *adds_up, *secrets, *_jobs(seen), *_stripe(seen), *_books(seen), *_indexes(seen)]


async def look(calls: RedisCalls, left: Mapping[str, Status], stripe: AtStripe) -> Picture:
    """Read everything that the invariants speak of."""
    jobs, ledger = JobStore(calls), Ledger(calls)
    ids = await calls.call("ZRANGE", f"{ROOT}jobs", 0, -1)
    ends: Counter[str] = Counter()
    for _, flat in await calls.call("XRANGE", f"{ROOT}events", "-", "+"):
        fields = dict(zip(flat[0::2], flat[1::2], strict=True)) if isinstance(flat, list) else flat
        if fields["event"] in _ENDS:
            ends[fields["job_id"]] += 1
    booked: dict[str, int] = Counter()
    async for _, entry in ledger.entries():
        assert entry["kind"] == EntryKind.CAPTURED, "no test here moves money in another way"
        booked[entry["job"]] += int(entry["cents"])
    found = [await jobs.get(job_id) for job_id in ids]
    return Picture(
        jobs={job.id: job for job in found if job is not None}, left=left, ends=ends,
        indexes={status: set(await calls.call("ZRANGE", f"{ROOT}jobs:{status}", 0, -1)) for status in Status},
        due={job_id for lane in Lane for job_id in await calls.call("ZRANGE", f"{ROOT}due:{lane}", 0, -1)},
        booked=booked, totals=await ledger.totals(), effects=stripe.effects, requests=stripe.requests)


async def _open_secrets(calls: RedisCalls) -> AsyncIterator[str]:
    """A client_secret is nowhere but in its own key, which ends by itself."""
    call = calls.call
    for job_id in await call("ZRANGE", f"{ROOT}jobs", 0, -1):
        if _SECRET in str(await call("HGETALL", f"{ROOT}job:{job_id}")):
            yield job_id
    for stream in ("events", "revenue", "ledger"):
        if _SECRET in str(await call("XRANGE", f"{ROOT}{stream}", "-", "+")):
            yield stream


def _jobs(seen: Picture) -> Iterator[str]:
    """I2: one end each, said once."""
    for job in seen.jobs.values():
        if job.status is not seen.left.get(job.id, job.status) or not (job.status.final or job.id in seen.left):
            yield f"{job.id} is {job.status}"
        if seen.ends[job.id] != int(job.status.final):
            yield f"{job.id} is {job.status} and ended {seen.ends[job.id]} times"
        if job.contradicted_by:
            yield f"{job.id} is contradicted by {job.contradicted_by}"


def _stripe(seen: Picture) -> Iterator[str]:
    """I3 and I5: one object a job, one key a job, and nothing at Stripe of what was mocked."""
    for (job_id, kind), count in Counter((effect["job_id"], effect["kind"]) for effect in seen.effects).items():
        if count > 1:
            yield f"{job_id} has {count} effects of kind {kind} at Stripe"
        if job_id not in seen.jobs:
            yield f"Stripe has a {kind} of {job_id}, which the store does not know"
        elif seen.jobs[job_id].book is Book.MOCK:
            yield f"{job_id} was mocked, and Stripe has its {kind}"
    keys = {(request["job_id"], request["path"], request["key"]) for request in seen.requests
            if request["method"] == "POST"}
    for (job_id, path), count in Counter((job_id, path) for job_id, path, _ in keys).items():
        if count > 1:
            yield f"{job_id} was sent to {path} under {count} keys"


def _books(seen: Picture) -> Iterator[str]:
    """I4: the ledger, the totals and Stripe agree, to the cent."""
    at_stripe = {effect["job_id"]: effect["amount"] for effect in seen.effects
                 if effect["kind"] == "charge" and effect["job_id"] not in seen.left}
    mocks = {job.id for job in seen.jobs.values() if job.book is Book.MOCK}
    real = {job_id: cents for job_id, cents in seen.booked.items() if job_id not in mocks}
    for job_id in sorted({*real, *at_stripe}):
        if real.get(job_id) != at_stripe.get(job_id):
            yield f"booked {real.get(job_id)} cents of {job_id}, but Stripe has {at_stripe.get(job_id)}"
    if seen.totals[Book.TEST].processed_cents != sum(at_stripe.values()):
        yield f"the totals say {seen.totals[Book.TEST]}, Stripe has {sum(at_stripe.values())}"
    mocked = sum(job.amount_cents or 0 for job in seen.jobs.values() if job.book is Book.MOCK
                 and job.status is Status.SUCCEEDED and job.kind in (Kind.CHARGE, Kind.STATUS_REFRESH))
    if seen.totals[Book.MOCK].processed_cents != mocked:
        yield f"the totals say {seen.totals[Book.MOCK]}, the mock charged {mocked}"
    for book, totals in seen.totals.items():
        failed = sum(job.status is Status.FAILED and job.book is book and job.kind is Kind.CHARGE
                     for job in seen.jobs.values())
        if totals.failed != failed:
            yield f"the totals of the {book} book count {totals.failed} failures of {failed}"


def _indexes(seen: Picture) -> Iterator[str]:
    """I6: what is due, the index of each status and the records say the same."""
    waiting = {job.id for job in seen.jobs.values() if job.status in _WAITING}
    if seen.due != waiting:
        yield f"due is {seen.due}, waiting are {waiting}"
    for status, ids in seen.indexes.items():
        stand = {job.id for job in seen.jobs.values() if job.status is status}
        if ids != stand:
            yield f"the index of {status} differs from the records in {ids ^ stand}"

"""A JobStore on a real server as tests use it: short words for its steps, answers to record, and the server's clock."""

import asyncio
import dataclasses
import time
from collections.abc import Sequence
from typing import Any

from shared.circuit import Circuit
from shared.ids import token
from shared.jobs import Book, Job, Kind, Lane, Mode, NewJob, Status, job_error
from shared.ledger import Ledger, captured
from shared.operator import Operator
from shared.redis_calls import ROOT, RedisCalls
from shared.results import Payment
from shared.store import Accepted, Answer, Basis, Claimed, JobStore, Recorded

LEASE_MS = 60_000
"""A lease that outlives any test."""
ACCOUNT = "acct_1"
ERROR = job_error("network_error", "Stripe cannot be reached.", retryable=True)
DEADLINE_SECONDS = 20.0


def new(job_id: str = "job_a", *, kind: Kind = Kind.CHARGE, mode: Mode = Mode.TEST, body_hash: str = "b1",
        lane: Lane = Lane.INTERACTIVE, caller: str = "local", account: str | None = None, **links: str) -> NewJob:
    """A job of 50 dollars, frozen."""
    params = {"amount": 5000, "currency": "usd", "payment_method": "pm_card_visa"}
    if account is None:
        account = "" if mode is Mode.NONE else ACCOUNT
    return NewJob(id=job_id, kind=kind, caller=caller, body_hash=body_hash, request={"amount_cents": 5000},
                  params=params, mode=mode, account=account, api_version="2026-10-28.endive", amount_cents=5000,
                  lane=lane, links=links)


def payment(job: Job, status: str = "succeeded", **changes: Any) -> Payment:
    """Stripe's intent of a job."""
    made = Payment(id=f"pi_{job.id.removeprefix('job_')}", status=status, amount_cents=5000,
                   received_cents=5000 if status == "succeeded" else 0, currency="usd", livemode=False, job_id=job.id)
    return dataclasses.replace(made, **changes)


def _learned(made: Payment, job: Job, book: Book) -> dict[str, str]:
    return {"id": made.id, "status": made.status, "amount_cents": str(made.amount_cents),
            "received_cents": str(made.received_cents), "currency": made.currency, "book": book,
            "account": job.account, "job": job.id}


def succeeded(job: Job, **changes: Any) -> Answer:
    """Stripe's money for a job."""
    made = payment(job)
    answer = Answer(job=job, basis=Basis.FACT, status=Status.SUCCEEDED, book=Book.TEST, stripe_id=made.id,
                    result={"success": True, "payment_intent_id": made.id}, payment=_learned(made, job, Book.TEST),
                    entries=[captured(made, book=Book.TEST, account=job.account, job_id=job.id)])
    return dataclasses.replace(answer, **changes)


def waiting(job: Job, *, look_ms: int = 0, **changes: Any) -> Answer:
    """Stripe has it and the customer must finish it."""
    made = payment(job, "requires_action")
    return Answer(job=job, basis=Basis.FACT, status=Status.PENDING, book=Book.TEST, stripe_id=made.id, look_ms=look_ms,
                  result={"success": True, "client_secret": None}, payment=_learned(made, job, Book.TEST), **changes)


def declined(job: Job, **changes: Any) -> Answer:
    """The bank's no, saved at Stripe."""
    made = payment(job, "requires_payment_method")
    return Answer(job=job, basis=Basis.FACT, status=Status.FAILED, book=Book.TEST, stripe_id=made.id,
                  error=job_error("card_declined", "No."), payment=_learned(made, job, Book.TEST),
                  counts_as_failed=True, **changes)


def refused(job: Job, *, only_without_doubt: bool = False) -> Answer:
    """A refusal, of the request or of the key alone."""
    return Answer(job=job, basis=Basis.REFUSAL, status=Status.FAILED, book=Book.TEST, counts_as_failed=True,
                  error=job_error("stripe_refused", "No."), only_without_doubt=only_without_doubt)


def mocked(job: Job, **changes: Any) -> Answer:
    """The mock's money for a job."""
    made = payment(job, id=f"pi_mock_{job.id.removeprefix('job_')}")
    answer = Answer(job=job, basis=Basis.MOCK, status=Status.SUCCEEDED, book=Book.MOCK, stripe_id=made.id,
                    result={"success": True, "mock_mode": True}, payment=_learned(made, job, Book.MOCK),
                    entries=[captured(made, book=Book.MOCK, account=job.account, job_id=job.id)])
    return dataclasses.replace(answer, **changes)


async def emptied(calls: RedisCalls) -> None:
    """Make the store one that a desk has just begun to use: empty, with an epoch and nobody's fingerprint."""
    await calls.call("FLUSHALL")
    server = await calls.call("INFO", "server")
    await calls.evaluate("epoch", f"{ROOT}epoch", "begin", "tests", server["run_id"], "1")


class Till:
    """The steps of a store, and what stands in it."""

    def __init__(self, calls: RedisCalls) -> None:
        self.calls = calls
        self.store = JobStore(calls)
        self.circuit = Circuit(calls)
        self.ledger = Ledger(calls)
        self.operator = Operator(calls)

    async def accept(self, job: NewJob, *, delay_ms: int = 0) -> Accepted:
        return await self.store.accept(job, delay_ms=delay_ms, deadline_seconds=5)

    async def claim(self, *job_ids: str, lease_ms: int = LEASE_MS, mode: Mode = Mode.TEST, account: str = ACCOUNT,
                    claim_token: str | None = None, alone: bool = True) -> Claimed:
        """Claim as a process that runs nothing else, unless said otherwise: a crash behind a job is no obstacle."""
        return await self.store.claim(job_ids, lease_ms=lease_ms, mode=mode, account=account,
                                      claim_token=claim_token or token(), alone=alone)

    async def claimed(self, job_id: str = "job_a", *, lease_ms: int = LEASE_MS) -> Job:
        [job] = await self.claim(job_id, lease_ms=lease_ms)
        return job

    async def started(self, job: NewJob | None = None, *, lease_ms: int = LEASE_MS) -> Job:
        """A job accepted and claimed."""
        job = job or new()
        await self.accept(job)
        return await self.claimed(job.id, lease_ms=lease_ms)

    async def crash(self, job_id: str = "job_a") -> Job:
        """Claim with a lease that ends at once, and let feed see it; answers the attempt whose worker is gone."""
        lost = await self.claimed(job_id, lease_ms=1)
        await self.lapse(job_id)
        await self.feed()
        return lost

    async def record(self, answer: Answer) -> Recorded:
        return await self.store.record(answer, deadline_seconds=5)

    async def release(self, job: Job, *, unsent: bool = False, answered: bool = False, delay_ms: int = 0,
                      park: bool = False) -> Status | None:
        return await self.store.release(job, error=ERROR, delay_ms=delay_ms, unsent=unsent, answered=answered,
                                        park=park)

    async def feed(self, lane: Lane = Lane.INTERACTIVE, *, most: int = 100, grace_ms: int = 0) -> list[str]:
        return [due.job_id for due in await self.store.feed(lane, most=most, grace_ms=grace_ms)]

    async def job(self, job_id: str = "job_a") -> Job:
        found = await self.store.get(job_id)
        assert found is not None
        return found

    async def now_ms(self) -> int:
        """The server's clock: the only one."""
        seconds, micros = await self.calls.call("TIME")
        return int(seconds) * 1000 + int(micros) // 1000

    async def pass_ms(self, moment_ms: int) -> None:
        """Return once the server's clock is past a moment."""
        end = time.monotonic() + DEADLINE_SECONDS
        while await self.now_ms() <= moment_ms:
            assert time.monotonic() < end, "the server's clock stands still"
            await asyncio.sleep(0.001)

    async def lapse(self, job_id: str = "job_a") -> None:
        """Return once the lease of a job has ended."""
        await self.pass_ms(int(await self.calls.call("HGET", f"{ROOT}job:{job_id}", "lease_until_ms")))

    async def put(self, job_id: str, **fields: int | str) -> None:
        """Plant fields in a record by hand."""
        for name, value in fields.items():
            await self.calls.call("HSET", f"{ROOT}job:{job_id}", name, value)

    async def due_ms(self, job_id: str = "job_a", lane: Lane = Lane.INTERACTIVE) -> int | None:
        score = await self.calls.call("ZSCORE", f"{ROOT}due:{lane}", job_id)
        return None if score is None else int(score)

    async def open_circuit(self, worker: str = "w1") -> None:
        """Let the only fresh worker fail until the desk sees it: a failure must be later than the last answer."""
        end = time.monotonic() + DEADLINE_SECONDS
        await self.circuit.beat(worker, threads=1)
        while not (await self.circuit.failed(worker)).open:
            assert time.monotonic() < end, "the circuit does not open"

    async def entries(self) -> list[dict[str, str]]:
        return [entry async for _, entry in self.ledger.entries()]

    async def events(self, *names: str) -> list[dict[str, str]]:
        """The event stream; with names, only those events."""
        lines = await self.calls.call("XRANGE", f"{ROOT}events", "-", "+")
        return [fields for _, fields in lines if not names or fields["event"] in names]

    async def index_of(self, job_ids: Sequence[str]) -> dict[str, list[str]]:
        """In which status indexes each job stands: exactly one, its own."""
        indexes = await asyncio.gather(*(self.calls.call("ZRANGE", f"{ROOT}jobs:{status}", 0, -1) for status in Status))
        return {job_id: [status for status, members in zip(Status, indexes, strict=True) if job_id in members]
                for job_id in job_ids}

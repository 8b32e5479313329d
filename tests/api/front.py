"""The front door as its tests see it: a client that holds every answer against /openapi.json, and a worker's part."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio.lowlevel
import httpx2
from fastapi import FastAPI

from api.deps import Desk
from api.main import create_app
from api.openapi import describe
from shared.ids import mock_id, mock_secret, token
from shared.jobs import FallbackReason, Job, Kind, Status, job_error
from shared.ledger import captured
from shared.redis_calls import RedisCalls
from shared.results import Customer, Payment, result_of
from shared.settings import Settings
from shared.store import Answer, Basis, JobStore

CHARGE = {"amount": 50.00, "payment_method_id": "pm_card_visa"}
CHARGES = "/api/stripe/process-charge"
PAYMENTS = "/api/stripe/create-payment"
CUSTOMERS = "/api/stripe/create-customer"
INTENT = "/api/stripe/payment-intent"
STATS = "/api/stripe/stats"

PROBLEM_KEYS = {"type", "title", "status", "detail", "instance", "success", "code", "request_id", "errors"}


@dataclass(frozen=True, slots=True)
class Front:
    """A desk that serves, without workers but the one that the test plays."""

    app: FastAPI
    client: httpx2.AsyncClient
    worker: "Worker"

    @property
    def desk(self) -> Desk:
        found: Desk = self.app.state.desk
        return found

    async def charge(self, body: object = None, **headers: str) -> httpx2.Response:
        """Submit a charge."""
        return await self.client.post(CHARGES, json=CHARGE if body is None else body, headers=headers)

    async def preflight(self, path: str, headers: Mapping[str, str]) -> httpx2.Response:
        """A browser's preflight, which is answered before anything else sees it."""
        transport = httpx2.ASGITransport(self.app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://desk") as browser:
            return await browser.options(path, headers=headers)

    async def until_waiting(self, count: int = 1) -> None:
        """Until so many requests have read their job and wait, and would be woken."""
        await self.desk.waiters.listening()
        while sum(len(event._waiters) for events in self.desk.waiters._events.values() for event in events) < count:
            await anyio.lowlevel.checkpoint()


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Front]:
    """The front door for these settings, until the block ends."""
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        document = describe(app)

        async def check(response: httpx2.Response) -> None:
            await response.aread()
            check_documented(document, response)

        calls = RedisCalls.connect(settings.redis_url.get_secret_value(), deadline_seconds=2)
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://desk", timeout=40,
                                      event_hooks={"response": [check]}) as client:
            yield Front(app, client, Worker(JobStore(calls), settings))
        await calls.close()


def check_documented(document: Mapping[str, Any], response: httpx2.Response) -> None:
    """Assert that an answer is one of those that /openapi.json promises, and an error a whole problem."""
    request = response.request
    assert response.headers["x-request-id"]
    assert response.headers["cache-control"] == "no-store"
    if response.status_code >= 400 and request.method != "HEAD":
        assert response.headers["content-type"] == "application/problem+json"
        problem = response.json()
        assert problem.keys() >= PROBLEM_KEYS
        assert problem["status"] == response.status_code
        assert problem["success"] is False
        assert problem["request_id"] == response.headers["x-request-id"]
        assert ("retry-after" in response.headers) == (response.status_code == 503)
    operation = _operation(document, request.method, request.url.path)
    if operation is None or response.status_code == 405:
        assert response.status_code in (200, 404, 405)
        return
    assert str(response.status_code) in operation["responses"], (request.method, request.url.path, response.text)
    declared = operation["responses"][str(response.status_code)]
    assert response.headers["content-type"] in declared["content"]


def _operation(document: Mapping[str, Any], method: str, path: str) -> Mapping[str, Any] | None:
    for template, operations in document["paths"].items():
        if re.fullmatch(re.sub(r"\{[a-z_]+\}", "[^/]+", template), path):
            found: Mapping[str, Any] | None = operations.get("get" if method == "HEAD" else method.lower())
            return found
    return None


class Worker:
    """What a worker does to jobs, when the test says so."""

    def __init__(self, store: JobStore, settings: Settings) -> None:
        self.store = store
        self._settings = settings

    async def claim(self, job_id: str) -> Job:
        """Lease a job."""
        (job,) = await self.store.claim([job_id], lease_ms=60_000, mode=self._settings.mode,
                                        account=self._settings.account, claim_token=token())
        return job

    async def succeed(self, job_id: str, *, status: str = "succeeded", rests: Status = Status.SUCCEEDED) -> None:
        """Record that a job succeeded, by the mock if the desk has no key; a charge's money with it."""
        job = await self.claim(job_id)
        made, secret = self._made(job, status)
        payment = made if isinstance(made, Payment) else None
        paid = payment is not None and payment.received_cents > 0
        await self._record(Answer(
            job=job, basis=self._basis, status=rests, book=self._settings.book, stripe_id=made.id, client_secret=secret,
            result=result_of(job.kind, made, fallback=self._fallback, has_secret=secret is not None),
            payment={"id": made.id, "status": payment.status} if payment else None, look_ms=60_000,
            entries=[captured(payment, book=self._settings.book, account=job.account, job_id=job.id)]
            if payment and paid else []))

    async def fail(self, job_id: str, code: str, decline_code: str | None = None, *,
                   stripe_id: str | None = None) -> None:
        """Record that a job failed."""
        error = job_error(code, "The sentence about it.", decline_code=decline_code)
        await self._record(Answer(job=await self.claim(job_id), basis=self._basis, status=Status.FAILED, error=error,
                                  book=self._settings.book, counts_as_failed=True, stripe_id=stripe_id))

    async def cancel(self, job_id: str) -> None:
        """Record that a job was canceled."""
        await self._record(Answer(job=await self.claim(job_id), basis=self._basis, status=Status.CANCELED,
                                  book=self._settings.book))

    async def park(self, job_id: str) -> None:
        """Give a job to a human."""
        await self.store.release(await self.claim(job_id), error=job_error("poison", "A human must look."), delay_ms=0,
                                 unsent=True, answered=False, park=True)

    async def _record(self, answer: Answer) -> None:
        assert await self.store.record(answer, deadline_seconds=2) == "recorded"

    @property
    def _basis(self) -> Basis:
        return Basis.MOCK if self._fallback else Basis.FACT

    @property
    def _fallback(self) -> FallbackReason | None:
        return FallbackReason.NO_API_KEY if self._settings.mode == "none" else None

    def _made(self, job: Job, status: str) -> tuple[Payment | Customer, str | None]:
        if job.kind is Kind.CUSTOMER:
            return Customer(mock_id("cus", job.id), job.request["email"], job.request.get("name"),
                            livemode=False, job_id=job.id), None
        cents = job.amount_cents or 0
        intent = mock_id("pi", job.id) if self._fallback else f"pi_{job.id[4:]}"
        charged = job.kind is Kind.CHARGE
        paid = charged and status == "succeeded"
        shown = status if charged else "requires_payment_method"
        payment = Payment(intent, shown, cents, cents if paid else 0, "usd", livemode=False, job_id=job.id)
        return payment, None if paid else mock_secret(intent)


async def raced(waiting: asyncio.Task[httpx2.Response], front: Front) -> None:
    """Until a request that was begun waits for its job."""
    await front.until_waiting()
    assert not waiting.done()


def job_id_of(response: httpx2.Response) -> str:
    """The job that an answer points to."""
    return response.headers["location"].rpartition("/")[2]

"""The front door with a real worker's code behind it and the stand-in as Stripe; it works when the test says so."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2

from shared.jobs import Lane, Status
from shared.ledger import Totals
from shared.payments import FRESH_MS
from shared.redis_calls import ROOT, RedisCalls
from shared.settings import Settings
from standin.client import Standin
from tests.api.front import PAYMENTS, Front, job_id_of, serving
from tests.faults.desk_processes import eventually
from worker.desk import Desk
from worker.loop import work
from worker.main import create_desk

STATUS = "/api/stripe/payment-status"


@dataclass(frozen=True, slots=True)
class AtStripe:
    """A desk with a key: its front door, its worker's parts, its Stripe."""

    front: Front
    worker: Desk
    calls: RedisCalls
    standin: Standin

    async def works(self) -> list[str]:
        """Let the worker do what is queued; answers a line a job."""
        queued = await self.calls.call("ZRANGE", f"{ROOT}jobs:{Status.QUEUED}", 0, -1)
        return await work(self.worker, Lane.INTERACTIVE, queued)

    async def created(self, path: str = PAYMENTS, **body: object) -> str:
        """The id of a payment intent that the desk made and last saw more than a freshness window ago."""
        job_id = job_id_of(await self.front.client.post(path, json={"amount": 25.50, **body}))
        await self.works()
        job = await self.front.desk.store.get(job_id)
        assert job is not None
        assert job.stripe_id is not None
        await self.age(job.stripe_id)
        return job.stripe_id

    async def age(self, payment_intent_id: str) -> None:
        """Let what is known of a payment be older than it is."""
        await self.calls.call("HINCRBY", f"{ROOT}payment:{payment_intent_id}", "as_of_ms", -FRESH_MS)

    async def ask(self, given: str, **headers: str) -> httpx2.Response:
        """Ask how a payment stands."""
        return await self.front.client.get(STATUS, params={"payment_intent_id": given}, headers=headers)

    async def asked(self, given: str, times: int = 1) -> list[httpx2.Response]:
        """The answers to so many who ask at once, with the worker at work once all of them wait."""
        polls = [asyncio.create_task(self.ask(given)) for _ in range(times)]
        await self.front.until_waiting(times)
        await self.works()
        return list(await asyncio.gather(*polls))

    async def told(self, given: str) -> dict[str, Any]:
        """What the one who asks is told of a payment that Stripe must be asked for."""
        (response,) = await self.asked(given)
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found

    async def early_in_a_window(self) -> None:
        """Let a freshness window have begun less than half of it ago: what is asked next is asked in one."""
        async def is_early() -> bool:
            seconds, _ = await self.calls.call("TIME")
            return int(seconds) * 1000 % FRESH_MS < FRESH_MS / 2

        await eventually(is_early, FRESH_MS / 1000, "an early moment of a window")

    def reads(self) -> int:
        """How often Stripe was read."""
        return sum(request["method"] == "GET" for request in self.standin.requests())

    async def cut_off(self) -> None:
        """Take Stripe out of reach until the desk knows it."""
        self.standin.refuse()
        await self.worker.reachability.beat(threads=1)
        await self.worker.reachability.check()
        assert (await self.front.desk.circuit.look()).open

    async def revenue(self) -> Sequence[tuple[str, int]]:
        """Each ledger entry: the payment and its cents; the totals must say the same."""
        entries = [(entry["payment"], int(entry["cents"])) async for _, entry in self.front.desk.ledger.entries()]
        totals = (await self.front.desk.ledger.totals())[self.front.desk.settings.book]
        assert totals == Totals(processed_cents=sum(cents for _, cents in entries), succeeded=len(entries))
        assert await self.front.desk.ledger.differences() == []
        return entries


@asynccontextmanager
async def at_stripe(settings: Settings, standin: Standin) -> AsyncIterator[AtStripe]:
    """A desk with these settings at the stand-in, until the block ends."""
    settings = settings.model_copy(update={"stripe_api_base": standin.base_url, "stripe_rate_per_second": 1000.0})
    async with serving(settings) as front:
        calls = RedisCalls.connect(settings.redis_url.get_secret_value(), deadline_seconds=2)
        worker = create_desk(settings, calls, front.desk.circuit, worker="w1")
        await worker.reachability.beat(threads=1)
        yield AtStripe(front, worker, calls, standin)
        if worker.stripe is not None:
            await worker.stripe.close()
        await calls.close()

"""A desk with a stand-in as its Stripe: charges made by it, lost by it, or made behind its back."""

import dataclasses
from typing import Any

from shared.ids import token
from shared.jobs import Job, Kind, NewJob, Status
from shared.reconcile_state import Discrepancy, Finding, Progress, Run
from shared.redis_calls import ROOT
from shared.requests import ChargeRequest, CustomerRequest, PaymentIntentRequest, Request
from shared.settings import STRIPE_API_VERSION, Settings
from shared.stripe_params import new_job
from standin.client import Standin
from tests.shared.till import ACCOUNT, LEASE_MS, Till, emptied
from tests.standin.asking import CHARGE, Asker
from tests.worker.desks import make_desk
from worker.attempt import attempt
from worker.reconcile import Reconcile
from worker.stripe_processor import StripeProcessor

KEY = "sk_test_fake"
PAGE = "/v1/payment_intents"


def charge(payment_method_id: str = "pm_card_visa", amount: str = "50") -> ChargeRequest:
    return ChargeRequest.model_validate({"amount": amount, "payment_method_id": payment_method_id})


def intent(amount: str = "50") -> PaymentIntentRequest:
    return PaymentIntentRequest.model_validate({"amount": amount})


def customer() -> CustomerRequest:
    return CustomerRequest.model_validate({"email": "ann@example.com"})


class Shop:
    """The desk, its Stripe, and who compares them."""

    def __init__(self, till: Till, standin: Standin) -> None:
        self.till, self.standin = till, standin
        self.stripe = StripeProcessor(api_key=KEY, api_base=standin.base_url, api_version=STRIPE_API_VERSION)
        self.desk = make_desk(till, self.stripe)
        self.ask = Asker(standin.base_url)
        self.reconcile = self.another()

    def another(self) -> Reconcile:
        """Another process that may compare."""
        return Reconcile(self.desk, self.stripe, self.till.calls, margin_ms=-2000, pauses=())

    async def close(self) -> None:
        self.ask.close()
        await self.stripe.close()

    def new(self, request: Request | None = None, job_id: str | None = None) -> NewJob:
        made = new_job(request or charge(), job_id=job_id or f"job_{token()}", caller="local", ids=self.desk.ids,
                       settings=Settings(_env_file=None, stripe_secret_key=KEY))
        return dataclasses.replace(made, account=ACCOUNT)

    async def started(self, request: Request | None = None, *, lease_ms: int = LEASE_MS) -> Job:
        return await self.till.started(self.new(request), lease_ms=lease_ms)

    async def done(self, request: Request | None = None) -> Job:
        """A job that the desk has worked to its end."""
        job = await self.started(request)
        await attempt(self.desk, job, has_slot=True)
        return await self.till.job(job.id)

    async def lost(self, request: Request | None = None) -> Job:
        """A job that Stripe did and the desk does not know of: its worker is gone."""
        job = await self.started(request, lease_ms=1)
        await self.stripe.send(job)
        await self.till.lapse(job.id)
        await self.till.feed()
        return await self.till.job(job.id)

    def behind_its_back(self, job_id: str, *, kind: Kind = Kind.CHARGE, desk: str | None = None,
                        **params: str) -> dict[str, Any]:
        """An object with marks at Stripe, made by nobody of the desk."""
        marks = {"metadata[paydesk_job_id]": job_id, "metadata[paydesk_desk]": desk or self.desk.ids.desk(),
                 "metadata[paydesk_kind]": kind}
        return self.ask.post(PAGE, {**CHARGE, "amount": "5000", **marks, **params}, key=KEY).body

    def foreign(self) -> dict[str, Any]:
        return self.ask.post(PAGE, CHARGE, key=KEY).body

    async def lose(self, *jobs: Job) -> None:
        """Lose jobs and all that is known of their money, as a store restored from an older copy has."""
        for job in jobs:
            index = (f"{ROOT}jobs", f"{ROOT}jobs:{job.status}", f"{ROOT}jobs:kind:{job.kind}",
                     f"{ROOT}due:{job.lane}")
            for key in index:
                await self.till.calls.call("ZREM", key, job.id)
            await self.till.calls.call("DEL", f"{ROOT}job:{job.id}", f"{ROOT}payment:{job.stripe_id}")

    async def lose_everything(self) -> None:
        await emptied(self.till.calls)

    async def compared(self, *, fix: bool = False, reconcile: Reconcile | None = None,
                       since_ms: int | None = None) -> tuple[Progress, list[Finding]]:
        """Compare everything."""
        reconcile = reconcile or self.reconcile
        async with reconcile.holding() as held:
            assert held
            progress = await reconcile.run(Run.ASKED, since_ms=0 if since_ms is None else since_ms, fix=fix)
        return progress, await reconcile.state.findings(Run.ASKED)

    async def kinds(self, *, fix: bool = False) -> list[Discrepancy]:
        """What is found, in order of its name."""
        progress, findings = await self.compared(fix=fix)
        assert progress.complete, progress.stopped_by
        return sorted(finding.kind for finding in findings)

    async def books(self) -> tuple[list[tuple[str, str, str]], dict[str, Any]]:
        """The ledger without the numbers of its entries, in order of the objects; and the totals."""
        assert await self.till.ledger.differences() == []
        entries = sorted((entry["object"], entry["cents"], entry["job"]) for entry in await self.till.entries())
        return entries, {book: total.processed_cents for book, total in (await self.till.ledger.totals()).items()}

    async def status(self, job_id: str) -> Status:
        return (await self.till.job(job_id)).status

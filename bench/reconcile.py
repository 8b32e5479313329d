"""How fast the desk compares itself with Stripe, and whether it finds everything that differs and nothing else."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace

import aiohttp

from bench.figure import Figure
from shared.circuit import Circuit
from shared.epoch import Epoch
from shared.ids import Ids, token
from shared.jobs import LOCAL_CALLER, Job, Kind, Lane, Status
from shared.ledger import Ledger
from shared.reconcile_state import Discrepancy, Finding, Run
from shared.redis_calls import ROOT, RedisCalls
from shared.requests import ChargeRequest
from shared.settings import Settings
from shared.store import Answer, Basis, JobStore
from shared.stripe_params import new_job
from standin.client import Standin
from worker.desk import Desk
from worker.loop import work
from worker.main import create_desk
from worker.reconcile import Reconcile
from worker.stripe_processor import StripeProcessor

OBJECTS = 10_000
PLANTED = 200
WINDOW = 50
KEY = "sk_test_bench"
GOAL_SECONDS = 60.0
MARGIN_MS = -5000
"""Everything is compared, also what was made a moment ago: nothing is under way here."""
_CHARGE = ChargeRequest.model_validate({"amount": "50.00", "payment_method_id": "pm_card_visa"})
_FORM = {"amount": "5000", "currency": "usd", "confirm": "true", "payment_method": "pm_card_visa",
         "automatic_payment_methods[enabled]": "true", "automatic_payment_methods[allow_redirects]": "never"}
_KINDS = (Discrepancy.MISSING_HERE, Discrepancy.MISSING_THERE, Discrepancy.AMOUNT, Discrepancy.STATUS,
          Discrepancy.DUPLICATE, Discrepancy.MALFORMED)

Planted = set[tuple[Discrepancy, str]]


def comparing(store_url: str, objects: int, planted: int) -> list[Figure]:
    """A desk's charges, discrepancies of every kind among them: found, invented and mended, at the usual pace."""
    return asyncio.run(_comparing(store_url, objects, planted))


async def _comparing(store_url: str, objects: int, planted: int) -> list[Figure]:
    with Standin.start(memory=True) as stripe:
        settings = Settings.load(stripe_secret_key=KEY, stripe_api_base=stripe.base_url, secret="bench",  # noqa: S106  # a name for this run's ids, no secret
                                 stripe_rate_per_second=10_000)
        calls = RedisCalls.connect(store_url, deadline_seconds=10)
        await Epoch(calls, Ids(settings.instance_secret())).check()
        fast = create_desk(settings, calls, Circuit(calls), worker="bench")
        jobs = await _charged(fast, settings, objects)
        expected = await _plant(fast, settings, calls, stripe.base_url, jobs[:planted])
        paced = create_desk(settings.model_copy(update={"stripe_rate_per_second": 20.0}), calls, Circuit(calls),
                            worker="bench")
        figures = await _compared(paced, calls, objects, expected)
        for desk in (fast, paced):
            if desk.stripe is not None:
                await desk.stripe.close()
        await calls.close()
    return figures


async def _compared(desk: Desk, calls: RedisCalls, objects: int, expected: Planted) -> list[Figure]:
    if not isinstance(desk.stripe, StripeProcessor):
        raise TypeError("the bench's desk has a key")
    comparing_ = Reconcile(desk, desk.stripe, calls, margin_ms=MARGIN_MS)
    seconds, found = await _run(comparing_, fix=False)
    mending_seconds, mended = await _run(comparing_, fix=True)
    named = {(finding.kind, finding.job_id or finding.object_id or "") for finding in found}
    wrong = len(await Ledger(calls).differences())
    safe = {Discrepancy.MISSING_HERE, Discrepancy.STATUS}
    unmended = sum(finding.kind in safe and not finding.fixed for finding in mended)
    return [Figure(f"compare {objects} objects, {len(expected)} discrepancies", seconds, "s", GOAL_SECONDS),
            Figure("discrepancies not found", len(expected - named), "", 0),
            Figure("discrepancies invented", len(named - expected) + len(found) - len(named), "", 0),
            Figure("compare again and mend", mending_seconds, "s", GOAL_SECONDS),
            Figure("safe ones left, and books that do not add up", unmended + wrong, "", 0)]


async def _run(comparing_: Reconcile, *, fix: bool) -> tuple[float, list[Finding]]:
    async with comparing_.holding():
        start = time.perf_counter()
        progress = await comparing_.run(Run.ASKED, since_ms=0, fix=fix)
        if not progress.complete:
            raise RuntimeError(f"stopped: {progress.stopped_by}")
        return time.perf_counter() - start, await comparing_.state.findings(Run.ASKED)


async def _charged(desk: Desk, settings: Settings, count: int) -> list[Job]:
    """Charges that the desk has made."""
    done: list[Job] = []
    while len(done) < count:
        new = [new_job(_CHARGE, job_id=f"job_{token()}", caller=LOCAL_CALLER, ids=desk.ids, settings=settings)
               for _ in range(min(WINDOW, count - len(done)))]
        await asyncio.gather(*(desk.store.accept(each, delay_ms=60_000, deadline_seconds=10) for each in new))
        await work(desk, Lane.INTERACTIVE, [each.id for each in new])
        done += [job for job in await desk.store.read([each.id for each in new]) if job is not None]
    if any(job.status is not Status.SUCCEEDED for job in done):
        raise RuntimeError("the desk did not make its charges")
    return done


async def _plant(desk: Desk, settings: Settings, calls: RedisCalls, base: str, jobs: Sequence[Job]) -> Planted:
    """Make something differ for each of these jobs, in turn of every kind."""
    planted: Planted = set()
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {KEY}"}) as session:
        for number, job in enumerate(jobs):
            kind = _KINDS[number % len(_KINDS)]
            match kind:
                case Discrepancy.MISSING_HERE:
                    await _lose(calls, job)
                case Discrepancy.MISSING_THERE:
                    job = await _unmade(desk.store, settings, desk)  # noqa: PLW2901  # one that was never charged
                case Discrepancy.AMOUNT:
                    await calls.call("HSET", f"{ROOT}job:{job.id}", "amount_cents", "4000")
                case Discrepancy.STATUS:
                    job = await _unheard(desk, settings)  # noqa: PLW2901  # one whose answer was lost
                case Discrepancy.DUPLICATE:
                    await _create(session, base, desk, job.id, Kind.CHARGE)
                case _:
                    job = replace(job, id=f"job_{token()}")  # noqa: PLW2901  # an object of no job
                    await _create(session, base, desk, job.id, Kind.CUSTOMER)
            planted.add((kind, job.id))
    return planted


async def _lose(calls: RedisCalls, job: Job) -> None:
    for index in ("jobs", f"jobs:{job.status}", f"jobs:kind:{job.kind}"):
        await calls.call("ZREM", f"{ROOT}{index}", job.id)
    await calls.call("DEL", f"{ROOT}job:{job.id}")


async def _started(desk: Desk, settings: Settings, lease_ms: int) -> Job:
    new = new_job(_CHARGE, job_id=f"job_{token()}", caller=LOCAL_CALLER, ids=desk.ids, settings=settings)
    await desk.store.accept(new, delay_ms=60_000, deadline_seconds=10)
    [job] = await desk.store.claim([new.id], lease_ms=lease_ms, mode=desk.terms.mode, account=desk.terms.account,
                                   claim_token=token())
    return job


async def _unmade(store: JobStore, settings: Settings, desk: Desk) -> Job:
    job = await _started(desk, settings, 60_000)
    await store.record(Answer(job=job, basis=Basis.FACT, status=Status.SUCCEEDED, book=settings.book,
                              stripe_id=f"pi_{job.id.removeprefix('job_')}", result={}), deadline_seconds=10)
    return job


async def _unheard(desk: Desk, settings: Settings) -> Job:
    job = await _started(desk, settings, 1)
    if desk.stripe is not None:
        await desk.stripe.send(job)
    return job


async def _create(session: aiohttp.ClientSession, base: str, desk: Desk, job_id: str, kind: Kind) -> None:
    form = {**_FORM, "metadata[paydesk_job_id]": job_id, "metadata[paydesk_desk]": desk.ids.desk(),
            "metadata[paydesk_kind]": str(kind)}
    async with session.post(f"{base}/v1/payment_intents", data=form) as answer:
        if answer.status != 200:
            raise RuntimeError(f"{answer.status} from the stand-in")

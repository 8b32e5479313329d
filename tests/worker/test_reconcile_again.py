"""Comparing again: after a crash at any step, where it was stopped, in any order with others, and by itself."""

import asyncio
import itertools
import json
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from shared.epoch import Epoch
from shared.failpoints import FailpointReached, arm
from shared.jobs import Book, Job, Status
from shared.reconcile_state import Discrepancy, Progress, Run
from shared.redis_calls import ROOT
from shared.settings import Settings
from shared.store import BLIND_RESEND_MS
from shared.stripe_params import status_refresh_job
from tests.shared.till import ACCOUNT, succeeded
from tests.worker.desks import lose_stripe
from tests.worker.shop import KEY, Shop, charge, customer, intent
from worker.attempt import attempt
from worker.reconcile import rebuild
from worker.reconcile_rounds import ReconcileRounds

pytestmark = pytest.mark.anyio

STEPS = [*((step, 1) for step in ("hold", "begin", "list", "read", "retrieve", "fix", "note", "jobs", "save")),
         ("read", 5), ("fix", 3), ("save", 2)]
"""Where it stops, and at which pass."""


@pytest.fixture
def rounds(shop: Shop) -> ReconcileRounds:
    """What a worker does by itself."""
    return ReconcileRounds(shop.desk, shop.reconcile, Epoch(shop.till.calls, shop.desk.ids))


async def scene(shop: Shop) -> list[Job]:
    """One of each: in doubt, lost here, lost there, paid unseen, of another amount, twice at Stripe; two in order."""
    jobs = [await shop.lost(), await shop.done(), await shop.started(), await shop.done(intent()),
            await shop.done(), await shop.done(), await shop.done(), await shop.done(charge("pm_card_chargeDeclined"))]
    await shop.lose(jobs[1])
    await shop.till.record(succeeded(jobs[2]))
    shop.standin.pay(jobs[3].stripe_id or "")
    await shop.till.put(jobs[4].id, amount_cents=4000)
    shop.behind_its_back(jobs[5].id)
    return jobs


async def outcome(shop: Shop, jobs: list[Job]) -> list[tuple[Status, bool]]:
    found = [await shop.till.job(job.id) for job in jobs]
    return [(job.status, job.contradicted_by is not None) for job in found]


MENDED = [(Status.SUCCEEDED, False), (Status.SUCCEEDED, False), (Status.SUCCEEDED, True), (Status.SUCCEEDED, False),
          (Status.SUCCEEDED, True), (Status.SUCCEEDED, True), (Status.SUCCEEDED, False), (Status.FAILED, False)]
LEFT = [Discrepancy.AMOUNT, Discrepancy.DUPLICATE, Discrepancy.MISSING_THERE]


async def test_mending_twice_gives_the_same_books(shop: Shop) -> None:
    jobs = await scene(shop)
    kinds = await shop.kinds(fix=True)
    assert kinds == sorted([Discrepancy.AMOUNT, Discrepancy.DUPLICATE, Discrepancy.MISSING_HERE,
                            Discrepancy.MISSING_THERE, Discrepancy.STATUS, Discrepancy.STATUS])
    first = await shop.books()
    assert await outcome(shop, jobs) == MENDED
    assert first[1][Book.TEST] == 8 * 5000
    assert await shop.kinds(fix=True) == LEFT
    assert (await shop.books(), await outcome(shop, jobs)) == (first, MENDED)
    assert len(await shop.till.events("job.contradicted")) == 3


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize(("step", "nth"), STEPS)
async def test_a_crash_at_any_step_and_again_gives_the_same(shop: Shop, step: str, moment: str, nth: int) -> None:
    jobs = await scene(shop)
    arm(f"reconcile.{step}.{moment}=raise@{nth}")
    with pytest.raises(FailpointReached):
        await shop.compared(fix=True)
    arm("")
    await shop.till.calls.call("HSET", f"{ROOT}reconcile", "lease_until_ms", "0")  # time passes; nobody renews it
    await shop.compared(fix=True, reconcile=shop.another())
    assert await outcome(shop, jobs) == MENDED
    assert (await shop.books())[1][Book.TEST] == 8 * 5000
    assert await shop.kinds() == LEFT


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_crash_while_giving_up_and_again_gives_the_same(shop: Shop, moment: str) -> None:
    job = await shop.till.started(shop.new(), lease_ms=1)
    await shop.till.lapse(job.id)
    await shop.till.feed()
    await shop.till.put(job.id, first_sent_ms=await shop.till.now_ms() - BLIND_RESEND_MS - 1000)
    arm(f"reconcile.give_up.{moment}=raise")
    async with shop.reconcile.holding():
        with pytest.raises(FailpointReached):
            await shop.reconcile.give_up()
        await shop.reconcile.give_up()
    assert await shop.status(job.id) is Status.FAILED
    assert (await shop.till.ledger.totals())[Book.TEST].failed == 1


async def test_it_goes_on_where_a_killed_one_stopped(shop: Shop) -> None:
    lost = await shop.lost()
    for _ in range(101):
        shop.foreign()
    arm("reconcile.list.before=raise@2")
    with pytest.raises(FailpointReached):
        await shop.compared(fix=True)
    arm("")
    progress, findings = await shop.compared(fix=True, reconcile=shop.another())
    assert (progress.complete, progress.found[Discrepancy.FOREIGN], progress.compared) == (True, 101, 1)
    assert [(finding.job_id, finding.fixed) for finding in findings] == [(lost.id, True)]
    lists = [each for each in shop.standin.requests() if each["method"] == "GET"]
    assert len(lists) == 3, "no page was asked for twice"


async def test_another_window_or_other_words_begin_anew(shop: Shop) -> None:
    for words, fix in (("24h", False), ("7d", False), ("24h", True)):
        arm("reconcile.save.before=raise")
        async with shop.reconcile.holding():
            with pytest.raises(FailpointReached):
                await shop.reconcile.run(Run.ASKED, since_ms=0, fix=fix, asked=words)
        [state] = (await shop.reconcile.state.look()).runs.values()
        assert (state.asked, state.fix, state.compared) == (words, fix, 0)


# --- in any order with those who record (I8) ---


Actor = Callable[[Shop, Job, str], Coroutine[Any, Any, object]]


async def late_worker(shop: Shop, job: Job, _: str) -> None:
    await attempt(shop.desk, job, has_slot=True)


async def refresh(shop: Shop, job: Job, payment_id: str) -> None:
    window = len(await shop.till.events())
    new = status_refresh_job(shop.desk.ids, payment_intent_id=payment_id, window=window, caller="local",
                             settings=Settings(_env_file=None, stripe_secret_key=KEY))
    await attempt(shop.desk, await shop.till.started(replace(new, account=ACCOUNT)), has_slot=True)


async def compare(shop: Shop, _: Job, __: str) -> None:
    await shop.compared(fix=True)


ACTORS: dict[str, Actor] = {"worker": late_worker, "refresh": refresh, "reconcile": compare}
ORDERS = [*itertools.permutations(ACTORS), *itertools.permutations(["worker", "reconcile", "reconcile", "refresh"], 4)]


@pytest.mark.parametrize("card", ["pm_card_visa", "pm_card_authenticationRequired", "pm_card_chargeDeclined"])
@pytest.mark.parametrize("order", sorted(set(ORDERS)), ids="-".join)
async def test_whoever_records_first_the_books_are_the_same(shop: Shop, order: tuple[str, ...], card: str) -> None:
    job = await shop.started(charge(card), lease_ms=1)
    await shop.stripe.send(job)
    await shop.till.lapse(job.id)
    await shop.till.feed()
    [made] = shop.standin.effects("payment_intent")
    if card == "pm_card_authenticationRequired":
        shop.standin.pay(made["object_id"])
    for actor in order:
        await ACTORS[actor](shop, job, made["object_id"])
    cents = 0 if card == "pm_card_chargeDeclined" else 5000
    entries, totals = await shop.books()
    assert entries == ([(made["object_id"], "5000", job.id)] if cents else [])
    assert totals == {Book.LIVE: 0, Book.TEST: cents, Book.MOCK: 0}
    assert await shop.status(job.id) is (Status.SUCCEEDED if cents else Status.FAILED)
    assert await shop.kinds(fix=True) == []


async def test_a_desk_at_work_is_accused_of_nothing(shop: Shop) -> None:
    """Stripe's answers come while the lists are read: what is recorded in between is no discrepancy."""

    async def working() -> None:
        for _ in range(30):
            await shop.done()

    work = asyncio.create_task(working())
    compared = 0
    while not work.done():
        progress, findings = await shop.compared(reconcile=shop.another())
        assert findings == []
        compared = max(compared, progress.compared)
    await work
    assert compared > 0


# --- by itself, and everything ---


async def aged(shop: Shop, ms: int) -> Progress:
    """The workers' last round, so long ago."""
    raw = json.loads(await shop.till.calls.call("HGET", f"{ROOT}reconcile", f"run:{Run.WORKERS}"))
    raw["at_ms"] -= ms
    await shop.till.calls.call("HSET", f"{ROOT}reconcile", f"run:{Run.WORKERS}", json.dumps(raw))
    return (await shop.reconcile.state.look()).runs[Run.WORKERS]


async def test_workers_compare_everything_new_every_ten_minutes(shop: Shop, rounds: ReconcileRounds) -> None:
    waiting = await shop.done(charge("pm_card_authenticationRequired"))
    first = await rounds.tick()
    assert first is not None
    assert (first.complete, first.compared) == (True, 1)
    shop.standin.pay(waiting.stripe_id or "")
    await aged(shop, 599_000 - 60_000)
    assert await rounds.tick() is None
    await aged(shop, 61_000)
    second = await rounds.tick()
    assert second is not None
    assert (second.fixed, second.since_ms < first.listed_to_ms) == ({Discrepancy.STATUS: 1}, True)
    assert await shop.status(waiting.id) is Status.SUCCEEDED


async def test_a_job_in_doubt_is_looked_for_within_a_minute(shop: Shop, rounds: ReconcileRounds) -> None:
    assert await rounds.tick() is not None
    lost = await shop.lost()
    await aged(shop, 60_000)
    assert await rounds.tick() is None, "its own attempts come first"
    await shop.till.put(lost.id, first_sent_ms=await shop.till.now_ms() - 61_000)
    assert await rounds.tick() is not None
    assert await shop.status(lost.id) is Status.SUCCEEDED


async def test_a_round_ends_what_is_too_old_and_was_never_there(shop: Shop, rounds: ReconcileRounds) -> None:
    job = await shop.till.started(shop.new(), lease_ms=1)
    await shop.till.lapse(job.id)
    await shop.till.feed()
    await shop.till.put(job.id, first_sent_ms=await shop.till.now_ms() - BLIND_RESEND_MS - 1000)
    await rounds.tick()
    assert await shop.status(job.id) is Status.FAILED


async def test_no_round_while_nobody_reaches_stripe_or_another_compares(shop: Shop, rounds: ReconcileRounds) -> None:
    async with shop.another().holding():
        assert await rounds.tick() is None
    await lose_stripe(shop.till, shop.desk)
    assert await rounds.tick() is None
    assert shop.standin.requests() == []


async def test_a_failure_of_a_round_is_said_and_the_next_goes_on(shop: Shop, rounds: ReconcileRounds) -> None:
    lost = await shop.lost()
    arm("reconcile.fix.before=raise")
    assert await rounds.tick() is None
    await aged(shop, 61_000)
    assert await rounds.tick() is not None
    assert await shop.status(lost.id) is Status.SUCCEEDED


async def test_rebuilding_brings_everything_back_and_says_how_much(shop: Shop) -> None:
    jobs = [await shop.done(request) for request in (charge(), intent(), customer())]
    before = await shop.books()
    await shop.lose_everything()
    progress = await rebuild(shop.desk, shop.stripe, shop.till.calls)
    assert (progress.complete, progress.fixed) == (True, {Discrepancy.MISSING_HERE: 3})
    assert await shop.books() == before
    assert [await shop.status(job.id) for job in jobs] == [Status.SUCCEEDED] * 3

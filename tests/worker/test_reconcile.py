"""Comparing with Stripe: each kind of discrepancy is found, none is invented, and what is safe is mended once."""


import pytest

from shared.errors import IdempotencyConflict
from shared.jobs import Book, Kind, Status
from shared.reconcile_state import Discrepancy, LeaseLost, Run
from shared.redis_calls import ROOT
from shared.store import BLIND_RESEND_MS, Recorded
from tests.worker.shop import Shop, charge, customer, intent
from worker.reconcile import _never_reached
from worker.stripe_reader import Stopped

pytestmark = pytest.mark.anyio


# --- found, each kind ---


async def test_a_desk_that_lost_nothing_finds_nothing(shop: Shop) -> None:
    for request in (charge(), charge("pm_card_chargeDeclined"), intent(), customer(),
                    charge("pm_card_authenticationRequired")):
        await shop.done(request)
    progress, findings = await shop.compared()
    assert (findings, progress.complete, progress.left) == ([], True, 0)
    assert progress.compared == 5


async def test_a_foreign_object_is_counted_and_nothing_to_mend(shop: Shop) -> None:
    shop.foreign()
    shop.behind_its_back("job_theirs", desk="another0desk")
    shop.ask.post("/v1/payment_intents", {"amount": "500", "currency": "usd", "metadata[paydesk_job_id]": "job_old"},
                  key="sk_test_fake")
    progress, findings = await shop.compared(fix=True)
    assert findings == []
    assert (progress.found, progress.left) == ({Discrepancy.FOREIGN: 3}, 0)
    assert await shop.till.entries() == []


async def test_an_object_without_a_job_is_missing_here(shop: Shop) -> None:
    job = await shop.done()
    await shop.lose(job)
    _, [finding] = await shop.compared()
    assert (finding.kind, finding.job_id, finding.object_id) == (Discrepancy.MISSING_HERE, job.id, job.stripe_id)
    assert (finding.here, finding.there, finding.fixed) == ("nothing, booked 50.00",
                                                            "succeeded 50.00, received 50.00", False)


async def test_a_job_whose_object_stripe_does_not_have_is_missing_there(shop: Shop) -> None:
    for request in (charge(), customer(), charge("pm_card_authenticationRequired")):
        await shop.done(request)
    shop.standin.reset()
    progress, findings = await shop.compared(fix=True)
    assert [finding.kind for finding in findings] == [Discrepancy.MISSING_THERE] * 3
    assert {finding.noted for finding in findings} == {True}
    assert progress.left == 3


async def test_another_amount_is_found_and_noted_and_never_mended(shop: Shop) -> None:
    job = await shop.done()
    await shop.till.put(job.id, amount_cents=4000)
    before = await shop.books()
    _, [finding] = await shop.compared(fix=True)
    assert (finding.kind, finding.fixed, finding.noted) == (Discrepancy.AMOUNT, False, True)
    assert (finding.here, finding.there) == ("succeeded 40.00, booked 50.00", "succeeded 50.00, received 50.00")
    assert (await shop.till.job(job.id)).contradicted_by == job.stripe_id
    assert await shop.books() == before


async def test_a_charge_that_its_worker_never_heard_of_is_recorded_as_if_it_had(shop: Shop) -> None:
    lost = [await shop.lost(request) for request in (charge(), intent(), customer(), charge("pm_card_chargeDeclined"),
                                                     charge("pm_card_authenticationRequired"))]
    assert {job.status for job in lost} == {Status.UNKNOWN}
    assert await shop.kinds() == [Discrepancy.STATUS] * 5
    assert {job.status for job in [await shop.till.job(job.id) for job in lost]} == {Status.UNKNOWN}
    progress, findings = await shop.compared(fix=True)
    assert ([finding.fixed for finding in findings], progress.left) == ([True] * 5, 0)
    statuses = [await shop.status(job.id) for job in lost]
    assert statuses == [Status.SUCCEEDED, Status.SUCCEEDED, Status.SUCCEEDED, Status.FAILED, Status.PENDING]
    declined = await shop.till.job(lost[3].id)
    assert declined.error is not None
    assert declined.error["code"] == "card_declined"
    assert (await shop.books())[1][Book.TEST] == 5000
    assert await shop.kinds() == []


async def test_money_that_nobody_told_the_desk_of_is_booked(shop: Shop) -> None:
    made = await shop.done(intent())
    waiting = await shop.done(charge("pm_card_authenticationRequired"))
    for job in (made, waiting):
        shop.standin.pay(job.stripe_id or "")
    assert await shop.kinds(fix=True) == [Discrepancy.STATUS] * 2
    assert (await shop.books())[1][Book.TEST] == 10_000
    assert await shop.status(waiting.id) is Status.SUCCEEDED
    assert await shop.kinds() == []


async def test_a_charge_that_failed_here_and_succeeded_there_is_booked_and_contradicted(shop: Shop) -> None:
    job = await shop.done(charge("pm_card_chargeDeclined"))
    shop.standin.pay(job.stripe_id or "")
    assert await shop.kinds(fix=True) == [Discrepancy.STATUS]
    after = await shop.till.job(job.id)
    assert (after.status, after.contradicted_by) == (Status.FAILED, job.stripe_id)
    assert (await shop.books())[1][Book.TEST] == 5000
    assert await shop.kinds() == []


async def test_a_second_object_of_a_job_is_a_duplicate_whose_money_is_booked_once(shop: Shop) -> None:
    job = await shop.done()
    other = shop.behind_its_back(job.id)
    [finding] = (await shop.compared())[1]
    assert (finding.kind, finding.object_id) == (Discrepancy.DUPLICATE, other["id"])
    for _ in range(2):
        [finding] = (await shop.compared(fix=True))[1]
        assert (finding.kind, finding.fixed, finding.noted) == (Discrepancy.DUPLICATE, False, True)
        assert (await shop.books())[1][Book.TEST] == 10_000
    assert (await shop.till.job(job.id)).stripe_id == job.stripe_id
    assert len(await shop.till.events("job.contradicted")) == 1


@pytest.mark.parametrize("fix", [False, True])
async def test_two_objects_of_a_job_in_doubt_are_one_to_record_and_one_duplicate(shop: Shop, fix: bool) -> None:
    job = await shop.lost()
    shop.behind_its_back(job.id)
    assert await shop.kinds(fix=fix) == [Discrepancy.DUPLICATE, Discrepancy.STATUS]


async def test_an_object_that_lacks_what_it_must_have_is_told(shop: Shop) -> None:
    shop.behind_its_back("Job 1")
    shop.behind_its_back("job_b", kind=Kind.CUSTOMER)
    progress, findings = await shop.compared(fix=True)
    assert [(finding.kind, finding.there) for finding in findings] == [
        (Discrepancy.MALFORMED, "no usable job id"), (Discrepancy.MALFORMED, "another kind than its own")]
    assert (progress.complete, progress.left) == (True, 2)
    assert await shop.till.entries() == []


# --- none invented ---


async def test_what_a_worker_has_right_now_is_left_for_the_next_time(shop: Shop) -> None:
    job = await shop.started()
    await shop.stripe.send(job)
    progress, findings = await shop.compared(fix=True)
    assert (findings, progress.in_motion, progress.complete) == ([], 1, True)
    assert progress.listed_to_ms < progress.until_ms
    assert await shop.status(job.id) is Status.RUNNING


async def test_objects_younger_than_the_margin_are_left_for_the_next_time(shop: Shop) -> None:
    await shop.lost()
    shop.reconcile._margin_ms = 60_000
    progress, findings = await shop.compared()
    assert (findings, progress.compared) == ([], 0)


async def test_an_object_made_after_the_window_is_missed_by_nobody(shop: Shop) -> None:
    shop.standin.advance(3600)
    await shop.done()
    assert await shop.kinds() == []


async def test_a_job_of_another_account_is_not_looked_for_here(shop: Shop) -> None:
    job = await shop.done()
    await shop.till.put(job.id, account="acct_other")
    shop.standin.reset()
    assert await shop.kinds() == []


# --- after a loss ---


async def test_after_a_total_loss_jobs_payments_and_books_are_made_again(shop: Shop) -> None:
    made = [await shop.done(request) for request in (charge(), charge("pm_card_chargeDeclined"), intent(), customer(),
                                                     charge("pm_card_authenticationRequired"))]
    before = await shop.books()
    await shop.lose_everything()
    progress, findings = await shop.compared(fix=True)
    assert [finding.kind for finding in findings] == [Discrepancy.MISSING_HERE] * 5
    assert (progress.left, await shop.books()) == (0, before)
    for job in made:
        stub = await shop.till.job(job.id)
        assert (stub.status, stub.kind, stub.amount_cents, stub.stripe_id, stub.mode, stub.account, stub.caller) == (
            job.status, job.kind, job.amount_cents, job.stripe_id, job.mode, job.account, "")
        assert stub.result == {**job.result, "client_secret": stub.result["client_secret"]} if (
            job.result and stub.result and "client_secret" in stub.result) else stub.result == job.result
        assert await shop.till.index_of([job.id]) == {job.id: [job.status]}
    assert await shop.kinds(fix=True) == []
    assert await shop.books() == before
    waiting = await shop.till.job(made[4].id)
    assert await shop.till.due_ms(waiting.id) is not None


async def test_a_resubmission_after_the_loss_finds_its_charge_and_another_is_refused(shop: Shop) -> None:
    first = shop.new(charge(), job_id="job_keyed")
    await shop.till.accept(first)
    await shop.till.claimed("job_keyed")
    await shop.stripe.send(await shop.till.job("job_keyed"))
    await shop.lose_everything()
    assert await shop.kinds(fix=True) == [Discrepancy.MISSING_HERE]
    with pytest.raises(IdempotencyConflict):
        await shop.till.accept(shop.new(charge(amount="51"), job_id="job_keyed"))
    with pytest.raises(IdempotencyConflict):
        await shop.till.accept(shop.new(intent(), job_id="job_keyed"))
    for _ in range(2):
        again = await shop.till.accept(first)
        assert (again.replayed, again.job.status, again.job.caller) == (True, Status.SUCCEEDED, "local")
        assert again.job.request == first.request
    with pytest.raises(IdempotencyConflict):
        await shop.till.accept(shop.new(charge("pm_card_mastercard"), job_id="job_keyed"))
    assert len(shop.standin.effects("charge")) == 1


# --- in doubt for too long ---


async def too_old(shop: Shop, *, at_stripe: bool) -> str:
    job = await (shop.lost() if at_stripe else shop.till.started(shop.new(), lease_ms=1))
    if not at_stripe:
        await shop.till.lapse(job.id)
        await shop.till.feed()
    sent_ms = (await shop.till.now_ms()) - BLIND_RESEND_MS - 1000
    await shop.till.put(job.id, first_sent_ms=sent_ms)
    return job.id


async def given_up(shop: Shop) -> int:
    async with shop.reconcile.holding():
        return await shop.reconcile.give_up()


async def test_a_whole_list_without_it_ends_a_job_that_is_too_old(shop: Shop) -> None:
    job_id = await too_old(shop, at_stripe=False)
    shop.foreign()
    assert await given_up(shop) == 1
    job = await shop.till.job(job_id)
    assert job.error is not None
    assert (job.status, job.error["code"], job.book) == (Status.FAILED, "never_reached_stripe", Book.TEST)
    assert (await shop.till.ledger.totals())[Book.TEST].failed == 1
    assert await shop.till.due_ms(job_id) is None
    assert await given_up(shop) == 0


async def test_what_is_listed_is_recorded_and_not_given_up(shop: Shop) -> None:
    job_id = await too_old(shop, at_stripe=True)
    assert await given_up(shop) == 0
    assert await shop.status(job_id) is Status.SUCCEEDED
    assert (await shop.books())[1][Book.TEST] == 5000


async def test_a_list_that_cannot_be_had_proves_nothing(shop: Shop) -> None:
    job_id = await too_old(shop, at_stripe=False)
    shop.standin.fault("status:503", method="GET", times=99)
    with pytest.raises(Stopped):
        await given_up(shop)
    assert await shop.status(job_id) is Status.UNKNOWN


@pytest.mark.parametrize("changes", [{"first_sent_ms": "young"}, {"lease_until_ms": "live"}, {"fence": "7"},
                                     {"status": "retrying"}])
async def test_absence_needs_the_job_as_it_stood_before_the_list(shop: Shop, changes: dict[str, str]) -> None:
    job_id = await too_old(shop, at_stripe=False)
    job = await shop.till.job(job_id)
    now_ms = await shop.till.now_ms()
    values = {"young": str(now_ms - BLIND_RESEND_MS + 60_000), "live": str(now_ms + 60_000)}
    await shop.till.put(job_id, **{name: values.get(value, value) for name, value in changes.items()})
    assert await shop.till.record(_never_reached(job)) is Recorded.FENCED
    assert await shop.status(job_id) is not Status.FAILED


async def test_a_charge_that_comes_to_light_after_it_was_given_up_is_booked_and_contradicts(shop: Shop) -> None:
    job_id = await too_old(shop, at_stripe=False)
    assert await given_up(shop) == 1
    shop.behind_its_back(job_id)
    assert await shop.kinds(fix=True) == [Discrepancy.STATUS]
    job = await shop.till.job(job_id)
    assert job.contradicted_by is not None
    assert (await shop.books())[1][Book.TEST] == 5000


# --- the state ---


async def test_one_process_compares_at_a_time_and_a_silent_one_is_taken_over(shop: Shop) -> None:
    other = shop.another()
    async with shop.reconcile.holding() as held, other.holding() as also:
        assert (held, also) == (True, False)
    async with other.holding() as held:
        assert held
        await shop.till.calls.call("HSET", f"{ROOT}reconcile", "lease_until_ms", await shop.till.now_ms())
        async with shop.reconcile.holding() as taken:
            assert taken


async def test_who_lost_the_lease_writes_nothing_more(shop: Shop) -> None:
    await shop.lost()
    async with shop.reconcile.holding():
        await shop.till.calls.call("HSET", f"{ROOT}reconcile", "holder", "another")
        with pytest.raises(LeaseLost):
            await shop.reconcile.run(Run.ASKED, since_ms=0, fix=True)


async def test_when_stripe_does_not_answer_it_says_so_and_goes_on_there_later(shop: Shop) -> None:
    for _ in range(3):
        await shop.lost()
    shop.standin.fault("status:503", method="GET", path_end="customers", times=1)
    progress, _ = await shop.compared()
    assert (progress.complete, progress.compared, progress.phase) == (False, 3, "customers")
    assert progress.stopped_by != ""
    progress, findings = await shop.compared()
    assert (progress.complete, progress.compared, len(findings)) == (True, 3, 3)

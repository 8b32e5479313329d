"""record: facts once from anyone, guesses by the live lease, money with its totals in the same step."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from redis.exceptions import ResponseError

from shared.jobs import Book, Certainty, Job, Mode, Status
from shared.redis_calls import ROOT
from shared.store import SECRET_SECONDS, Answer, Recorded
from tests.shared.till import Till, declined, mocked, new, refused, succeeded, waiting

pytestmark = pytest.mark.anyio

Attempt = Callable[[Till], Awaitable[Job]]
Make = Callable[[Job], Answer]


async def stale(till: Till) -> Job:
    """An attempt whose lease is over and whose job another worker has now."""
    await till.accept(new())
    late = await till.crash()
    await till.claimed()
    return late


async def no_longer_leased(till: Till) -> Job:
    """An attempt whose lease has ended, which nobody has noticed yet."""
    late = await till.started(lease_ms=1)
    await till.lapse()
    return late


async def test_a_fact_ends_the_job_books_its_money_and_tells_it_in_one_step(till: Till) -> None:
    job = await till.started()
    assert await till.record(succeeded(job)) is Recorded.RECORDED
    done = await till.job()
    assert (done.status, done.certainty, done.book, done.stripe_id) == (
        Status.SUCCEEDED, Certainty.SETTLED, Book.TEST, "pi_a")
    assert done.finished_ms == done.updated_ms
    assert await till.due_ms() is None
    [entry] = await till.entries()
    assert entry == {"object": "pi_a", "kind": "captured", "cents": "5000", "currency": "usd", "book": "test",
                     "account": "acct_1", "payment": "pi_a", "job": "job_a"}
    totals = (await till.ledger.totals())[Book.TEST]
    assert (totals.processed_cents, totals.succeeded, totals.failed) == (5000, 1, 0)
    assert (await till.calls.call("HGET", f"{ROOT}payment:pi_a", "status")) == "succeeded"
    told = [event["event"] for event in await till.events()]
    assert told == ["job.queued", "job.running", "payment.succeeded", "ledger.captured", "job.succeeded"]


async def test_what_an_entry_changed_is_told_with_the_new_total(till: Till) -> None:
    for job_id in ("job_a", "job_b"):
        await till.record(succeeded(await till.started(new(job_id))))
    lines = await till.events("ledger.captured")
    assert [line["total_cents"] for line in lines] == ["5000", "10000"]
    numbers = [number async for number, _ in till.ledger.entries()]
    assert [line["ledger_entry"] for line in lines] == numbers
    assert await till.calls.call("HGET", f"{ROOT}totals:test", "last_entry") == numbers[-1]


@pytest.mark.parametrize("attempt", [stale, no_longer_leased])
@pytest.mark.parametrize("answer", [succeeded, declined, waiting])
async def test_a_fact_is_recorded_whoever_brings_it(till: Till, attempt: Attempt, answer: Make) -> None:
    late = await attempt(till)
    assert await till.record(answer(late)) is Recorded.RECORDED
    assert (await till.job()).stripe_id == "pi_a"


async def test_a_fact_leads_out_of_parked(till: Till) -> None:
    job = await till.started()
    await till.release(job, park=True)
    assert await till.record(succeeded(job)) is Recorded.RECORDED


@pytest.mark.parametrize("answer", [succeeded, declined])
async def test_the_same_fact_again_changes_nothing(till: Till, answer: Make) -> None:
    job = await till.started()
    await till.record(answer(job))
    before, told, totals = await till.job(), await till.events(), await till.ledger.totals()
    assert await till.record(answer(job)) is Recorded.ALREADY
    assert (await till.job(), await till.events(), await till.ledger.totals()) == (before, told, totals)


async def test_fifty_reports_of_one_fact_at_once_book_it_once(till: Till) -> None:
    job = await till.started()
    verdicts = await asyncio.gather(*(till.record(succeeded(job)) for _ in range(50)))
    assert sorted(verdicts) == [Recorded.ALREADY] * 49 + [Recorded.RECORDED]
    assert len(await till.entries()) == 1
    assert (await till.ledger.totals())[Book.TEST].processed_cents == 5000


async def test_an_older_view_of_the_same_object_contradicts_nothing(till: Till) -> None:
    job = await till.started()
    await till.record(succeeded(job))
    before = await till.job()
    assert await till.record(waiting(job)) is Recorded.ALREADY
    assert await till.job() == before
    assert await till.calls.call("HGET", f"{ROOT}payment:pi_a", "status") == "succeeded"


async def test_a_fact_that_contradicts_the_end_is_booked_noted_and_told_and_the_end_stays(till: Till) -> None:
    job = await till.started()
    await till.record(declined(job))
    before = await till.job()
    assert await till.record(succeeded(job)) is Recorded.CONTRADICTED
    after = await till.job()
    assert (after.status, after.result, after.error) == (before.status, before.result, before.error)
    assert after.contradicted_by == "pi_a"
    assert [entry["object"] for entry in await till.entries()] == ["pi_a"]
    [told] = await till.events("job.contradicted")
    assert (told["job_id"], told["status"], told["payment_intent_id"]) == ("job_a", "failed", "pi_a")


async def test_stripes_money_for_a_job_that_the_mock_answered_is_booked_apart(till: Till) -> None:
    job = await till.started()
    await till.open_circuit()
    await till.record(mocked(job))
    assert await till.record(succeeded(job)) is Recorded.CONTRADICTED
    assert (await till.job()).book is Book.MOCK
    totals = await till.ledger.totals()
    assert (totals[Book.MOCK].processed_cents, totals[Book.TEST].processed_cents) == (5000, 5000)


async def test_money_for_a_job_that_the_store_does_not_know_is_booked(till: Till) -> None:
    job = await till.started()
    await till.calls.call("DEL", f"{ROOT}job:job_a")
    assert await till.record(succeeded(job)) is Recorded.MISSING
    assert len(await till.entries()) == 1
    assert await till.record(refused(job)) is Recorded.MISSING


@pytest.mark.parametrize("attempt", [stale, no_longer_leased])
@pytest.mark.parametrize("answer", [mocked, refused])
async def test_a_guess_without_its_live_lease_changes_nothing(till: Till, attempt: Attempt, answer: Make) -> None:
    late = await attempt(till)
    await till.open_circuit()
    before = await till.job()
    assert await till.record(answer(late)) is Recorded.FENCED
    assert await till.job() == before
    assert await till.entries() == []


async def test_the_mock_answers_with_an_open_circuit_and_no_other_doubt(till: Till) -> None:
    job = await till.started()
    await till.open_circuit()
    assert await till.record(mocked(job)) is Recorded.RECORDED
    done = await till.job()
    assert (done.status, done.book, done.doubts, done.mock_mode) == (Status.SUCCEEDED, Book.MOCK, 0, True)
    assert (await till.ledger.totals())[Book.TEST].processed_cents == 0


async def test_the_mock_never_answers_while_another_attempt_is_in_doubt(till: Till) -> None:
    await till.accept(new())
    await till.crash()
    job = await till.claimed()
    await till.open_circuit()
    assert await till.record(mocked(job)) is Recorded.IN_DOUBT
    assert (await till.job()).status is Status.RUNNING
    assert await till.entries() == []


async def test_the_mock_never_answers_while_stripe_is_within_anybodys_reach(till: Till) -> None:
    job = await till.started()
    assert await till.record(mocked(job)) is Recorded.REACHABLE
    await till.open_circuit()
    await till.circuit.beat("w2", threads=1)
    assert await till.record(mocked(job)) is Recorded.REACHABLE
    assert await till.entries() == []


async def test_without_a_key_the_mock_needs_no_circuit(till: Till) -> None:
    await till.accept(new(mode=Mode.NONE))
    [job] = await till.claim("job_a", mode=Mode.NONE, account="")
    assert await till.record(mocked(job)) is Recorded.RECORDED


async def test_a_refusal_of_the_request_is_final_also_in_doubt(till: Till) -> None:
    await till.accept(new())
    await till.crash()
    assert await till.record(refused(await till.claimed())) is Recorded.RECORDED
    assert ((await till.job()).status, (await till.ledger.totals())[Book.TEST].failed) == (Status.FAILED, 1)


async def test_a_refusal_of_the_key_ends_only_a_job_without_doubt(till: Till) -> None:
    await till.accept(new())
    await till.crash()
    job = await till.claimed()
    assert await till.record(refused(job, only_without_doubt=True)) is Recorded.IN_DOUBT
    assert (await till.job()).status is Status.RUNNING
    clean = await till.started(new("job_b"))
    assert await till.record(refused(clean, only_without_doubt=True)) is Recorded.RECORDED


@pytest.mark.parametrize("answer", [succeeded, declined, waiting, refused])
async def test_whatever_stripe_said_closes_the_circuit(till: Till, answer: Make) -> None:
    job = await till.started()
    await till.open_circuit()
    await till.pass_ms(await till.now_ms())
    await till.record(answer(job))
    assert not (await till.circuit.look()).open


async def test_what_the_mock_said_does_not_close_it(till: Till) -> None:
    job = await till.started()
    await till.open_circuit()
    await till.record(mocked(job))
    assert (await till.circuit.look()).open


async def test_a_pending_job_is_looked_at_after_its_time(till: Till) -> None:
    before = await till.now_ms()
    await till.record(waiting(await till.started(), look_ms=60_000))
    job = await till.job()
    assert (job.status, job.certainty, job.finished_ms) == (Status.PENDING, Certainty.SETTLED, None)
    assert job.next_ms is not None
    assert job.next_ms >= before + 60_000
    assert await till.due_ms() == job.next_ms


async def test_a_payment_only_moves_forward(till: Till) -> None:
    job = await till.started()
    await till.record(waiting(job))
    await till.record(succeeded(job))
    told = [event["event"] for event in await till.events() if event["event"].startswith("payment.")]
    assert told == ["payment.requires_action", "payment.succeeded"]
    await till.record(waiting(job))  # seen before, and told after
    assert await till.calls.call("HGET", f"{ROOT}payment:pi_a", "status") == "succeeded"


async def test_the_client_secret_has_a_key_of_its_own_with_an_end(till: Till) -> None:
    await till.record(waiting(await till.started(), client_secret="pi_a_secret_x"))
    job = await till.job()
    assert job.result is not None
    assert job.result["client_secret"] == "pi_a_secret_x"
    assert SECRET_SECONDS - 60 < await till.calls.call("TTL", f"{ROOT}secret:job_a") <= SECRET_SECONDS
    assert "secret_x" not in str(await till.calls.call("HGETALL", f"{ROOT}job:job_a"))
    assert "secret_x" not in str(await till.events())
    await till.calls.call("DEL", f"{ROOT}secret:job_a")
    kept = (await till.job()).result
    assert kept is not None
    assert kept["client_secret"] is None


async def test_a_follow_up_job_is_made_once_and_is_due_after_its_delay(till: Till) -> None:
    job = await till.started()
    answer = succeeded(job, follow_up=new("job_next", mode=Mode.NONE, pays="job_a"), follow_up_ms=2000)
    await till.record(answer)
    made = await till.job("job_next")
    assert (made.status, made.pays) == (Status.QUEUED, "job_a")
    assert await till.due_ms("job_next") == made.created_ms + 2000
    assert await till.record(answer) is Recorded.ALREADY
    assert await till.job("job_next") == made


async def test_a_follow_up_never_overwrites_a_job(till: Till) -> None:
    before = await till.started(new("job_next"))
    await till.record(succeeded(await till.started(), follow_up=new("job_next", mode=Mode.NONE)))
    assert await till.job("job_next") == before


async def test_the_waiters_are_told_when_nobody_will_move_the_job_soon(till: Till) -> None:
    async with till.calls.redis.pubsub() as listening:
        await listening.subscribe(f"{ROOT}changed")
        for job_id, answer in (("job_a", succeeded), ("job_b", waiting), ("job_c", declined)):
            await till.record(answer(await till.started(new(job_id))))
        await till.release(await till.started(new("job_d")), park=True)
        await till.release(await till.started(new("job_e")))
        await till.calls.call("PUBLISH", f"{ROOT}changed", "end")
        heard: list[str] = []
        while "end" not in heard:
            message = await listening.get_message(ignore_subscribe_messages=True, timeout=20)
            heard += [message["data"]] if message else []
    assert heard == ["job_a", "job_b", "job_c", "job_d", "end"]


async def test_no_error_of_an_earlier_attempt_stays_on_a_job_that_succeeded(till: Till) -> None:
    await till.release(await till.started())
    assert (await till.job()).error is not None
    await till.record(succeeded(await till.claimed()))
    assert (await till.job()).error is None


async def test_no_result_and_no_secret_of_a_pending_job_stays_on_one_that_failed(till: Till) -> None:
    job = await till.started()
    await till.record(waiting(job, client_secret="pi_a_secret_x"))
    await till.record(declined(job))
    assert (await till.job()).result is None
    assert await till.calls.call("EXISTS", f"{ROOT}secret:job_a") == 0


async def test_a_job_that_succeeds_without_a_secret_keeps_none_of_when_it_was_pending(till: Till) -> None:
    job = await till.started()
    await till.record(waiting(job, client_secret="pi_a_secret_x"))
    await till.record(succeeded(job))
    assert await till.calls.call("EXISTS", f"{ROOT}secret:job_a") == 0


async def test_cents_that_are_no_number_leave_nothing_in_the_books(till: Till) -> None:
    job = await till.started()
    [entry] = succeeded(job).entries
    with pytest.raises(ResponseError):
        await till.record(succeeded(job, entries=[{**entry, "cents": str(10**20)}]))
    assert (await till.entries(), await till.ledger.differences()) == ([], [])
    assert await till.record(succeeded(job)) is Recorded.RECORDED
    assert len(await till.entries()) == 1

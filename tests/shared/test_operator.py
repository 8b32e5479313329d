"""Operator: an unknown or parked job asked again or ended by a human, once, audited, and never against the facts."""

import asyncio
from typing import Any

import pytest

from shared.errors import JobNotFound, StateConflict, StoreUnavailable, TooOldToResend
from shared.jobs import Book, Job, Kind, Mode, Status
from shared.operator import AUDIT_STREAM, WHO_MOST, WHY_MOST, Operator, Signed
from shared.redis_calls import ROOT, RedisCalls
from shared.store import BLIND_RESEND_MS, Recorded
from shared.verify import differences
from tests.shared.till import ACCOUNT, Till, mocked, new, succeeded, waiting

pytestmark = pytest.mark.anyio

ANN = Signed("ann", "the proxy is mended")
LATER_MS = 3_600_000


@pytest.fixture
def operator(calls: RedisCalls) -> Operator:
    return Operator(calls)


async def unknown(till: Till, *, delay_ms: int = LATER_MS) -> Job:
    await till.release(await till.started(), delay_ms=delay_ms)
    return await till.job()


async def parked(till: Till, *, in_doubt: bool = True, kind: Kind = Kind.CHARGE) -> Job:
    await till.release(await till.started(new(kind=kind)), park=True, unsent=not in_doubt)
    job = await till.job()
    assert (job.status, bool(job.doubts)) == (Status.PARKED, in_doubt)
    return job


async def audit(till: Till) -> list[dict[str, str]]:
    return [fields for _, fields in await till.calls.call("XRANGE", AUDIT_STREAM, "-", "+")]


async def test_an_unknown_job_asked_again_is_due_now_under_the_same_claim_rules(till: Till, operator: Operator) -> None:
    before = await unknown(till)
    assert await till.feed() == []
    assert await operator.ask_again("job_a", ANN) is Status.UNKNOWN
    assert await till.feed() == ["job_a"]
    job = await till.claimed()
    assert (job.attempts, job.doubts, job.first_sent_ms) == (2, 2, before.first_sent_ms)


async def test_asked_twice_it_is_audited_once(till: Till, operator: Operator) -> None:
    await unknown(till)
    await operator.ask_again("job_a", ANN)
    assert await operator.ask_again("job_a", Signed("bob", "me too")) is Status.UNKNOWN
    await till.claimed()
    assert await operator.ask_again("job_a", ANN) is Status.RUNNING
    assert [entry["who"] for entry in await audit(till)] == ["ann"]
    assert len(await till.events("job.asked_again")) == 1


async def test_what_was_sent_over_12_hours_ago_is_not_sent_again(till: Till, operator: Operator) -> None:
    await unknown(till)
    for age_ms, refused in ((BLIND_RESEND_MS - 60_000, False), (BLIND_RESEND_MS + 1, True)):
        await till.put("job_a", first_sent_ms=await till.now_ms() - age_ms)
        if refused:
            with pytest.raises(TooOldToResend, match="charge twice"):
                await operator.ask_again("job_a", ANN)
        else:
            await operator.ask_again("job_a", ANN)
    assert len(await audit(till)) == 1


@pytest.mark.parametrize(("in_doubt", "status"), [(True, Status.UNKNOWN), (False, Status.RETRYING)])
async def test_a_parked_job_goes_on_as_its_doubt_says(till: Till, operator: Operator, in_doubt: bool,
                                                      status: Status) -> None:
    await parked(till, in_doubt=in_doubt)
    await till.put("job_a", crashes=6)
    assert await operator.ask_again("job_a", ANN) is status
    job = await till.job()
    assert (job.status, job.crashes, job.doubts) == (status, 0, int(in_doubt))
    assert await till.index_of(["job_a"]) == {"job_a": [status]}
    assert await till.feed() == ["job_a"]
    assert [job.id for job in await till.claim("job_a", alone=False)] == ["job_a"]
    assert await differences(till.calls) == []


@pytest.mark.parametrize("book", [Book.TEST, Book.MOCK])
async def test_a_parked_job_whose_object_is_known_is_looked_at_and_never_sent_again(till: Till, operator: Operator,
                                                                                    book: Book) -> None:
    if book is Book.MOCK:
        await till.accept(new(mode=Mode.NONE))
        [job] = await till.claim("job_a", mode=Mode.NONE, account="")
        await till.record(mocked(job, status=Status.PENDING, entries=()))
        mode, account = Mode.NONE, ""
    else:
        await till.record(waiting(await till.started()))
        mode, account = Mode.TEST, ACCOUNT
    await till.put("job_a", next_ms=0)
    [look] = await till.claim("job_a", mode=mode, account=account)
    assert await till.release(look, park=True) is Status.PARKED
    doubts = (await till.job()).doubts
    assert await operator.ask_again("job_a", ANN) is Status.PENDING
    [again] = await till.claim("job_a", mode=mode, account=account)
    assert (again.status, again.doubts, again.error, again.book) == (Status.PENDING, doubts, None, book)


async def test_a_parked_job_first_sent_long_ago_waits_for_the_list_and_is_not_sent(till: Till, operator: Operator,
                                                                                    ) -> None:
    await parked(till)
    await till.put("job_a", first_sent_ms=await till.now_ms() - BLIND_RESEND_MS - 1)
    assert await operator.ask_again("job_a", ANN) is Status.UNKNOWN
    assert await till.claim("job_a") == []
    assert (await till.job()).status is Status.UNKNOWN


async def test_a_parked_job_without_a_doubt_ends_as_failed(till: Till, operator: Operator) -> None:
    await parked(till, in_doubt=False)
    assert await operator.resolve_as_failed("job_a", ANN) is Status.FAILED
    job = await till.job()
    assert (job.status, job.book, job.finished_ms) == (Status.FAILED, Book.TEST, job.updated_ms)
    assert job.error == {"code": "resolved_as_failed", "retryable": False, "message":
                         "Whoever runs the desk looked into this job and ended it as failed."}
    assert (await till.ledger.totals())[Book.TEST].failed == 1
    assert await till.index_of(["job_a"]) == {"job_a": [Status.FAILED]}
    assert await till.due_ms() is None
    assert await differences(till.calls) == []


async def test_one_in_doubt_only_by_who_looked_at_stripe(till: Till, operator: Operator) -> None:
    before = await parked(till)
    with pytest.raises(StateConflict, match=r"Look at Stripe first, .* paydesk_job_id = job_a"):
        await operator.resolve_as_failed("job_a", ANN)
    assert await till.job() == before
    assert await audit(till) == []
    assert await operator.resolve_as_failed("job_a", ANN, confirmed_at_stripe=True) is Status.FAILED


async def test_resolving_twice_conflicts_and_counts_once(till: Till, operator: Operator) -> None:
    await parked(till, in_doubt=False)
    await operator.resolve_as_failed("job_a", ANN)
    with pytest.raises(StateConflict, match="failed"):
        await operator.resolve_as_failed("job_a", ANN)
    assert (await till.ledger.totals())[Book.TEST].failed == 1
    assert len(await audit(till)) == 1


async def test_money_that_moved_after_all_is_booked_and_noted_on_the_failed_job(till: Till, operator: Operator) -> None:
    late = await till.started()
    await till.release(late, park=True)
    await operator.resolve_as_failed("job_a", ANN, confirmed_at_stripe=True)
    assert await till.record(succeeded(late)) is Recorded.CONTRADICTED
    job = await till.job()
    assert (job.status, job.contradicted_by) == (Status.FAILED, "pi_a")
    assert [entry["cents"] for entry in await till.entries()] == ["5000"]
    assert len(await till.events("job.contradicted")) == 1
    assert await differences(till.calls) == []


async def test_a_fact_still_ends_a_parked_job_before_any_human(till: Till, operator: Operator) -> None:
    late = await till.started()
    await till.release(late, park=True)
    assert await till.record(succeeded(late)) is Recorded.RECORDED
    with pytest.raises(StateConflict, match="succeeded"):
        await operator.resolve_as_failed("job_a", ANN, confirmed_at_stripe=True)


async def stand(till: Till, status: Status) -> None:
    """Bring job_a to a status."""
    match status:
        case Status.QUEUED:
            await till.accept(new())
        case Status.RUNNING:
            await till.started()
        case Status.RETRYING:
            await till.release(await till.started(), unsent=True)
        case Status.UNKNOWN:
            await unknown(till)
        case Status.PENDING:
            await till.record(waiting(await till.started()))
        case Status.SUCCEEDED:
            await till.record(succeeded(await till.started()))


@pytest.mark.parametrize("status", [Status.QUEUED, Status.RUNNING, Status.RETRYING, Status.UNKNOWN, Status.PENDING,
                                    Status.SUCCEEDED])
async def test_whatever_stands_otherwise_is_left_as_it_is(till: Till, operator: Operator, status: Status) -> None:
    await stand(till, status)
    before, events = await till.job(), await till.events()
    assert before.status is status
    with pytest.raises(StateConflict, match=f"The job is {status} "):
        await operator.resolve_as_failed("job_a", ANN, confirmed_at_stripe=True)
    if status is not Status.UNKNOWN:
        with pytest.raises(StateConflict, match=f"The job is {status} "):
            await operator.ask_again("job_a", ANN)
    assert (await till.job(), await till.events(), await audit(till)) == (before, events, [])


async def test_a_job_that_is_none(till: Till, operator: Operator) -> None:
    for step in (operator.ask_again, operator.resolve_as_failed):
        with pytest.raises(JobNotFound):
            await step("job_none", ANN)
    assert await till.calls.call("EXISTS", f"{ROOT}job:job_none", AUDIT_STREAM) == 0


async def test_a_look_that_was_resolved_is_forgotten_like_any_other(till: Till, operator: Operator) -> None:
    await parked(till, kind=Kind.STATUS_REFRESH, in_doubt=False)
    await operator.resolve_as_failed("job_a", ANN)
    assert await till.index_of(["job_a"]) == {"job_a": []}
    assert await till.calls.call("PTTL", f"{ROOT}job:job_a") > 0
    assert (await till.ledger.totals())[Book.TEST].failed == 0


async def test_who_did_what_and_why_stands_in_the_audit_and_the_events(till: Till, operator: Operator) -> None:
    await parked(till)
    at_ms = await till.now_ms()
    await operator.ask_again("job_a", ANN)
    await till.release(await till.claimed(), park=True)
    await operator.resolve_as_failed("job_a", Signed("bob", "refunded by hand"), confirmed_at_stripe=True)
    first, second = await audit(till)
    assert at_ms <= int(first.pop("at_ms")) <= int(second.pop("at_ms")) <= await till.now_ms()
    assert first == {"verb": "ask_again", "job_id": "job_a", "who": "ann", "why": "the proxy is mended",
                     "before": "parked", "after": "unknown"}
    assert second == {"verb": "resolve", "job_id": "job_a", "who": "bob", "why": "refunded by hand",
                      "before": "parked", "after": "failed"}
    told = [event["event"] for event in await till.events()]
    assert told[-6:] == ["job.unknown", "job.asked_again", "job.running", "job.parked", "job.failed", "job.resolved"]


@pytest.mark.parametrize(("who", "why"), [
    ("", "why"), ("ann", " "), ("ann", "w" * (WHY_MOST + 1)), ("a" * (WHO_MOST + 1), "why"), ("ann", "two\nlines"),
    ("an\x1bn", "why"), ("ann", "half \ud800")])
def test_what_cannot_stand_in_the_audit_is_refused(who: str, why: str) -> None:
    with pytest.raises(ValueError, match="one line of 1 to"):
        Signed(who, why)
    Signed("a" * WHO_MOST, "w" * WHY_MOST)


class LosesReplies(RedisCalls):
    """Calls whose first reply to `operate` is lost after it took effect."""

    lost = 0

    async def script(self, name: str, *args: str | float) -> Any:
        said = await super().script(name, *args)
        if name == "operate" and not self.lost:
            self.lost += 1
            raise StoreUnavailable("lost")
        return said


async def test_a_lost_reply_does_it_once_and_tells_that_it_is_done(till: Till) -> None:
    await parked(till, in_doubt=False)
    calls = LosesReplies(till.calls.redis, deadline_seconds=5)
    assert await Operator(calls).resolve_as_failed("job_a", ANN) is Status.FAILED
    assert calls.lost == 1
    assert len(await audit(till)) == 1


async def test_many_operators_at_once_end_it_once(till: Till, operator: Operator) -> None:
    await parked(till, in_doubt=False)
    found = await asyncio.gather(*(operator.resolve_as_failed("job_a", ANN) for _ in range(20)), return_exceptions=True)
    assert sum(one is Status.FAILED for one in found) == 1
    assert sum(isinstance(one, StateConflict) for one in found) == 19
    assert (await till.ledger.totals())[Book.TEST].failed == 1

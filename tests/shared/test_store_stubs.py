"""Jobs made again from their objects, jobs given up on proof, and the state of comparing: on every kind of server."""

import dataclasses

import pytest

from shared.errors import IdempotencyConflict
from shared.jobs import Book, Kind, Lane, Status, job_error
from shared.reconcile_state import Discrepancy, Finding, LeaseLost, Phase, Progress, ReconcileState, Run
from shared.redis_calls import ROOT
from shared.store import BLIND_RESEND_MS, Answer, Basis, Recorded, Stub
from tests.shared.till import Till, new, succeeded, waiting

pytestmark = pytest.mark.anyio

CREATED_MS = 1_700_000_000_000


def lost(**changes: object) -> Stub:
    made = dataclasses.replace(new(), caller="", body_hash="", request={}, params={})
    return Stub(dataclasses.replace(made, **changes), CREATED_MS)  # type: ignore[arg-type]  # names of its fields


async def test_a_lost_job_its_payment_and_its_entry_are_made_again_in_one_step(till: Till) -> None:
    stub = lost()
    answer = succeeded(stub.new.queued(CREATED_MS), stub=stub)
    assert await till.record(answer) is Recorded.RECORDED
    assert await till.record(answer) is Recorded.ALREADY
    job = await till.job()
    assert (job.status, job.created_ms, job.caller, job.stripe_id) == (Status.SUCCEEDED, CREATED_MS, "", "pi_a")
    assert await till.index_of(["job_a"]) == {"job_a": ["succeeded"]}
    assert int(await till.calls.call("ZSCORE", f"{ROOT}jobs", "job_a")) == CREATED_MS
    assert await till.due_ms() is None
    assert [entry["cents"] for entry in await till.entries()] == ["5000"]
    assert await till.ledger.differences() == []


async def test_a_stub_changes_nothing_of_a_job_that_is_there(till: Till) -> None:
    job = await till.started()
    assert await till.record(succeeded(job, stub=lost())) is Recorded.RECORDED
    assert ((await till.job()).caller, (await till.job()).created_ms) == ("local", job.created_ms)


@pytest.mark.parametrize("lane", list(Lane))
async def test_the_first_resubmission_gives_a_stub_its_caller_body_and_lane(till: Till, lane: Lane) -> None:
    stub = lost()
    await till.record(dataclasses.replace(waiting(stub.new.queued(CREATED_MS), look_ms=60_000), stub=stub))
    due_ms = await till.due_ms()
    accepted = await till.accept(new(lane=lane, caller="shop", body_hash="b9"))
    assert (accepted.replayed, accepted.job.status, accepted.job.caller, accepted.job.lane) == (
        True, Status.PENDING, "shop", lane)
    assert accepted.job.request == {"amount_cents": 5000}
    assert await till.due_ms(lane=lane) == due_ms
    other = Lane.BULK if lane is Lane.INTERACTIVE else Lane.INTERACTIVE
    assert await till.due_ms(lane=other) is None
    assert (await till.accept(new(body_hash="b9"))).replayed
    with pytest.raises(IdempotencyConflict):
        await till.accept(new(body_hash="b8"))


async def test_another_kind_or_amount_is_a_conflict_and_leaves_the_stub_to_who_has_the_right_one(till: Till) -> None:
    stub = lost()
    await till.record(succeeded(stub.new.queued(CREATED_MS), stub=stub))
    for wrong in (new(kind=Kind.PAYMENT_INTENT), dataclasses.replace(new(), amount_cents=5001),
                  dataclasses.replace(new(), amount_cents=None)):
        with pytest.raises(IdempotencyConflict):
            await till.accept(wrong)
    assert (await till.job()).caller == ""
    assert (await till.accept(new())).replayed


async def test_looks_without_a_body_are_no_stubs(till: Till) -> None:
    look = new(kind=Kind.STATUS_REFRESH, body_hash="")
    assert not (await till.accept(look)).replayed
    assert (await till.accept(look)).replayed


async def absent(till: Till, **planted: str) -> Recorded:
    """Give up a job in doubt that was sent long ago, after fields were planted."""
    await till.accept(new())
    await till.crash()
    await till.put("job_a", first_sent_ms=await till.now_ms() - BLIND_RESEND_MS - 1000)
    job = await till.job()
    for name, value in planted.items():
        await till.put("job_a", **{name: value.replace("NOW", str(await till.now_ms() + 60_000))})
    return await till.record(Answer(job=job, basis=Basis.ABSENCE, status=Status.FAILED, book=Book.TEST,
                                    error=job_error("never_reached_stripe", "No."), counts_as_failed=True))


async def test_a_job_in_doubt_for_too_long_is_given_up_on_proof(till: Till) -> None:
    assert await absent(till) is Recorded.RECORDED
    job = await till.job()
    assert (job.status, job.doubts, job.error and job.error["code"]) == (Status.FAILED, 1, "never_reached_stripe")
    assert (await till.ledger.totals())[Book.TEST].failed == 1


@pytest.mark.parametrize("planted", [{"fence": "9"}, {"lease_until_ms": "NOW"}, {"first_sent_ms": "NOW"},
                                     {"status": "running"}, {"status": "parked"}])
async def test_absence_stands_only_against_the_job_as_it_was(till: Till, planted: dict[str, str]) -> None:
    assert await absent(till, **planted) is Recorded.FENCED


async def test_what_speaks_against_a_job_is_noted_once(till: Till) -> None:
    await till.accept(new())
    assert [await till.store.note("job_a", "pi_x"), await till.store.note("job_a", "pi_y")] == [True, False]
    assert not await till.store.note("job_none", "pi_x")
    assert (await till.job()).contradicted_by == "pi_x"
    assert await till.calls.call("EXISTS", f"{ROOT}job:job_none") == 0
    assert len(await till.events("job.contradicted")) == 1


async def test_jobs_of_a_window_come_whole_however_many_share_a_millisecond(till: Till) -> None:
    for number in range(7):
        await till.accept(new(f"job_{number}"))
        await till.calls.call("ZADD", f"{ROOT}jobs", 1000 + number // 4, f"job_{number}")
    found, begin = list[str](), 0
    while True:
        page, after = await till.store.created(since_ms=begin, until_ms=2000, most=2)
        found += page
        if after is None:
            break
        begin = after
    assert sorted(found) == [f"job_{number}" for number in range(7)]


async def test_the_state_is_kept_with_its_findings_by_who_holds_the_lease(till: Till) -> None:
    state, other = ReconcileState(till.calls), ReconcileState(till.calls)
    await till.accept(new())
    progress = Progress(since_ms=1, until_ms=2, begun_ms=3, fix=True)
    with pytest.raises(LeaseLost):
        await state.begin(Run.ASKED, progress)
    assert (await state.hold()).held
    assert not (await other.hold()).held
    finding = Finding(Discrepancy.AMOUNT, "pi_a", "job_a", "40", "50")
    await state.begin(Run.ASKED, progress)
    await state.save(Run.ASKED, dataclasses.replace(progress, phase=Phase.JOBS), listed=["job_a", "job_none"],
                     findings=[finding])
    assert (await other.look()).runs == {Run.ASKED: dataclasses.replace(progress, phase=Phase.JOBS)}
    assert await other.findings(Run.ASKED) == [finding]
    assert (await till.job()).listed_ms == 3
    assert await till.calls.call("EXISTS", f"{ROOT}job:job_none") == 0
    with pytest.raises(LeaseLost):
        await other.save(Run.ASKED, progress)
    await state.leave()
    assert (await other.hold()).held
    await other.begin(Run.ASKED, progress)
    assert await other.findings(Run.ASKED) == []


@pytest.mark.parametrize("ends", [-1, 3_600_000])
async def test_a_lease_that_ended_or_lies_too_far_ahead_is_taken_over(till: Till, ends: int) -> None:
    state, other = ReconcileState(till.calls), ReconcileState(till.calls)
    await state.hold()
    await till.calls.call("HSET", f"{ROOT}reconcile", "lease_until_ms", await till.now_ms() + ends)
    assert (await other.hold()).held
    with pytest.raises(LeaseLost):
        await state.keep()

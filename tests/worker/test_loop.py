"""work(): slots before claims, a line a job, and nothing held that cannot be worked."""

import asyncio
import dataclasses
import threading
from collections.abc import Sequence

import pytest

from shared.errors import StoreUnavailable
from shared.jobs import Job, Lane, Mode, Status
from shared.redis_calls import ROOT
from shared.store import Claimed, JobStore
from tests.shared.till import Till, new, payment
from tests.worker.desks import Scripted, lose_stripe, make_desk, refuses
from worker import loop
from worker.loop import WorkerLoop, summary, work
from worker.pacing import Pacing, Slots
from worker.processor import Outcome, Settled

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def slots_that_keep(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slot is overslept only after half a minute: this machine may do other work."""
    monkeypatch.setattr(loop, "SLOT_KEEPS_SECONDS", 30)  # a length of time, not a path of code


def settles(job: Job) -> Outcome:
    return Settled(payment(job))


async def accepted(till: Till, count: int, lane: Lane = Lane.BULK) -> list[str]:
    job_ids = [f"job_{n}" for n in range(count)]
    for job_id in job_ids:
        await till.accept(new(job_id, lane=lane))
    return job_ids


async def test_every_job_of_a_hint_is_worked_and_said(till: Till) -> None:
    stripe = Scripted(settles)
    job_ids = await accepted(till, 30)
    lines = await work(make_desk(till, stripe), Lane.BULK, job_ids)
    assert lines == [f"{job_id} succeeded" for job_id in job_ids]
    assert (await till.store.counts())[Status.SUCCEEDED] == 30
    assert [job.id for job in stripe.sent] == job_ids


class Reserving(Pacing):
    """Keeps what stood in the store at each reservation."""

    seen: list[int]

    async def reserve(self, lane: Lane, wanted: int) -> Slots:
        self.seen.append(await self._calls.call("ZCARD", f"{ROOT}jobs:running"))
        return await super().reserve(lane, wanted)


async def test_no_job_is_claimed_before_it_has_a_slot(till: Till) -> None:
    desk = make_desk(till, Scripted(settles))
    pacing = Reserving(till.calls, mode=Mode.TEST, calls_per_second=50)
    pacing.seen = []
    desk = dataclasses.replace(desk, pacing=pacing)
    await work(desk, Lane.INTERACTIVE, await accepted(till, 12, Lane.INTERACTIVE))
    assert pacing.seen
    assert set(pacing.seen) == {0}


class SoonSpent(Pacing):
    """Has six slots; the others take every later one."""

    async def reserve(self, lane: Lane, wanted: int) -> Slots:
        slots = await super().reserve(lane, min(wanted, 6))
        await super().reserve(Lane.INTERACTIVE, 1000)
        return slots


async def test_rows_without_a_slot_go_back_untouched(till: Till) -> None:
    stripe = Scripted(settles)
    job_ids = await accepted(till, 10)
    desk = dataclasses.replace(make_desk(till, stripe),
                               pacing=SoonSpent(till.calls, mode=Mode.TEST, calls_per_second=50))
    lines = await work(desk, Lane.BULK, job_ids)
    assert len(lines) == 6
    for job_id in job_ids[len(lines):]:
        job = await till.job(job_id)
        assert (job.status, job.doubts, job.attempts) == (Status.QUEUED, 0, 0)
    assert len(stripe.sent) == len(lines)


async def test_without_any_slot_nothing_is_claimed(till: Till) -> None:
    desk = make_desk(till, Scripted(settles), calls_per_second=1)
    await desk.pacing.reserve(Lane.INTERACTIVE, 100)
    job_ids = await accepted(till, 3)
    async with asyncio.timeout(20):  # it goes back at once: the next slot is half a minute away
        assert await work(desk, Lane.BULK, job_ids) == []
    assert (await till.store.counts())[Status.QUEUED] == 3


@pytest.mark.parametrize("key", [True, False])
async def test_who_calls_nobody_needs_no_slot(till: Till, key: bool) -> None:
    """Without a key, or with Stripe out of reach, the mock answers at its own pace."""
    desk = make_desk(till, Scripted(settles) if key else None, connect=refuses, calls_per_second=1)
    job_ids = [f"job_{n}" for n in range(20)]
    for job_id in job_ids:
        await till.accept(new(job_id, mode=Mode.TEST if key else Mode.NONE))
    if key:
        await lose_stripe(till, desk)
    assert await work(desk, Lane.BULK, job_ids) == [f"{job_id} succeeded mock" for job_id in job_ids]
    assert await till.calls.call("KEYS", f"{ROOT}budget:*") == []


async def test_a_worker_that_is_cut_off_claims_nothing(till: Till) -> None:
    stripe = Scripted(settles)
    desk = make_desk(till, stripe, connect=refuses)
    await till.circuit.beat("w2", threads=2)
    await desk.reachability.check()
    assert await work(desk, Lane.INTERACTIVE, await accepted(till, 1)) == []
    assert (await till.store.counts())[Status.QUEUED] == 1


async def test_a_stale_or_doubled_hint_is_worked_once(till: Till) -> None:
    stripe = Scripted(settles)
    desk = make_desk(till, stripe)
    await accepted(till, 1)
    lines = await asyncio.gather(*(work(desk, Lane.INTERACTIVE, ["job_0"]) for _ in range(5)))
    assert sorted(line for each in lines for line in each) == ["job_0 succeeded"]
    assert await work(desk, Lane.INTERACTIVE, ["job_0", "job_nobodys"]) == []
    assert len(stripe.sent) == 1


class LosesFirstClaim(JobStore):
    """Loses the reply of its first claim."""

    lost = False

    async def claim(self, job_ids: Sequence[str], *, lease_ms: int, mode: Mode, account: str,
                    claim_token: str, alone: bool = False) -> Claimed:
        jobs = await super().claim(job_ids, lease_ms=lease_ms, mode=mode, account=account, claim_token=claim_token,
                                   alone=alone)
        if not self.lost:
            self.lost = True
            raise StoreUnavailable("The reply was lost.")
        return jobs


async def test_a_lost_reply_of_claim_loses_no_job_and_adds_no_doubt(till: Till) -> None:
    desk = make_desk(till, Scripted(settles))
    desk = dataclasses.replace(desk, store=LosesFirstClaim(till.calls))
    job_ids = await accepted(till, 3)
    assert len(await work(desk, Lane.BULK, job_ids)) == 3
    assert [((await till.job(job_id)).attempts, (await till.job(job_id)).doubts) for job_id in job_ids] == [(1, 1)] * 3


@pytest.mark.parametrize(("lines", "said"), [
    ([], "nothing to do"), (["job_a failed card_declined"], "job_a failed card_declined"),
    (["job_a succeeded", "job_b failed card_declined", "job_c succeeded mock"], "3 jobs: 2 succeeded, 1 failed")])
async def test_what_flower_shows(lines: list[str], said: str) -> None:
    assert summary(lines) == said


async def test_the_loop_runs_what_other_threads_hand_in_and_stops() -> None:
    loop = WorkerLoop()
    loop.start()

    async def name() -> str:
        await asyncio.sleep(0)
        return threading.current_thread().name

    async def fail() -> str:
        raise StoreUnavailable("away")

    try:
        assert await asyncio.gather(*(asyncio.to_thread(loop.run, name) for _ in range(20))) == ["attempts"] * 20
        with pytest.raises(StoreUnavailable):
            await asyncio.to_thread(loop.run, fail)
    finally:
        await asyncio.to_thread(loop.stop)
    assert "attempts" not in {thread.name for thread in threading.enumerate()}

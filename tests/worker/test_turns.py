"""work(): nothing begins that may not any more: late for its lease or its slot, while stopping, or unanswerable."""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Sequence

import pytest

from shared.jobs import Job, Lane, Mode, Status
from shared.settings import Fallback
from shared.store import Claimed, JobStore
from tests.shared.till import Till, new, payment
from tests.worker.desks import Scripted, connects, lose_stripe, make_desk, refuses
from worker import loop
from worker.desk import Desk
from worker.loop import SLOT_KEEPS_SECONDS, work
from worker.pacing import Pacing, Slots
from worker.processor import Outcome, Settled

pytestmark = pytest.mark.anyio


def settles(job: Job) -> Outcome:
    return Settled(payment(job))


async def accepted(till: Till, count: int) -> list[str]:
    job_ids = [f"job_{n}" for n in range(count)]
    for job_id in job_ids:
        await till.accept(new(job_id, lane=Lane.BULK))
    return job_ids


async def untouched(till: Till, job_ids: Sequence[str]) -> bool:
    jobs = [await till.job(job_id) for job_id in job_ids]
    return {(job.status, job.attempts, job.doubts, job.fence) for job in jobs} == {(Status.QUEUED, 0, 0, 0)}


class SlowAfterClaim(JobStore):
    """Has something happen between a claim and what comes of it."""

    happens: Callable[[Claimed], Awaitable[None]]

    async def claim(self, job_ids: Sequence[str], *, lease_ms: int, mode: Mode, account: str, claim_token: str,
                    alone: bool = False) -> Claimed:
        jobs = await super().claim(job_ids, lease_ms=lease_ms, mode=mode, account=account, claim_token=claim_token,
                                   alone=alone)
        await self.happens(jobs)
        return jobs


def slow(till: Till, desk: Desk, happens: Callable[[Claimed], Awaitable[None]]) -> Desk:
    store = SlowAfterClaim(till.calls)
    store.happens = happens
    return dataclasses.replace(desk, store=store)


def short_lease(desk: Desk, lease_ms: int) -> Desk:
    return dataclasses.replace(desk, terms=dataclasses.replace(desk.terms, lease_ms=lease_ms))


@pytest.mark.parametrize("crashed", [True, False])
async def test_a_worker_that_was_frozen_past_its_lease_sends_nothing_when_it_wakes(till: Till, crashed: bool) -> None:
    async def frozen(jobs: Claimed) -> None:
        for job in jobs:
            await till.lapse(job.id)

    stripe = Scripted(settles)
    job_ids = await accepted(till, 2)
    if crashed:
        await till.claim("job_0", lease_ms=1)
        await till.lapse("job_0")
        await till.feed(Lane.BULK)
    lines = await work(slow(till, short_lease(make_desk(till, stripe), 30), frozen), Lane.BULK, job_ids)
    assert sorted(lines) == ["job_0 lease ended", "job_1 lease ended"]
    assert stripe.sent == []
    jobs = [await till.job(job_id) for job_id in job_ids]
    assert {job.status for job in jobs} == {Status.RUNNING}
    assert [job.doubts for job in jobs] == [2 if crashed else 1, 1], "a doubt vanished"


async def test_a_job_whose_slot_comes_after_its_lease_is_not_sent(till: Till) -> None:
    stripe = Scripted(settles)
    desk = make_desk(till, stripe, calls_per_second=10)
    await desk.pacing.reserve(Lane.INTERACTIVE, 5)
    lines = await work(short_lease(desk, 150), Lane.INTERACTIVE, await accepted(till, 3))
    assert lines[2] == "job_2 lease ended"
    assert "job_2" not in [job.id for job in stripe.sent]


class Counted(Pacing):
    """Keeps what was asked for."""

    asked: list[tuple[Lane, int]]

    async def reserve(self, lane: Lane, wanted: int) -> Slots:
        self.asked.append((lane, wanted))
        return await super().reserve(lane, wanted)


def counted(till: Till, calls_per_second: float) -> Counted:
    made = Counted(till.calls, mode=Mode.TEST, calls_per_second=calls_per_second)
    made.asked = []
    return made


async def oversleep(_: Claimed) -> None:
    await asyncio.sleep(SLOT_KEEPS_SECONDS + 0.1)


async def test_overslept_slots_are_not_used_at_once_but_reserved_anew(till: Till) -> None:
    sent_at: list[float] = []

    def noted(job: Job) -> Outcome:
        sent_at.append(asyncio.get_running_loop().time())
        return settles(job)

    rate = 20.0
    pacing = counted(till, rate)
    desk = dataclasses.replace(slow(till, make_desk(till, Scripted(noted)), oversleep), pacing=pacing)
    began = asyncio.get_running_loop().time()
    await pacing.reserve(Lane.BULK, 5)
    pacing.asked.clear()
    lines = await work(desk, Lane.INTERACTIVE, await accepted(till, 8))
    assert lines == [f"job_{n} succeeded" for n in range(8)]
    again = pacing.asked.count((Lane.INTERACTIVE, 1))
    assert again >= 3
    # Five were reserved before, and each overslept slot is one more that was spent: no call comes before its turn.
    reserved = 5 + 8 + again
    assert max(sent_at) - began >= (reserved - 5) / rate - 0.05


async def test_a_slot_that_is_used_in_time_is_reserved_once(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "SLOT_KEEPS_SECONDS", 30)  # a length of time: this machine may do other work
    pacing = counted(till, 10_000)
    desk = dataclasses.replace(make_desk(till, Scripted(settles)), pacing=pacing)
    await work(desk, Lane.INTERACTIVE, await accepted(till, 3))
    assert pacing.asked == [(Lane.INTERACTIVE, 3)]


async def test_who_overslept_and_gets_no_other_slot_does_not_call(till: Till) -> None:
    async def spent(jobs: Claimed) -> None:
        await oversleep(jobs)
        await till.calls.script("reserve", "test", 20, 5, 100, 60_000)

    stripe = Scripted(settles)
    desk = slow(till, make_desk(till, stripe, calls_per_second=20), spent)
    await work(desk, Lane.BULK, await accepted(till, 1))
    job = await till.job("job_0")
    assert (stripe.sent, job.status, job.doubts) == ([], Status.RETRYING, 0)


@pytest.mark.parametrize("lane", Lane)
async def test_what_could_only_wait_for_the_network_is_not_claimed(till: Till, lane: Lane) -> None:
    desk = make_desk(till, Scripted(settles), fallback=Fallback.DEFER, connect=refuses)
    job_ids = await accepted(till, 3)
    await lose_stripe(till, desk)
    assert await work(desk, lane, job_ids) == []
    assert await untouched(till, job_ids)


async def test_without_a_key_nothing_waits_for_the_network(till: Till) -> None:
    desk = make_desk(till, None, fallback=Fallback.DEFER, connect=refuses)
    await till.accept(new(mode=Mode.NONE))
    await lose_stripe(till, desk)
    assert await work(desk, Lane.INTERACTIVE, ["job_a"]) == ["job_a succeeded mock"]


async def test_behind_a_closed_gate_nothing_is_claimed(till: Till) -> None:
    desk = make_desk(till, Scripted(settles))
    job_ids = await accepted(till, 3)
    desk.gate.closed = True
    assert await work(desk, Lane.BULK, job_ids) == []
    assert await untouched(till, job_ids)


class ClosesMeanwhile(Pacing):
    """The process is asked to stop while somebody waits for a slot."""

    desk: Desk

    async def reserve(self, lane: Lane, wanted: int) -> Slots:
        slots = await super().reserve(lane, wanted)
        self.desk.gate.closed = True
        return slots


@pytest.mark.parametrize("crashed", [True, False])
async def test_what_waited_for_its_slot_when_the_gate_closed_stays_due(till: Till, crashed: bool) -> None:
    stripe = Scripted(settles)
    desk = make_desk(till, stripe)
    pacing = ClosesMeanwhile(till.calls, mode=Mode.TEST, calls_per_second=10_000)
    desk = pacing.desk = dataclasses.replace(desk, pacing=pacing)
    job_ids = await accepted(till, 3)
    if crashed:
        for job_id in job_ids:
            await till.claim(job_id, lease_ms=1)
            await till.lapse(job_id)
        await till.feed(Lane.BULK)
    assert await work(desk, Lane.BULK, job_ids) == []
    assert stripe.sent == []
    assert (await till.store.counts())[Status.RUNNING] == 0


async def test_an_id_named_twice_in_a_hint_is_one_attempt(till: Till) -> None:
    stripe = Scripted(settles)
    job_ids = await accepted(till, 2)
    lines = await work(make_desk(till, stripe, connect=connects), Lane.BULK, [*job_ids, *job_ids, "job_0"])
    assert sorted(lines) == ["job_0 succeeded", "job_1 succeeded"]
    assert sorted(job.id for job in stripe.sent) == job_ids
    assert [(await till.job(job_id)).attempts for job_id in job_ids] == [1, 1]

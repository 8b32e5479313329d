"""Gate: many together or one alone; and with it, a job that kills its worker takes no neighbours with it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

import pytest

from shared.jobs import Job, Lane, Status
from shared.redis_calls import ROOT
from shared.store import CRASHES_THAT_PARK
from tests.shared.till import Till, new, payment, waiting
from tests.worker.desks import make_desk
from worker.gate import Gate
from worker.loop import work
from worker.processor import Outcome, Settled

pytestmark = pytest.mark.anyio

WITHIN_SECONDS = 60.0
TURNS = 20
"""Rounds of the loop after which whoever can go on has gone on."""


WAYS: dict[str, Callable[[Gate], Callable[[], AbstractAsyncContextManager[object]]]] = {
    "together": lambda gate: gate.together, "alone": lambda gate: partial(gate.alone, WITHIN_SECONDS)}


class Visit:
    """Somebody who goes in, stays until told to leave, and says where it is."""

    def __init__(self, way: Callable[[], AbstractAsyncContextManager[object]]) -> None:
        self.inside = False
        self.leave = asyncio.Event()
        self.task = asyncio.create_task(self._go(way))

    async def _go(self, way: Callable[[], AbstractAsyncContextManager[object]]) -> None:
        async with way():
            self.inside = True
            try:
                await self.leave.wait()
            finally:
                self.inside = False

    async def end(self) -> None:
        self.leave.set()
        await self.task

    async def cancel(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


async def settle() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


async def is_free(gate: Gate) -> bool:
    """Whether anybody can still get in, in both ways."""
    async with asyncio.timeout(20):
        async with gate.alone(WITHIN_SECONDS) as is_alone:
            assert is_alone
        async with gate.together(), gate.together():
            return True


async def test_many_are_inside_together() -> None:
    gate = Gate()
    visits = [Visit(gate.together) for _ in range(5)]
    await settle()
    assert all(visit.inside for visit in visits)
    for visit in visits:
        await visit.end()
    assert await is_free(gate)


async def test_who_is_alone_waits_for_those_inside_and_those_who_come_wait_for_it() -> None:
    gate = Gate()
    before = [Visit(gate.together) for _ in range(2)]
    await settle()
    alone = Visit(partial(gate.alone, WITHIN_SECONDS))
    await settle()
    after = Visit(gate.together)
    await settle()
    assert [visit.inside for visit in (*before, alone, after)] == [True, True, False, False]
    await before[0].end()
    await settle()
    assert not alone.inside
    await before[1].end()
    await settle()
    assert [alone.inside, after.inside] == [True, False]
    await alone.end()
    await settle()
    assert after.inside
    await after.end()
    assert await is_free(gate)


async def test_a_call_that_hangs_holds_nobody_up_for_long() -> None:
    gate = Gate()
    hangs = Visit(gate.together)
    await settle()
    async with gate.alone(0.01) as is_alone:
        assert not is_alone
    after = Visit(gate.together)
    await settle()
    assert after.inside
    await after.end()
    await hangs.end()
    assert await is_free(gate)


async def test_two_are_never_alone_at_once() -> None:
    gate = Gate()
    visits = [Visit(partial(gate.alone, WITHIN_SECONDS)) for _ in range(3)]
    for _ in range(3):
        await settle()
        [inside] = [visit for visit in visits if visit.inside]
        await inside.end()
        visits.remove(inside)
    assert await is_free(gate)


@pytest.mark.parametrize("way", list(WAYS))
async def test_who_is_cancelled_while_it_waits_or_is_inside_is_in_nobodys_way(way: str) -> None:
    gate = Gate()
    inside = Visit(WAYS[way](gate))
    await settle()
    waits = Visit(partial(gate.alone, WITHIN_SECONDS))
    await settle()
    also_waits = Visit(gate.together)
    await settle()
    assert (inside.inside, waits.inside, also_waits.inside) == (True, False, False)
    await waits.cancel()
    await settle()
    assert also_waits.inside is (way == "together")
    await inside.cancel()
    await settle()
    assert also_waits.inside
    await also_waits.cancel()
    assert await is_free(gate)


@pytest.mark.parametrize("way", list(WAYS))
async def test_a_failure_inside_leaves_the_gate_free(way: str) -> None:
    gate = Gate()
    with pytest.raises(KeyError):
        async with WAYS[way](gate)():
            raise KeyError
    assert await is_free(gate)


class Mortal:
    """Stripe as a process sees it that one job kills: with it ends whatever else is under way there."""

    def __init__(self) -> None:
        self.died = asyncio.Event()

    async def send(self, job: Job) -> Outcome:
        if job.id == "job_a":
            self.died.set()
        async with self._work():
            return Settled(payment(job))

    look = cancel = send

    @asynccontextmanager
    async def _work(self) -> AsyncIterator[None]:
        await settle()
        if self.died.is_set():
            await asyncio.Event().wait()
        yield

    async def close(self) -> None:
        """Nothing to let go of."""


async def live(till: Till, *hints: list[str]) -> None:
    """One life of a worker process: it works hints at once, and dies or is done."""
    mortal = Mortal()
    desk = make_desk(till, mortal)
    working = [asyncio.create_task(work(desk, Lane.INTERACTIVE, hint)) for hint in hints]
    done = asyncio.gather(*working, return_exceptions=True)
    dying = asyncio.create_task(mortal.died.wait())
    async with asyncio.timeout(20):
        while not (done.done() or dying.done()):
            await asyncio.sleep(0.001)
        if dying.done():
            await settle()
            for task in working:
                task.cancel()
        dying.cancel()
        await done


async def leases_end(till: Till, *job_ids: str) -> list[str]:
    """The time of every lease passes; what is handed out then."""
    for job_id in job_ids:
        if int(await till.calls.call("HGET", f"{ROOT}job:{job_id}", "lease_until_ms") or 0) > await till.now_ms():
            await till.put(job_id, lease_until_ms=1)
        if await till.due_ms(job_id) is not None:
            await till.calls.call("ZADD", f"{ROOT}due:interactive", 1, job_id)
    return await till.feed()


@pytest.mark.parametrize("pending", [True, False])
async def test_a_job_that_kills_its_worker_is_parked_and_its_neighbours_are_not(till: Till, pending: bool) -> None:
    job_ids = ["job_a", "job_b", "job_c"]
    for job_id in job_ids:
        await till.accept(new(job_id))
    if pending:
        await till.record(waiting(await till.claimed("job_a")))
    await live(till, job_ids)
    for _ in range(3 * CRASHES_THAT_PARK):
        due = await leases_end(till, *job_ids)
        await live(till, *([job_id] for job_id in due))
    jobs = [await till.job(job_id) for job_id in job_ids]
    assert [job.status for job in jobs] == [Status.PARKED, Status.SUCCEEDED, Status.SUCCEEDED]
    assert jobs[0].error is not None
    assert (jobs[0].error["code"], jobs[0].crashes) == ("poison", CRASHES_THAT_PARK)
    assert max(job.attempts for job in jobs[1:]) <= 2, "a neighbour died with it more than once"

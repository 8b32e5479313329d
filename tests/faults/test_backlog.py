"""A backlog stays in the store: Celery is told of each job about once, and Stripe is called at the budget's pace."""

import asyncio

import pytest

from shared.broker import grace_ms, hints_cap
from shared.jobs import Lane
from tests.faults.desk_processes import DeskProcesses

pytestmark = pytest.mark.anyio

BURST = 5
JITTER = 2.0
"""A window of one second may hold so many times the budget: sends that a busy machine delayed go out together. What
the budget gives out is exact (tests/worker/test_pacing.py); here nothing may go past it."""


class _Watched:
    """Celery's list, looked at until the end."""

    def __init__(self, desk: DeskProcesses) -> None:
        self.desk = desk
        self.longest = 0

    async def run(self) -> None:
        """Look at it often."""
        while True:
            self.longest = max(self.longest, await self.desk.backlog.waiting(Lane.INTERACTIVE))
            await asyncio.sleep(0.01)


async def _accept_as_the_front_door(desk: DeskProcesses, count: int, *, cap: int, hinted_ms: int) -> None:
    """Hint while Celery's list has room; else leave the job, due at once, to the feeders."""
    for _ in range(count):
        if await desk.backlog.waiting(Lane.INTERACTIVE) < cap:
            desk.hint((await desk.accept(delay_ms=hinted_ms)).job)
        else:
            await desk.accept(delay_ms=0)


def _most_in_a_second(times: list[float]) -> int:
    times = sorted(times)
    most = first = 0
    for last in range(len(times)):
        while times[last] - times[first] >= 1:
            first += 1
        most = max(most, last - first + 1)
    return most


@pytest.mark.parametrize(("count", "per_second", "threads"), [
    pytest.param(500, 50, 16, id="ten seconds of work"),
    pytest.param(200, 25, 48, id="more threads than two seconds of the budget"),
    pytest.param(5_000, 25, 16, id="5000 jobs at 25 a second", marks=[pytest.mark.long, pytest.mark.timeout(700)]),
])
async def test_a_backlog_is_hinted_about_once_a_job_and_paced(desk: DeskProcesses, count: int, per_second: int,
                                                             threads: int) -> None:
    await desk.start_workers(2, STRIPE_RATE_PER_SECOND=str(per_second), PAYDESK_WORKER_THREADS=str(threads),
                             PAYDESK_LEASE_SECONDS="30")
    of_all = (await desk.circuit.look()).threads
    assert of_all == 2 * threads
    cap = 2 * of_all
    assert hints_cap(of_all) == cap, "two messages per worker thread"
    hinted_ms = grace_ms(Lane.INTERACTIVE, threads=of_all, calls_per_second=per_second)
    before = await desk.messages_published()
    watched = _Watched(desk)
    watching = asyncio.create_task(watched.run())

    await _accept_as_the_front_door(desk, count, cap=cap, hinted_ms=hinted_ms)
    await desk.settled(within_seconds=3 * count / per_second + 20)
    watching.cancel()

    hints = await desk.messages_published() - before
    times = [request["started_at"] for request in desk.standin.requests()]
    assert len(times) == count
    assert hints <= 1.5 * count, f"{hints} hints for {count} jobs"
    # Two feeders and the front door may each fill the room that all saw: a constant, whatever the backlog.
    assert watched.longest <= 3 * cap, f"{watched.longest} hints in a list for {cap}"
    assert _most_in_a_second(times) <= JITTER * per_second + BURST
    assert max(times) - min(times) <= 2 * count / per_second + hinted_ms / 1000 + 10, "the budget is used"

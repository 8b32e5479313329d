"""The process's asyncio loop: Celery's threads hand job ids in and wait; every attempt is a coroutine on it."""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import structlog

from shared.errors import StoreUnavailable
from shared.ids import token
from shared.jobs import Job, Lane, Mode
from worker.attempt import attempt
from worker.desk import Desk
from worker.pacing import Slots

log = structlog.get_logger(__name__)

T = TypeVar("T")

CUT_OFF_PAUSE_SECONDS = 2.0
"""How long a worker that alone cannot reach Stripe holds a hint before it lets go: it must not eat them all at once."""

_LOOK_UP_THREADS = 32
"""Name look-ups that hang may each hold a thread; the loop must have others left."""


async def work(desk: Desk, lane: Lane, job_ids: Sequence[str]) -> list[str]:
    """Work the jobs that a hint names, as far as the budget and their leases allow; the others stay due.

    Slots first, then the claim: no lease runs and no doubt arises while a job waits for its turn. Answers a line a job.
    """
    left, lines = list(job_ids), list[str]()
    while left and await _may_claim(desk):
        calls_nobody = desk.terms.mode is Mode.NONE or desk.reachability.reach.open
        slots = Slots(len(left), 0.0, 0.0) if calls_nobody else await desk.pacing.reserve(lane, len(left))
        if not slots.granted:
            break
        await asyncio.sleep(slots.first_in_seconds)
        turn, left = left[:slots.granted], left[slots.granted:]
        jobs = await _claim(desk, turn)
        lines += await asyncio.gather(*(
            _attempt_in(desk, job, n * slots.apart_seconds, has_slot=not calls_nobody) for n, job in enumerate(jobs)))
    return lines


async def _may_claim(desk: Desk) -> bool:
    if desk.reachability.cut_off:
        await asyncio.sleep(CUT_OFF_PAUSE_SECONDS)
    return not desk.reachability.cut_off


async def _claim(desk: Desk, job_ids: Sequence[str]) -> list[Job]:
    """Claim, and after a lost reply once more with the same token, which answers the same jobs."""
    terms, claim_token = desk.terms, token()
    try:
        return await desk.store.claim(job_ids, lease_ms=terms.lease_ms, mode=terms.mode, account=terms.account,
                                      claim_token=claim_token)
    except StoreUnavailable:
        return await desk.store.claim(job_ids, lease_ms=terms.lease_ms, mode=terms.mode, account=terms.account,
                                      claim_token=claim_token)


async def _attempt_in(desk: Desk, job: Job, seconds: float, *, has_slot: bool) -> str:
    if seconds:
        await asyncio.sleep(seconds)
    return await attempt(desk, job, has_slot=has_slot)


def summary(lines: Sequence[str]) -> str:
    """What a task returns, and Flower shows: the one job's line, or how many ended how."""
    if len(lines) == 1:
        return lines[0]
    if not lines:
        return "nothing to do"
    ends = Counter(line.split()[1] for line in lines)
    return f"{len(lines)} jobs: " + ", ".join(f"{count} {end}" for end, count in ends.most_common())


class WorkerLoop:
    """One asyncio loop in a thread of its own. Started after Celery's process exists; drained when it stops."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="attempts", daemon=True)

    def start(self) -> None:
        """Begin to run coroutines."""
        self._loop.set_default_executor(ThreadPoolExecutor(_LOOK_UP_THREADS, thread_name_prefix="look-up"))
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def run(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine on the loop and wait for its result; called from any other thread."""
        return asyncio.run_coroutine_threadsafe(make(), self._loop).result()

    def stop(self) -> None:
        """End the loop; whatever still runs on it is abandoned, as in a crash."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

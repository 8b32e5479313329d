"""The process's asyncio loop: Celery's threads hand job ids in and wait; every attempt is a coroutine on it."""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog

from shared.errors import StoreLost, StoreUnavailable
from shared.ids import token
from shared.jobs import Job, Lane, Mode
from shared.settings import Fallback
from shared.store import Claimed
from worker.attempt import attempt
from worker.desk import Desk

log = structlog.get_logger(__name__)

T = TypeVar("T")

CUT_OFF_PAUSE_SECONDS = 2.0
"""How long a worker that alone cannot reach Stripe holds a hint before it lets go: it must not eat them all at once."""

SLOT_KEEPS_SECONDS = 0.2
"""How late a slot may still be used: later, those of a whole pause would be used at once."""

ALONE_WITHIN_SECONDS = 5.0
"""How long a process is kept from new work for a job that must run alone, while earlier calls end."""

_LOOK_UP_THREADS = 32
"""Name look-ups that hang may each hold a thread; the loop must have others left."""


async def work(desk: Desk, lane: Lane, job_ids: Sequence[str]) -> list[str]:
    """Work the jobs that a hint names, as far as the budget and their leases allow; the others stay due.

    Slots first, then the claim: no lease runs and no doubt arises while a job waits for its turn. A job with a crash
    behind it runs when nothing else runs in this process. Answers a line a job.
    """
    left, lines, crashed = list(dict.fromkeys(job_ids)), list[str](), list[str]()
    while left and await _may_claim(desk):
        turn = await _reserve(desk, lane, len(left))
        if not turn.jobs:
            break
        ids, left = left[:turn.jobs], left[turn.jobs:]
        async with desk.gate.together():
            claimed, done = await _take(desk, turn, ids, alone=False)
        lines += done
        crashed += claimed.crashed
    for job_id in crashed:
        if await _may_claim(desk) and (turn := await _reserve(desk, lane, 1)).jobs:
            async with desk.gate.alone(ALONE_WITHIN_SECONDS) as is_alone:
                if not is_alone:
                    continue  # still due: another time, or another worker
                lines += (await _take(desk, turn, [job_id], alone=True))[1]
    return lines


async def _may_claim(desk: Desk) -> bool:
    """Not while stopping, not while only others reach Stripe, and not what could only wait for the network."""
    if desk.reachability.cut_off:
        await asyncio.sleep(CUT_OFF_PAUSE_SECONDS)
    waits = desk.reachability.reach.open and desk.terms.fallback is Fallback.DEFER and desk.terms.mode is not Mode.NONE
    return not (desk.gate.closed or desk.reachability.cut_off or waits)


@dataclass(frozen=True, slots=True)
class Turn:
    """Slots that were waited for: how many jobs they let call, from when on, and how far apart."""

    lane: Lane
    jobs: int
    begins: float
    """By the loop's clock, which counts no time in which the machine slept."""
    apart_seconds: float
    paced: bool
    """Whether the slots are the budget's. What calls nobody needs none."""


async def _reserve(desk: Desk, lane: Lane, wanted: int) -> Turn:
    loop = asyncio.get_running_loop()
    if desk.terms.mode is Mode.NONE or desk.reachability.reach.open:
        return Turn(lane, wanted, loop.time(), 0.0, paced=False)
    asked = loop.time()
    slots = await desk.pacing.reserve(lane, wanted)
    begins = asked + slots.first_in_seconds
    await asyncio.sleep(slots.first_in_seconds if slots.granted else 0)
    return Turn(lane, slots.granted, begins, slots.apart_seconds, paced=True)


async def _take(desk: Desk, turn: Turn, job_ids: Sequence[str], *, alone: bool) -> tuple[Claimed, list[str]]:
    """Claim, and attempt each job at its slot, if the lease that it was claimed with still runs then."""
    if desk.gate.closed:  # since it began to wait for its slot, or for who is alone
        return Claimed([]), []
    lease_ends = desk.machine.lease_seconds() + desk.terms.lease_ms / 1000
    claimed = await _claim(desk, job_ids, alone=alone)
    lines = await asyncio.gather(*(_attempt_at(desk, job, turn, n, lease_ends) for n, job in enumerate(claimed)))
    return claimed, lines


async def _claim(desk: Desk, job_ids: Sequence[str], *, alone: bool) -> Claimed:
    """Claim, and after a lost reply once more with the same token, which answers the same jobs."""
    terms, claim_token = desk.terms, token()
    try:
        return await desk.store.claim(job_ids, lease_ms=terms.lease_ms, mode=terms.mode, account=terms.account,
                                      claim_token=claim_token, alone=alone)
    except StoreLost:
        raise
    except StoreUnavailable:
        return await desk.store.claim(job_ids, lease_ms=terms.lease_ms, mode=terms.mode, account=terms.account,
                                      claim_token=claim_token, alone=alone)


async def _attempt_at(desk: Desk, job: Job, turn: Turn, place: int, lease_ends: float) -> str:
    """Attempt a job at its slot. A slot that was overslept is another's by now, so a new one is asked for."""
    loop = asyncio.get_running_loop()
    has_slot, slot = turn.paced, turn.begins + place * turn.apart_seconds
    await asyncio.sleep(max(0.0, slot - loop.time()))
    if has_slot and loop.time() - slot > SLOT_KEEPS_SECONDS:
        again = await desk.pacing.reserve(turn.lane, 1)
        has_slot = again.granted == 1
        await asyncio.sleep(again.first_in_seconds if has_slot else 0)
    # Frozen or starved: another may have it by now, and Stripe have forgotten its key.
    if desk.machine.lease_seconds() >= lease_ends:
        return f"{job.id} lease ended"
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

    def call(self, do: Callable[[], object]) -> None:
        """Do something small on the loop soon; called from any other thread."""
        self._loop.call_soon_threadsafe(do)

    def stop(self) -> None:
        """End the loop; whatever still runs on it is abandoned, as in a crash."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        if not self._thread.is_alive():
            self._loop.close()

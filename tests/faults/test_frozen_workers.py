"""Workers frozen past their lease: what they guessed is worth nothing any more, what Stripe told them is kept."""

import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from shared.jobs import Book, Job, Lane, Status
from tests.faults.desk_processes import DeskProcesses, WorkerProcess, charge

pytestmark = pytest.mark.anyio

LEASE_SECONDS = "2"


@dataclass(frozen=True)
class Late:
    """What a worker was about to say when it froze, how that came about, and how it was over."""

    failpoint: str
    begin: Callable[[DeskProcesses], object]
    end: Callable[[DeskProcesses], object] = lambda desk: desk.standin.clear_faults()


GUESSES = {
    "mock": Late("record.before", lambda desk: desk.standin.refuse(), lambda desk: desk.standin.accept()),
    "failed": Late("record.before", lambda desk: desk.standin.fault("status:401")),
    "retrying": Late("release.before", lambda desk: desk.standin.fault("status:429")),
    "unknown": Late("release.before", lambda desk: desk.standin.fault("status:500_before")),
}


async def freeze(desk: DeskProcesses, failpoint: str) -> WorkerProcess:
    """A worker that takes what is there and stops at a failpoint."""
    worker = desk.launch(PAYDESK_FAILPOINTS=f"{failpoint}=freeze", PAYDESK_LEASE_SECONDS=LEASE_SECONDS)
    stat = Path(f"/proc/{worker.process.pid}/stat")
    await desk.until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", 30, "the worker's freezing")
    return worker


async def lease_ended(desk: DeskProcesses, job_id: str) -> None:
    """Feed as another worker would, until it has seen the lease end."""
    async def seen() -> bool:
        await desk.jobs.feed(Lane.INTERACTIVE, most=10, grace_ms=0)
        return (await desk.job(job_id)).crashes == 1

    await desk.until(seen, 15, "the end of the frozen worker's lease")


async def thaw(desk: DeskProcesses, worker: WorkerProcess) -> None:
    """Let a worker say what it had to say, and stop."""
    worker.signal(signal.SIGCONT)
    worker.signal(signal.SIGTERM)
    await desk.until(lambda: worker.exit_code is not None, 30, "the end of the worker that was frozen")
    assert worker.exit_code == 0


@pytest.mark.parametrize("guess", GUESSES)
async def test_a_late_guess_changes_nothing_of_what_another_worker_recorded(desk: DeskProcesses, guess: str) -> None:
    late = GUESSES[guess]
    late.begin(desk)
    job_id = await desk.submit()
    frozen = await freeze(desk, late.failpoint)
    late.end(desk)
    if guess == "unknown":
        desk.standin.advance(25 * 3600)  # Stripe would play its saved 500 again until it forgets the key
    desk.launch()
    done: Job = await desk.comes_to(job_id, Status.SUCCEEDED, within_seconds=30)

    await thaw(desk, frozen)

    assert await desk.job(job_id) == done
    assert (done.book, done.attempts, done.crashes) == (Book.TEST, 2, 1)
    assert desk.charges_made() == [job_id]
    assert (await desk.ledger.totals())[Book.MOCK].processed_cents == 0


@pytest.mark.parametrize("guess", ["mock", "key refused", "card refused"])
async def test_a_late_guess_does_not_end_a_job_that_waits_in_doubt(desk: DeskProcesses, guess: str) -> None:
    if guess == "mock":
        desk.standin.refuse()
    elif guess == "key refused":
        desk.standin.fault("status:401")
    job_id = await desk.submit(charge("50.00", "pm_missing") if guess == "card refused" else None)
    frozen = await freeze(desk, "record.before")
    await lease_ended(desk, job_id)
    desk.standin.refuse()  # nobody else may end it meanwhile
    desk.left[job_id] = Status.UNKNOWN

    await thaw(desk, frozen)

    job = await desk.comes_to(job_id, Status.UNKNOWN)
    assert (job.book, job.doubts >= 1) == (None, True)
    assert {totals.processed_cents for totals in (await desk.ledger.totals()).values()} == {0}


async def test_a_late_success_ends_a_job_that_waits_in_doubt(desk: DeskProcesses) -> None:
    job_id = await desk.submit()
    frozen = await freeze(desk, "record.before")
    await lease_ended(desk, job_id)
    assert (await desk.job(job_id)).status is Status.UNKNOWN

    await thaw(desk, frozen)

    job = await desk.comes_to(job_id, Status.SUCCEEDED)
    assert (job.contradicted_by, job.book, job.attempts) == (None, Book.TEST, 1)
    assert (desk.charges_made(), desk.calls_made(job_id)) == ([job_id], 1)

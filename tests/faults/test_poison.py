"""A job that kills every worker that takes it: parked after a few, its neighbours untouched, led out by hand."""

import asyncio
from pathlib import Path

import pytest

from shared.errors import StateConflict
from shared.failpoints import EXIT_CODE
from shared.jobs import Job, Status
from shared.operator import Operator, Signed
from shared.store import CRASHES_THAT_PARK
from tests.cli.verbs import Done, paydesk
from tests.faults.desk_processes import SECRET, DeskProcesses

pytestmark = pytest.mark.anyio

NEIGHBOURS = 100
SOON_DUE_MS = 1_500
LEASE_SECONDS = "2"


async def under_a_supervisor(desk: DeskProcesses, poison: str) -> Job:
    """Restart workers that die, as `up` does, until the poison job is parked and every other one has ended."""
    deaths = 0

    async def all_rest() -> Job | None:
        nonlocal deaths
        ended = [worker.exit_code for worker in desk.workers if worker.exit_code is not None]
        assert set(ended) <= {EXIT_CODE}, "a worker died of something else"
        deaths += len(ended)
        desk.restart_ended_workers()
        counts = await desk.jobs.counts()
        done = counts[Status.SUCCEEDED] == NEIGHBOURS
        return await desk.job(poison) if done and counts[Status.PARKED] else None

    parked: Job = await desk.until(all_rest, 150, "one parked job and 100 that succeeded")
    assert deaths == CRASHES_THAT_PARK
    return parked


async def resolved(desk: DeskProcesses, folder: Path, job_id: str, *arguments: str) -> Done:
    """`paydesk jobs resolve`, as an operator types it."""
    return await asyncio.to_thread(paydesk, folder, "", "jobs", "resolve", job_id, "--who", "ann", "--why", "seen to",
                                   *arguments, REDIS_URL=desk.servers.store.url, PAYDESK_SECRET=SECRET,
                                   PAYDESK_DATA_DIR=str(desk.folder))


@pytest.mark.timeout(240)
async def test_of_100_jobs_beside_a_poison_job_one_is_parked_and_a_human_leads_it_out(desk: DeskProcesses,
                                                                                      tmp_path: Path) -> None:
    jobs = [(await desk.accept(delay_ms=SOON_DUE_MS)).job for _ in range(NEIGHBOURS + 1)]
    poison = jobs[NEIGHBOURS // 2].id
    for job in jobs:
        desk.hint(job)
    for _ in range(3):
        desk.launch(PAYDESK_FAILPOINTS=f"send.before:{poison}=exit", PAYDESK_LEASE_SECONDS=LEASE_SECONDS)

    parked = await under_a_supervisor(desk, poison)

    assert parked.id == poison
    assert parked.error is not None
    assert (parked.status, parked.error["code"], parked.crashes) == (Status.PARKED, "poison", CRASHES_THAT_PARK)
    neighbours = [await desk.job(job.id) for job in jobs if job.id != poison]
    assert {job.status for job in neighbours} == {Status.SUCCEEDED}
    assert max(job.attempts for job in neighbours) <= 2, "a neighbour died with it more than once"
    assert sorted(desk.charges_made()) == sorted(job.id for job in neighbours)

    for worker in desk.workers:
        worker.end()
    desk.workers.clear()
    with pytest.raises(StateConflict, match="Look at Stripe first"):
        await Operator(desk.calls).resolve_as_failed(poison, Signed("ann", "it kills workers"))
    assert await resolved(desk, tmp_path, poison, "--as", "ask-again") == Done(0, f"{poison} is unknown now.\n", "")
    desk.launch()  # without what was deadly
    done = await desk.comes_to(poison, Status.SUCCEEDED, within_seconds=20)
    assert done.crashes == 0
    assert sorted(desk.charges_made()) == sorted(job.id for job in jobs)

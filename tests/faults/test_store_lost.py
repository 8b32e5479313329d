"""A store that lost what was in it: nothing goes on by itself, and nothing is charged twice when it does go on."""

import asyncio
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from shared.epoch import STAMP_FILE
from shared.errors import StoreLost
from shared.jobs import Status
from shared.redis_calls import ROOT
from tests.faults.desk_processes import DeskProcesses

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

CHARGES = 12
AOF = "appendonlydir"


async def _submitted(desk: DeskProcesses, keys: Sequence[str]) -> list[str]:
    """What clients do who send each request under its own key, again if need be; answers the jobs' ids."""
    jobs = []
    for key in keys:
        accepted = await desk.accept(key=key, delay_ms=0)
        if not accepted.replayed:
            desk.hint(accepted.job)
        jobs.append(accepted.job.id)
    return jobs


def _keys(name: str, count: int) -> list[str]:
    return [f"{name} {number}" for number in range(count)]


async def _stamp_is_fresh(desk: DeskProcesses) -> bool:
    """Whether the stamp knows the last event that there is."""
    events = await desk.calls.call("XINFO STREAM", f"{ROOT}events")
    remembered = json.loads((desk.folder / STAMP_FILE).read_text())
    return bool(remembered["last_event"] == events["last-generated-id"])


async def _refuses(desk: DeskProcesses, key: str) -> None:
    with pytest.raises(StoreLost):
        await desk.accept(key=key)


async def test_a_store_that_is_emptied_under_load_charges_nobody_twice(own_desk: DeskProcesses) -> None:
    own_desk.standin.settings(latency_ms=300)
    await own_desk.start_workers(2, STRIPE_RATE_PER_SECOND="20")
    keys = _keys("emptied", CHARGES)
    jobs = await _submitted(own_desk, keys)
    await own_desk.until(lambda: len(own_desk.charges_made()) >= 5, 15, "some charges")

    await own_desk.calls.call("FLUSHALL")
    for key in keys:
        await _refuses(own_desk, key)
    with pytest.raises(StoreLost):
        await own_desk.jobs.get(jobs[0])
    with pytest.raises(StoreLost):
        await own_desk.epoch.look_again()
    assert await own_desk.calls.call("DBSIZE") == 0, "nobody writes into it, not even a heartbeat"
    late = own_desk.launch()  # starts on a lost store
    await own_desk.until(lambda: "store_lost" in late.log.read_text(), 20, "the late worker's word")

    assert await own_desk.epoch.begin_anew() == 1
    assert await _submitted(own_desk, keys) == jobs
    assert [(await own_desk.job(job)).doubts > 0 for job in jobs] == [True] * CHARGES
    await own_desk.settled(within_seconds=25)
    assert sorted(own_desk.charges_made()) == sorted(jobs)
    await own_desk.until(lambda: own_desk.beating(own_desk.workers), 10, "the heartbeats of all workers")


async def test_an_older_copy_of_the_store_is_refused_until_it_is_accepted(own_desk: DeskProcesses) -> None:
    await own_desk.start_workers(1)
    old, newer = _keys("old", 5), _keys("newer", 8)
    jobs = await _submitted(own_desk, old)
    await own_desk.settled()
    waits = (await own_desk.accept(key="waits", delay_ms=600_000)).job.id
    copy = await _copied(own_desk)

    jobs += [waits, *await _submitted(own_desk, newer)]
    own_desk.hint(await own_desk.job(waits))  # what the copy has as queued is charged meanwhile
    await own_desk.settled()
    await own_desk.until(lambda: _stamp_is_fresh(own_desk), 5, "the stamp")
    made = own_desk.calls_made()

    await _swapped_back(own_desk, copy)
    await _refuses(own_desk, "newer 0")
    own_desk.hint(await own_desk.job(waits))
    with pytest.raises(StoreLost):
        await own_desk.epoch.check()
    assert own_desk.calls_made() == made, "no worker goes on from there"

    await own_desk.epoch.begin_anew()
    await _submitted(own_desk, [*old, "waits", *newer])
    await own_desk.calls.call("ZADD", f"{ROOT}due:interactive", "XX", 0, waits)
    await own_desk.comes_to(waits, Status.SUCCEEDED)
    await own_desk.settled(within_seconds=25)
    assert sorted(own_desk.charges_made()) == sorted(jobs)


async def _copied(desk: DeskProcesses) -> Path:
    """A backup of the store, as it is now."""
    await asyncio.to_thread(desk.servers.store.stop)
    copy = desk.folder / "backup"
    shutil.copytree(desk.servers.store.folder / AOF, copy)
    await asyncio.to_thread(desk.servers.store.start)
    return copy


async def _swapped_back(desk: DeskProcesses, copy: Path) -> None:
    """The store after somebody put a backup in its place."""
    await asyncio.to_thread(desk.servers.store.kill)
    shutil.rmtree(desk.servers.store.folder / AOF)
    shutil.copytree(copy, desk.servers.store.folder / AOF)
    await asyncio.to_thread(desk.servers.store.start)

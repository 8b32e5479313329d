"""What an acknowledged job survives: with AOF `always` everything, with `everysec` nothing is charged twice."""

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cli.servers import STORE, EmbeddedServer
from shared.errors import StoreLost, StoreUnavailable
from shared.redis_calls import ROOT
from standin.client import Standin
from tests.faults import invariants
from tests.faults.desk_processes import DeskProcesses, Servers

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180),
              pytest.mark.skipif(shutil.which("cc") is None, reason="a disk that stalls is made with a C compiler")]

STALLS = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

static void stall(void) {
    const char *file = getenv("STALLS_WHILE_THERE_IS");
    while (file && access(file, F_OK) == 0) usleep(5000);
}
int fdatasync(int fd) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fdatasync");
    stall();
    return real(fd);
}
int fsync(int fd) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fsync");
    stall();
    return real(fd);
}
"""
ROUNDS_UNTIL_ONE_LOSES = 8


class StallingStore(EmbeddedServer):
    """The store on a disk whose syncs wait while a file is there."""

    def __init__(self, folder: Path) -> None:
        super().__init__(STORE, folder)
        self._shim, source, self._stalls = folder / "stalls.so", folder / "stalls.c", folder / "stalls"
        source.write_text(STALLS)
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", self._shim, source, "-ldl"], check=True)

    @property
    def command(self) -> tuple[str, ...]:
        """How to start it."""
        return ("env", f"LD_PRELOAD={self._shim}", f"STALLS_WHILE_THERE_IS={self._stalls}", *super().command)

    def stall(self) -> None:
        """Let every sync wait from now on."""
        self._stalls.touch()

    def die(self) -> None:
        """Be killed while the disk stalls; when it is started again, the disk is well."""
        self.kill()
        self._stalls.unlink()


@pytest.fixture
async def stalling(standin: Standin, tmp_path: Path, anyio_backend: str) -> AsyncIterator[DeskProcesses]:
    """A desk on a store whose disk can be made to stall; at the end every invariant holds."""
    servers = Servers(tmp_path)
    servers.store = StallingStore(tmp_path)
    servers.start()
    desk = DeskProcesses(servers, standin, tmp_path)
    try:
        await desk.open()
        yield desk
        await invariants.check(desk)
    finally:
        await desk.close()
        servers.stop()


def _store(desk: DeskProcesses) -> StallingStore:
    assert isinstance(desk.servers.store, StallingStore)
    return desk.servers.store


async def _killed_while_it_stalls(desk: DeskProcesses, name: str) -> list[str]:
    """Accept until the store is killed; answers what was acknowledged."""
    acknowledged: list[str] = []

    async def submit() -> None:
        for number in range(100_000):
            key = f"{name} {number}"
            acknowledged.append((await desk.accept(key=key, delay_ms=60_000)).job.id)
            if number == 15:
                _store(desk).stall()

    with pytest.raises(StoreUnavailable):  # within the deadline, as the disk does not say that it is written
        await submit()
    _store(desk).die()
    await asyncio.to_thread(desk.servers.store.start)
    return acknowledged


async def _nothing_acknowledged_is_lost(desk: DeskProcesses, rounds: int) -> None:
    for number in range(rounds):
        acknowledged = await _killed_while_it_stalls(desk, f"round {number}")
        assert 16 <= len(acknowledged) < 100, "what the disk did not have was not acknowledged"
        for job_id in acknowledged:
            assert (await desk.job(job_id)).doubts == 0
    await desk.epoch.look_again()
    assert await _losses(desk) == 0
    await desk.start_workers(1)
    for job_id in await desk.calls.call("ZRANGE", f"{ROOT}jobs", 0, -1):
        await desk.calls.call("ZADD", f"{ROOT}due:interactive", "XX", 0, job_id)
    await desk.settled(within_seconds=30)


async def _losses(desk: DeskProcesses) -> int:
    return int(await desk.calls.call("HGET", f"{ROOT}epoch", "losses"))


async def test_what_was_acknowledged_survives_a_kill_while_the_disk_stalls(stalling: DeskProcesses) -> None:
    await _nothing_acknowledged_is_lost(stalling, 2)


@pytest.mark.long
@pytest.mark.timeout(1200)
async def test_what_was_acknowledged_survives_many_kills(stalling: DeskProcesses) -> None:
    await _nothing_acknowledged_is_lost(stalling, 100)


async def _round_with_everysec(desk: DeskProcesses, name: str) -> int:
    """Kill a store that has not written what it acknowledged, and have clients send all of it again; answers how many
    jobs it had lost.
    """
    before = await _losses(desk)
    await desk.calls.call("CONFIG SET", "appendfsync", "everysec")
    await desk.epoch.look_again()
    _store(desk).stall()
    await desk.accept(key=f"{name} first", delay_ms=0)
    await desk.until(lambda: _syncs(desk), 10, "a sync that stalls")
    keys = [f"{name} {number}" for number in range(6)]
    jobs = [(await desk.accept(key=key, delay_ms=0)).job for key in keys]
    for job in jobs:
        desk.hint(job)
    await desk.until(lambda: {job.id for job in jobs} & set(desk.charges_made()), 10, "a charge")
    _store(desk).die()
    await asyncio.to_thread(desk.servers.store.start)

    try:
        await desk.epoch.look_again()
    except StoreLost:  # the stamp was written before the store's file was
        await desk.epoch.begin_anew()
    assert await _losses(desk) == before + 1
    again = [await desk.accept(key=key, delay_ms=0) for key in (*keys, f"{name} first")]
    lost = [accepted.job for accepted in again if not accepted.replayed]
    assert all(job.doubts == 1 for job in lost)
    await desk.settled(within_seconds=25)
    return len(lost)


async def _syncs(desk: DeskProcesses) -> bool:
    return bool((await desk.calls.call("INFO", "persistence"))["aof_pending_bio_fsync"])


async def test_what_everysec_loses_is_counted_and_doubted_and_never_charged_twice(stalling: DeskProcesses) -> None:
    await stalling.start_workers(1, PAYDESK_LEASE_SECONDS="2")
    for number in range(ROUNDS_UNTIL_ONE_LOSES):
        if await _round_with_everysec(stalling, f"round {number}"):
            break
    else:
        pytest.fail("no round lost anything, so nothing was shown")
    charged = stalling.charges_made()
    assert len(charged) == len(set(charged))

"""A power cut may leave any beginning of the store's append-only file: it loads, and the books hold in every one."""

import asyncio
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.servers import STORE, EmbeddedServer
from shared.jobs import Job, Mode, Status
from shared.redis_calls import ROOT, RedisCalls
from shared.verify import differences
from tests.shared.till import Till, declined, emptied, mocked, new, succeeded, waiting

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

SHORT = 60
LONG = 2_500
INNER_BYTES = 8
"""Cuts inside of each command, beside the one at its edge."""
INCREMENTAL = "appendonlydir/appendonly.aof.1.incr.aof"


async def _history(till: Till, count: int) -> None:
    """Jobs of every fate: settled, declined, mocked, pending, given back, crashed, waiting."""
    for number in range(count):
        charge = [await till.started(new(f"job_{number}_{fate}")) for fate in "abcd"]
        await till.record(succeeded(charge[0]))
        await till.record(declined(charge[1]))
        await till.record(waiting(charge[2], look_ms=60_000))
        await till.release(charge[3], unsent=number % 2 == 0, delay_ms=60_000)
        none = new(f"job_{number}_e", mode=Mode.NONE)
        await till.accept(none)
        [simulated] = await till.claim(none.id, mode=Mode.NONE, account="")
        await till.record(mocked(simulated))
        await till.accept(new(f"job_{number}_f"))
        await till.crash(f"job_{number}_f")


def _edges(aof: bytes) -> Iterator[tuple[int, int]]:
    """Where each command begins and ends, by the protocol's own lengths."""
    at = 0
    while at < len(aof):
        begin = at
        if aof[at:at + 1] == b"#":  # a comment with the time
            at = aof.index(b"\n", at) + 1
            continue
        line = aof.index(b"\r\n", at)
        parts, at = int(aof[at + 1:line]), line + 2
        for _ in range(parts):
            line = aof.index(b"\r\n", at)
            at = line + 2 + int(aof[at + 1:line]) + 2
        yield begin, at


def _cuts(aof: bytes, most: int) -> list[int]:
    """Edges of commands, and places inside of them; the same ones in every run."""
    chance = random.Random(most)  # noqa: S311  # picks cuts; nothing secret
    edges = list(_edges(aof))
    inner = [chance.randrange(begin, end) for begin, end in edges for _ in range(INNER_BYTES)]
    ends = [end for _, end in edges]
    chosen = chance.sample(ends, min(len(ends), most // 2))
    return sorted({*chosen, *chance.sample(inner, min(len(inner), most - len(chosen))), len(aof)})


async def _check(server: EmbeddedServer) -> int:
    """Assert that what is there is consistent in itself; answers how many jobs there are."""
    calls = RedisCalls.connect(server.url, deadline_seconds=10)
    try:
        till = Till(calls)
        assert await differences(calls) == []
        jobs: list[Job] = [await till.job(job_id) for job_id in await calls.call("ZRANGE", f"{ROOT}jobs", 0, -1)]
        booked = {entry["job"]: int(entry["cents"]) for entry in await till.entries()}
        paid = {job.id: job.amount_cents for job in jobs if job.status is Status.SUCCEEDED}
        assert booked == paid, "a result and its money are one step"
        stand = await till.index_of([job.id for job in jobs])
        assert stand == {job.id: [job.status] for job in jobs}
        assert len(await calls.call("KEYS", f"{ROOT}job:*")) == len(jobs)
        return len(jobs)
    finally:
        await calls.close()


async def _sweep(folder: Path, history: int, most: int) -> int:
    """Cut the file of one history in many places; answers how many beginnings were checked."""
    whole = EmbeddedServer(STORE, folder / "whole")
    whole.start()
    calls = RedisCalls.connect(whole.url, deadline_seconds=10)
    await emptied(calls)
    await _history(Till(calls), history)
    jobs = await _check(whole)
    await calls.close()
    whole.kill()
    aof = (whole.folder / INCREMENTAL).read_bytes()
    cuts = _cuts(aof, most)
    seen = set()
    for cut in cuts:
        server = EmbeddedServer(STORE, folder / "cut")
        shutil.rmtree(server.folder / "appendonlydir", ignore_errors=True)
        shutil.copytree(whole.folder / "appendonlydir", server.folder / "appendonlydir")
        (server.folder / INCREMENTAL).write_bytes(aof[:cut])
        try:
            await asyncio.to_thread(server.start)
            seen.add(await _check(server))
        finally:
            server.kill()
    assert max(seen) == jobs, "the whole file is one of its beginnings"
    assert len(seen) > min(jobs, len(cuts)) // 4, "the cuts lie all over the history"
    return len(cuts)


async def test_the_books_hold_in_every_beginning_of_the_file(tmp_path: Path) -> None:
    assert await _sweep(tmp_path, 4, SHORT) >= SHORT


@pytest.mark.long
@pytest.mark.timeout(1800)
async def test_the_books_hold_in_thousands_of_beginnings(tmp_path: Path) -> None:
    assert await _sweep(tmp_path, 20, LONG) >= 2_000

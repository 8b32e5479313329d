"""What the log files cost: both rebuilt by the command that a person types, against those that a follower wrote."""

import asyncio
import contextlib
import subprocess
import sys
import time
from pathlib import Path

from bench.figure import Figure
from bench.running import CHECKOUT
from shared.events import Events, Log
from shared.redis_calls import ROOT, RedisCalls
from shared.settings import process_environment
from worker.log_file import LogFolder
from worker.log_follower import FollowedLog

_TOGETHER = 1_000
_OF_A_CHARGE = (
    {"event": "job.queued", "status": "queued"}, {"event": "job.running", "status": "running", "attempt": "1"},
    {"event": "payment.succeeded", "status": "succeeded", "book": "test"},
    {"event": "job.succeeded", "status": "succeeded", "book": "test"})
_OF_ITS_REVENUE = ({"event": "api_call", "method": "POST", "path": "/api/stripe/process-charge", "status_code": "202",
                    "ms": "3"}, {"event": "ledger.captured", "book": "test", "total_cents": "5000"})
ENTRIES = 100_000


def rebuilding(store_url: str, folder: Path, entries: int = ENTRIES) -> list[Figure]:
    """How long `paydesk log rebuild` takes for so many events, in what memory, and how many bytes differ."""
    asyncio.run(_fill(store_url, entries))
    start = time.perf_counter()
    asyncio.run(_follow(store_url, folder / "followed"))
    followed = time.perf_counter() - start
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "cli", "log", "rebuild", str(folder / "rebuilt"), "--data-dir",
                                str(folder)], cwd=CHECKOUT, stdout=subprocess.DEVNULL,
                               env=process_environment(REDIS_URL=store_url, STRIPE_SECRET_KEY=""))
    most_kb = _most_memory_kb(process)
    rebuilt = time.perf_counter() - start
    if process.returncode:
        raise RuntimeError(f"paydesk log rebuild ended with {process.returncode}")
    different = sum(_different((folder / "followed" / log).read_bytes(), (folder / "rebuilt" / log).read_bytes())
                    for log in Log)
    return [Figure(f"logs of {entries:,} events rebuilt", rebuilt, "s", 30),
            Figure("bytes in which they differ from those followed", different, "B", 0),
            Figure(f"logs of {entries:,} events followed", followed, "s"),
            Figure("memory to rebuild them, all of the process", most_kb / 1024, "MB", 150)]


def _most_memory_kb(process: subprocess.Popen[bytes]) -> int:
    """The most memory a process had, asked until it ends. What the kernel tells afterwards counts the parent's too."""
    most = 0
    while process.poll() is None:
        with contextlib.suppress(OSError, StopIteration, IndexError):
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            most = max(most, int(next(line for line in lines if line.startswith("VmHWM")).split()[1]))
        time.sleep(0.01)
    return most


def _different(one: bytes, other: bytes) -> int:
    if one == other:
        return 0
    return abs(len(one) - len(other)) + sum(a != b for a, b in zip(one, other, strict=False))


async def _fill(store_url: str, entries: int) -> None:
    """Two thirds of a desk's changes, one third of calls and ledger entries, in the shapes that the scripts write."""
    charges = entries // (len(_OF_A_CHARGE) + len(_OF_ITS_REVENUE))
    rest = entries - charges * (len(_OF_A_CHARGE) + len(_OF_ITS_REVENUE))
    calls = RedisCalls.connect(store_url, deadline_seconds=10)
    try:
        for first in range(0, charges + rest, _TOGETHER):
            async with calls.redis.pipeline(transaction=False) as together:
                for number in range(first, min(first + _TOGETHER, charges + rest)):
                    job = {"job_id": f"job_{number:026d}", "kind": "charge", "amount_cents": "5000", "currency": "usd",
                           "payment_intent_id": f"pi_{number:024d}"}
                    shapes = ((Log.PAYMENTS, _OF_A_CHARGE), (Log.REVENUE, _OF_ITS_REVENUE))
                    for log, events in shapes if number < charges else ((Log.PAYMENTS, _OF_A_CHARGE[:1]),):
                        for event in events:
                            flat = [part for pair in (event | job).items() for part in pair]
                            together.execute_command("XADD", ROOT + log.stream, "*", *flat)
                await together.execute()
    finally:
        await calls.close()


async def _follow(store_url: str, path: Path) -> None:
    calls, folder = RedisCalls.connect(store_url, deadline_seconds=10), LogFolder(path)
    try:
        folder.hold()
        for log in Log:
            await FollowedLog(Events(calls), folder, log).catch_up()
    finally:
        folder.let_go()
        await calls.close()

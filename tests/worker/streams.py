"""What tests of the logs put into the streams, and what a folder of logs must then hold."""

import gzip
import os
import random
import shutil
from pathlib import Path

from shared.events import START, Events, Log
from shared.redis_calls import ROOT, RedisCalls

_TOGETHER = 500


async def add_events(calls: RedisCalls, count: int, *, logs: tuple[Log, ...] = tuple(Log), together: bool = False
                     ) -> None:
    """Add as many lines to each log: changes of jobs, ledger entries and calls; many, or `together` all, in one
    millisecond."""
    for first in range(0, count, _TOGETHER):
        async with calls.redis.pipeline(transaction=together) as adding:  # of one transaction, all have one time
            for number in range(first, min(count, first + _TOGETHER)):
                for log in logs:
                    name = "job.queued" if log is Log.PAYMENTS else ("api_call", "ledger.captured")[number % 2]
                    adding.execute_command("XADD", ROOT + log.stream, "*", "event", name, "job_id", f"job_{number}",
                                           "amount_cents", "5000", "path", "/api/stripe/stats"[:number % 18])
            await adding.execute()


async def rebuilt(calls: RedisCalls, log: Log) -> str:
    """The log as the store has it now."""
    return "".join([page.text async for page in Events(calls).pages(log, START)])


def written(folder: Path, log: Log) -> str:
    """What stands in a folder of a log: what was moved away, oldest first, then the file itself."""
    moved = sorted(folder.glob(f"{log}-*"), key=lambda path: int(path.name.split("-")[1].partition(".")[0]))
    here = folder / log
    texts = [gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes() for path in moved]
    return b"".join([*texts, here.read_bytes() if here.exists() else b""]).decode()


def rotate(path: Path, how: str, number: int) -> None:
    """Take a log away as the programs do that rotate logs."""
    to = path.with_name(f"{path.name}-{number}")
    if how == "compress":
        to.with_name(f"{to.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    elif how == "copy and truncate":
        shutil.copy(path, to)
        os.truncate(path, 0)
    else:
        path.rename(to)
        if how == "move and create":
            path.touch(0o600)


def piece_of(page: str, seed: int) -> str:
    """A beginning of some lines, as a write that was cut short leaves it."""
    return page[:random.Random(seed).randrange(len(page))]  # noqa: S311  # a seed makes it repeatable

"""A follower in a process of its own: `python -m tests.worker.follower_process URL FOLDER [--failpoints …] [--bytes N]
[--user N]`. SIGUSR1 lifts the limit on the size of files."""

import argparse
import asyncio
import os
import resource
import signal
from pathlib import Path

from shared.events import Events
from shared.failpoints import arm
from shared.logs import configure_logging
from shared.redis_calls import RedisCalls
from worker.log_follower import LogFollower

TICK_SECONDS = 0.02


async def _follow(url: str, folder: Path, user: int | None) -> None:
    calls = RedisCalls.connect(url, deadline_seconds=5)
    if user is not None:  # only once everything is loaded: another user may not read the interpreter's own files
        await asyncio.to_thread(asyncio.run, asyncio.sleep(0))
        await calls.call("PING")
        os.setuid(user)
    await LogFollower(Events(calls), folder, tick_seconds=TICK_SECONDS).run()


def _limit(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--failpoints", default="")
    parser.add_argument("--bytes", type=int)
    parser.add_argument("--user", type=int)
    given = parser.parse_args()
    configure_logging("follower")
    arm(given.failpoints)
    signal.signal(signal.SIGUSR1, lambda *_: _limit(resource.RLIM_INFINITY))
    if given.bytes is not None:
        _limit(given.bytes)
    asyncio.run(_follow(given.url, given.folder, given.user))

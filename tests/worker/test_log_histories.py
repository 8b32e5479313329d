"""Over random histories of a log folder, what stands in it at the end is what the store renders."""

import asyncio
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cli.servers import EmbeddedServer
from shared.events import PAGE, Events, Log
from shared.failpoints import FailpointReached, arm
from shared.redis_calls import ROOT, RedisCalls
from tests.shared.till import emptied
from tests.worker.streams import add_events, piece_of, rebuilt, rotate, written
from worker.log_file import LogFolder
from worker.log_follower import FollowedLog

ADDED = st.sampled_from([0, 1, 7, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE + 3])
STEPS = st.lists(st.one_of(
    st.tuples(st.just("add"), ADDED),
    st.tuples(st.just("add in one millisecond"), ADDED),
    st.tuples(st.just("follow"), st.just(0)),
    st.tuples(st.sampled_from(["log.before", "log.written", "log.after"]), st.integers(1, 3)),
    st.tuples(st.just("tear"), st.integers(0, 10_000)),
    st.tuples(st.just("start anew"), st.just(0)),
    st.tuples(st.sampled_from(["move", "compress", "copy and truncate"]), st.integers(0, 1)),
    st.tuples(st.just("clock ahead"), st.integers(1, 10_000_000)),
), max_size=14)


@dataclass
class History:
    """One folder, and what is done to it."""

    calls: RedisCalls
    path: Path
    log: Log
    folder: LogFolder
    moved: int = 0
    clean: bool = True
    """Whether the last follower ended between two steps, so that its position file says all that the file says."""

    async def play(self, steps: list[tuple[str, int]]) -> None:
        """Do all steps, follow to the end, and compare."""
        await emptied(self.calls)
        self.start()
        for name, number in steps:
            await self.step(name, number)
        self.start()
        await self.followed.catch_up()
        assert written(self.path, self.log) == await rebuilt(self.calls, self.log)
        self.folder.let_go()

    def start(self) -> None:
        """A follower that knows nothing, as a new process is."""
        self.folder.let_go()
        self.folder = LogFolder(self.path)
        assert self.folder.hold()
        self.followed = FollowedLog(Events(self.calls), self.folder, self.log)

    async def step(self, name: str, number: int) -> None:
        if name == "add":
            await add_events(self.calls, number, logs=(self.log,))
        elif name == "add in one millisecond":
            await add_events(self.calls, number, logs=(self.log,), together=True)
        elif name == "follow":
            await self.followed.catch_up()
            self.clean = True
        elif name.startswith("log."):
            await self.die_at(name, number)
        elif name == "tear":
            await self.tear(number)
        elif name == "start anew":
            self.start()
        elif name == "clock ahead":
            [*_, last] = ["0-0", *[entry for entry, _ in await self.calls.call(
                "XREVRANGE", ROOT + self.log.stream, "+", "-", "COUNT", 1)]]
            ms = max(int(last.partition("-")[0]), 1_795_000_000_000) + number
            await self.calls.call("XADD", ROOT + self.log.stream, f"{ms}-0", "event", "job.queued")
        else:
            await self.take_away(name, followed=bool(number))

    async def take_away(self, how: str, *, followed: bool) -> None:
        """Rotate. Only a file that stays readable may go in the middle of a write: else its end is known nowhere."""
        if followed or (how != "move" and not self.clean):
            await self.step("follow", 0)
        if (self.path / self.log).exists():
            self.moved += 1
            rotate(self.path / self.log, how, self.moved)

    async def die_at(self, failpoint: str, page: int) -> None:
        arm(f"{failpoint}=raise@{page}")
        try:
            await self.followed.catch_up()
            self.clean = True
        except FailpointReached:
            self.clean = failpoint != "log.written"
            self.start()
        finally:
            arm("")

    async def tear(self, seed: int) -> None:
        """Killed in the middle of a write: the beginning of what comes next stands in the file."""
        await self.followed.catch_up()
        before = len(await rebuilt(self.calls, self.log))
        await add_events(self.calls, 1 + seed % 40, logs=(self.log,))
        text = (await rebuilt(self.calls, self.log))[before:]
        with (self.path / self.log).open("a") as file:
            file.write(piece_of(text, seed))
        self.clean = False
        self.start()


@pytest.fixture(scope="module")
def ran(valkey: EmbeddedServer) -> Iterator[tuple[asyncio.Runner, RedisCalls]]:
    with asyncio.Runner() as runner:

        async def connect() -> RedisCalls:
            return RedisCalls.connect(valkey.url, deadline_seconds=5)

        calls = runner.run(connect())
        yield runner, calls
        runner.run(calls.close())


@settings(max_examples=60, deadline=None, database=None, phases=[Phase.generate, Phase.shrink],
          suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(log=st.sampled_from(list(Log)), steps=STEPS)
def test_whatever_happens_the_files_hold_what_the_store_renders(ran: tuple[asyncio.Runner, RedisCalls], log: Log,
                                                                steps: list[tuple[str, int]]) -> None:
    runner, calls = ran
    with tempfile.TemporaryDirectory() as path:
        runner.run(History(calls, Path(path), log, LogFolder(Path(path))).play(steps))

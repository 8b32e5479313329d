"""The log files hold what the store has, to the byte, whatever is done to the follower, its folder and its files."""

import asyncio
import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from cli.servers import STORE, EmbeddedServer
from shared.events import PAGE, Events, Log, Position, gap
from shared.failpoints import EXIT_CODE, arm
from shared.redis_calls import ROOT, RedisCalls
from tests.cli.conftest import eventually, eventually_async
from tests.worker.follower_process import TICK_SECONDS
from tests.worker.streams import add_events, rebuilt, rotate, written
from worker.log_file import LogFolder
from worker.log_follower import LogFollower

pytestmark = pytest.mark.anyio

NOBODY = 65534
CHECKOUT = Path(__file__).resolve().parents[2]


@contextlib.asynccontextmanager
async def following(calls: RedisCalls, folder: Path) -> AsyncIterator[asyncio.Task[None]]:
    """A follower on this loop; at the end it must still be alive."""
    task = asyncio.create_task(LogFollower(Events(calls), folder, tick_seconds=TICK_SECONDS).run())
    try:
        yield task
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@contextlib.contextmanager
def process(valkey: EmbeddedServer, folder: Path, *options: str, err: Path | None = None
            ) -> Iterator[subprocess.Popen[bytes]]:
    """A follower in a process of its own, gone at the end."""
    with (err.open("ab") if err else contextlib.nullcontext(subprocess.DEVNULL)) as output:
        running = subprocess.Popen([sys.executable, "-m", "tests.worker.follower_process", valkey.url, str(folder),
                                    *options], cwd=CHECKOUT, stderr=output)
    try:
        yield running
    finally:
        running.kill()
        running.wait()


async def caught_up(calls: RedisCalls, folder: Path, *logs: Log) -> None:
    """Return once the folder has all that the store has; fail when it has anything else."""
    whole = {log: await rebuilt(calls, log) for log in logs or Log}
    await eventually_async(lambda: all(len(written(folder, log)) >= len(text) for log, text in whole.items()), "all")
    for log, text in whole.items():
        assert written(folder, log) == text


async def comes_to(folder: Path, log: Log, size: int) -> None:
    """Return once a log has so many characters."""
    await eventually_async(lambda: len(written(folder, log)) >= size, f"{size} characters of {log}")


async def written_by_a_process(valkey: EmbeddedServer, calls: RedisCalls, folder: Path, *options: str) -> int | None:
    """Let a follower run until it ends by itself, or has written all; answers how it ended by itself."""
    with process(valkey, folder, *options) as running:
        whole = {log: await rebuilt(calls, log) for log in Log}
        await eventually_async(lambda: running.poll() is not None or all(
            len(written(folder, log)) >= len(text) for log, text in whole.items()))
        return running.poll()


async def test_lines_come_as_things_happen(calls: RedisCalls, tmp_path: Path) -> None:
    async with following(calls, tmp_path / "new" / "folder"):
        for count in (3, PAGE * 2, 1):
            await add_events(calls, count)
            await caught_up(calls, tmp_path / "new" / "folder")
    for path in (tmp_path / "new" / "folder").iterdir():
        assert path.stat().st_mode & 0o077 == 0, path


@pytest.mark.parametrize("where", ["log.before", "log.written", "log.after"])
async def test_killed_at_any_step_it_goes_on_where_it_was(valkey: EmbeddedServer, calls: RedisCalls, tmp_path: Path,
                                                          where: str) -> None:
    await add_events(calls, PAGE * 2)
    assert await written_by_a_process(valkey, calls, tmp_path, "--failpoints", f"{where}=exit@2") == EXIT_CODE
    await add_events(calls, 5)
    assert await written_by_a_process(valkey, calls, tmp_path, "--failpoints", f"{where}=exit") == EXIT_CODE
    async with following(calls, tmp_path):
        await caught_up(calls, tmp_path)


async def test_killed_while_much_is_written(valkey: EmbeddedServer, calls: RedisCalls, tmp_path: Path) -> None:
    await add_events(calls, 3_000)
    for share in (0.2, 0.5, 0.8):
        whole = await rebuilt(calls, Log.PAYMENTS)
        with process(valkey, tmp_path) as running:
            await comes_to(tmp_path, Log.PAYMENTS, int(len(whole) * share))
            running.kill()
            running.wait()
        assert whole.startswith(written(tmp_path, Log.PAYMENTS).rpartition("\n")[0])
        await add_events(calls, 1_000)
    async with following(calls, tmp_path):
        await caught_up(calls, tmp_path)


async def test_of_two_processes_one_writes_until_it_is_killed(valkey: EmbeddedServer, calls: RedisCalls,
                                                              tmp_path: Path) -> None:
    await add_events(calls, 10)
    with process(valkey, tmp_path) as first:
        await caught_up(calls, tmp_path)
        async with following(calls, tmp_path):
            await add_events(calls, PAGE)
            await caught_up(calls, tmp_path)
            first.send_signal(signal.SIGSTOP)
            await add_events(calls, 10)
            whole = await rebuilt(calls, Log.PAYMENTS)
            await asyncio.sleep(TICK_SECONDS * 5)  # nothing to poll for: that nothing happens while the lock is held
            assert len(written(tmp_path, Log.PAYMENTS)) < len(whole)
            first.kill()
            await caught_up(calls, tmp_path)


@pytest.mark.parametrize("how", ["move", "compress", "copy and truncate", "move and create"])
@pytest.mark.parametrize("running", [True, False])
async def test_rotation_parts_no_line_from_its_followers(calls: RedisCalls, tmp_path: Path, *, running: bool,
                                                         how: str) -> None:
    await add_events(calls, 300)
    async with contextlib.AsyncExitStack() as stack:
        async with following(calls, tmp_path):
            await caught_up(calls, tmp_path)
            if running:
                for log in Log:
                    rotate(tmp_path / log, how, 1)
                await add_events(calls, 300)
                await caught_up(calls, tmp_path)
        if not running:
            for log in Log:
                rotate(tmp_path / log, how, 1)
            await add_events(calls, 300)
        await stack.enter_async_context(following(calls, tmp_path))
        await caught_up(calls, tmp_path)
    assert all((tmp_path / log).stat().st_size for log in Log)


async def test_a_torn_line_that_was_moved_away_is_mended_there(calls: RedisCalls, tmp_path: Path) -> None:
    await add_events(calls, 20)
    async with following(calls, tmp_path):
        await caught_up(calls, tmp_path)
    os.truncate(tmp_path / Log.PAYMENTS, (tmp_path / Log.PAYMENTS).stat().st_size - 30)
    (tmp_path / f".{Log.PAYMENTS}.position").unlink()
    rotate(tmp_path / Log.PAYMENTS, "move", 1)
    async with following(calls, tmp_path):
        await caught_up(calls, tmp_path)


FOREIGN = ["# edited by hand\n", '{"ts":"2030-01-01T00:00:00.000Z","event":"job.queued","id":"9999999999999-0"}\n',
           '{"ts":"x","id":[1]}\n', "\x00" * 4096 + "\n", "[" * 5_000 + "\n", "é" * 100_000 + "\n"]


@pytest.mark.parametrize("line", FOREIGN, ids=["comment", "future", "no id", "zeros", "deep", "longer than a tail"])
@pytest.mark.parametrize("running", [True, False])
async def test_a_line_that_is_not_ours_stays_and_costs_nothing(calls: RedisCalls, tmp_path: Path, line: str, *,
                                                               running: bool) -> None:
    await add_events(calls, 5)
    async with contextlib.AsyncExitStack() as stack:
        async with following(calls, tmp_path):
            await caught_up(calls, tmp_path)
            if running:
                await stack.enter_async_context(following(calls, tmp_path))
        with (tmp_path / Log.PAYMENTS).open("a") as file:
            file.write(line)
        before = written(tmp_path, Log.PAYMENTS)
        if not running:
            await stack.enter_async_context(following(calls, tmp_path))
        await add_events(calls, 5)
        await caught_up(calls, tmp_path, Log.REVENUE)
        whole = await rebuilt(calls, Log.PAYMENTS)
        await eventually_async(lambda: len(written(tmp_path, Log.PAYMENTS)) >= len(whole) + len(line))
        assert written(tmp_path, Log.PAYMENTS) == before + whole[len(before) - len(line):]


@pytest.mark.parametrize(("torn", "kept"), [
    ('{"ts', ""), ('{"ts":"' + "x" * 60_000, ""), ('{"ts":"' + "x" * 100_000, None), ("half a note", None)],
    ids=["short", "longer than usual", "longer than any line of ours", "not ours"])
async def test_an_unfinished_last_line_is_cut_off_or_finished(calls: RedisCalls, tmp_path: Path, torn: str,
                                                              kept: str | None) -> None:
    await add_events(calls, 5)
    async with following(calls, tmp_path):
        await caught_up(calls, tmp_path)
    before = written(tmp_path, Log.PAYMENTS)
    with (tmp_path / Log.PAYMENTS).open("a") as file:
        file.write(torn)
    await add_events(calls, 5)
    whole = await rebuilt(calls, Log.PAYMENTS)
    expected = before + (torn + "\n" if kept is None else kept) + whole[len(before):]
    async with following(calls, tmp_path):
        await eventually_async(lambda: len(written(tmp_path, Log.PAYMENTS)) == len(expected))
    assert written(tmp_path, Log.PAYMENTS) == expected


async def test_lines_that_an_editor_dropped_are_written_again(calls: RedisCalls, tmp_path: Path) -> None:
    await add_events(calls, 20)
    async with following(calls, tmp_path):
        await caught_up(calls, tmp_path)
        old = written(tmp_path, Log.PAYMENTS).splitlines(keepends=True)[:7]
        (tmp_path / "saved").write_text("".join(old).rstrip("\n"))
        (tmp_path / "saved").rename(tmp_path / Log.PAYMENTS)
        await add_events(calls, 1)
        await caught_up(calls, tmp_path)


@pytest.mark.parametrize("put", [
    lambda path: path.symlink_to(path.with_name("target")), lambda path: path.mkdir(), lambda path: os.mkfifo(path)],
    ids=["symlink", "folder", "pipe"])
async def test_what_is_no_file_of_ours_is_refused_and_said_once(calls: RedisCalls, tmp_path: Path,
                                                                put: Callable[[Path], None]) -> None:
    (tmp_path / "target").write_text("precious, without a line end")
    put(tmp_path / Log.PAYMENTS)
    with capture_logs() as said:
        async with following(calls, tmp_path):
            for _ in range(3):
                await add_events(calls, 5)
                await caught_up(calls, tmp_path, Log.REVENUE)
            assert [(line["event"], line["log"]) for line in said] == [("log_stopped", Log.PAYMENTS)]
            (tmp_path / Log.PAYMENTS).rename(tmp_path / "away")
            await caught_up(calls, tmp_path)
            await eventually_async(lambda: len(said) == 2, "the second line")
    assert [line["event"] for line in said] == ["log_stopped", "log_resumed"]
    assert (tmp_path / "target").read_text() == "precious, without a line end"


async def test_a_folder_deleted_or_replaced_is_written_on(calls: RedisCalls, tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    await add_events(calls, 5)
    async with following(calls, folder), following(calls, folder):
        await caught_up(calls, folder)
        shutil.rmtree(folder)
        await caught_up(calls, folder)
        folder.rename(tmp_path / "old")
        await add_events(calls, 5)
        await caught_up(calls, folder)
        folder.rename(tmp_path / "older")
        folder.write_text("no folder")
        await add_events(calls, 5)
        folder.unlink()
        await caught_up(calls, folder)


async def test_a_folder_that_must_not_be_written_is_said_once_and_resumed(valkey: EmbeddedServer, calls: RedisCalls,
                                                                          tmp_path: Path) -> None:
    await add_events(calls, 5)
    user = ["--user", str(NOBODY)] if os.getuid() == 0 else []
    with tempfile.TemporaryDirectory() as open_to_all:  # pytest's own folders let nobody else in
        Path(open_to_all).chmod(0o755)
        folder = Path(open_to_all) / "logs"
        folder.mkdir(mode=0o555)
        with process(valkey, folder, *user, err=tmp_path / "err"):
            eventually(lambda: (tmp_path / "err").read_text().count("log_stopped") == 2)
            folder.chmod(0o777)
            await eventually_async(lambda: (tmp_path / "err").read_text().count("log_resumed") == 2)
            await caught_up(calls, folder)
        assert (tmp_path / "err").read_text().count("log_stopped") == 2
        assert '"reason": "EACCES"' in (tmp_path / "err").read_text()


async def test_a_full_disk_loses_nothing_once_there_is_room(valkey: EmbeddedServer, calls: RedisCalls,
                                                            tmp_path: Path) -> None:
    await add_events(calls, 100)
    async with following(calls, tmp_path):
        await caught_up(calls, tmp_path)
    size = (tmp_path / Log.PAYMENTS).stat().st_size
    await add_events(calls, PAGE * 2)
    with process(valkey, tmp_path, "--bytes", str(size + 1_000), err=tmp_path / "err") as running:
        eventually(lambda: (tmp_path / "err").read_text().count("log_stopped") >= 1)
        await add_events(calls, 100)
        before = written(tmp_path, Log.PAYMENTS)
        assert (await rebuilt(calls, Log.PAYMENTS)).startswith(before)
        rotate(tmp_path / Log.PAYMENTS, "move", 1)
        running.send_signal(signal.SIGUSR1)
        await caught_up(calls, tmp_path)


async def test_a_follower_that_was_overtaken_says_one_gap(calls: RedisCalls, tmp_path: Path) -> None:
    await add_events(calls, 10)
    async with following(calls, tmp_path):
        await caught_up(calls, tmp_path)
    before = {log: written(tmp_path, log) for log in Log}
    await add_events(calls, 30)
    for log in Log:
        await calls.call("XTRIM", ROOT + log.stream, "MAXLEN", "=", 5)
    arm("log.written=raise")
    try:
        with capture_logs():
            async with following(calls, tmp_path):
                whole = {log: await rebuilt(calls, log) for log in Log}
                await eventually_async(lambda: all(written(tmp_path, log).endswith(whole[log]) for log in Log))
    finally:
        arm("")
    async with following(calls, tmp_path):
        await add_events(calls, 1)
        for log in Log:
            text, kept = await rebuilt(calls, log), whole[log].splitlines()
            last, first = Position.of_line(before[log].splitlines()[-1]), Position.of_line(kept[0])
            assert last is not None
            assert first is not None
            expected = before[log] + gap(last, first) + text
            await comes_to(tmp_path, log, len(expected))
            assert written(tmp_path, log) == expected


async def test_nothing_unexpected_ends_it(calls: RedisCalls, tmp_path: Path) -> None:
    await calls.call("SET", f"{ROOT}events", "no stream")
    arm("log.before=raise, log.after=raise@2")
    try:
        with capture_logs() as said:
            async with following(calls, tmp_path):
                await eventually_async(lambda: len(said) == 1)
                await add_events(calls, PAGE * 3, logs=(Log.REVENUE,))
                await caught_up(calls, tmp_path, Log.REVENUE)
                await calls.call("DEL", f"{ROOT}events")
                await calls.call("XADD", f"{ROOT}events", "*", "no", "event")
                await add_events(calls, 5)
                await caught_up(calls, tmp_path)
    finally:
        arm("")
    assert [line["reason"] for line in said if line["event"] == "log_stopped"] == [
        "ResponseError", "FailpointReached"]  # the second failure follows at once: it is the same stop


async def test_a_store_that_is_away_costs_one_line(tmp_path: Path) -> None:
    store = EmbeddedServer(STORE, tmp_path)
    store.start()
    calls = RedisCalls.connect(store.url, deadline_seconds=2)
    await add_events(calls, 5)
    with capture_logs() as said:
        async with following(calls, tmp_path / "logs"):
            await caught_up(calls, tmp_path / "logs")
            store.kill()
            await eventually_async(lambda: len(said) == 2)
            await asyncio.to_thread(store.start)
            await add_events(calls, 5)
            await caught_up(calls, tmp_path / "logs")
            await eventually_async(lambda: len(said) == 4, "the last line")
    await calls.close()
    store.kill()
    assert [line["event"] for line in said] == ["log_stopped"] * 2 + ["log_resumed"] * 2


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


async def test_a_backlog_leaves_the_loop_to_others(calls: RedisCalls, tmp_path: Path) -> None:
    await add_events(calls, 20_000, logs=(Log.PAYMENTS,))
    whole = len(await rebuilt(calls, Log.PAYMENTS))
    most = 2 * PAGE * whole // 20_000
    size = 0
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with following(calls, tmp_path):
        start = time.perf_counter()
        while size < whole:
            assert time.perf_counter() - start < 30
            before, size = size, _size(tmp_path / Log.PAYMENTS)
            assert size - before <= most, "more than a page was written without a turn of the loop"
            await asyncio.sleep(0)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - grown < 20 * 1024


async def test_cancelled_while_it_writes_it_lets_go_only_afterwards(calls: RedisCalls, tmp_path: Path) -> None:
    await add_events(calls, PAGE * 8)
    for _ in range(8):
        size = len(written(tmp_path, Log.PAYMENTS))
        task = asyncio.create_task(LogFollower(Events(calls), tmp_path).run())
        await comes_to(tmp_path, Log.PAYMENTS, size + 1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        folder = LogFolder(tmp_path)
        assert folder.hold()
        folder.let_go()
        await add_events(calls, 10)
    async with following(calls, tmp_path):
        await caught_up(calls, tmp_path)

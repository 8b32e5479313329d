"""The supervisor: what dies comes back, what stops stops in order, and nothing outlives it."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cli import supervisor
from cli.supervisor import Backoff, ProcessSpec, StartFailed, Supervisor
from shared.errors import SettingsRefused
from tests.cli.conftest import eventually, eventually_async, runs

QUICK = Backoff(first_seconds=0.01, longest_seconds=0.04, steady_seconds=60)

WAITS = "import signal; print('up', flush=True); signal.pause()"
STUBBORN = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
while True:
    signal.pause()
"""
NOTES_ITS_END = """
import signal, sys
def end(*_):
    open(sys.argv[1], "a").write(sys.argv[2] + "\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("up", flush=True)
while True:
    signal.pause()
"""


class Said(list[str]):
    """What the supervisor told its user."""

    def __contains__(self, part: object) -> bool:
        return any(str(part) in line for line in self)


@pytest.fixture
def said() -> Said:
    return Said()


def spec(name: str, program: str, *arguments: str, **more: Any) -> ProcessSpec:
    return ProcessSpec(name, (sys.executable, "-c", program, *arguments), dict(os.environ), **more)


def log_has(folder: Path, name: str, text: str = "up") -> bool:
    return text in (folder / f"{name}.log").read_text()


def has_restarted(desk: Supervisor, count: int) -> bool:
    return desk.restarts()["worker 1"] == count


def play(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(scenario)


def test_what_dies_is_started_again_and_counted(tmp_path: Path, said: Said) -> None:
    async def scenario() -> None:
        desk = Supervisor(tmp_path, said.append, backoff=QUICK)
        await desk.start([[spec("worker 1", WAITS), spec("web", WAITS)]])
        desk.settled()
        for count in range(1, 5):
            await eventually_async(lambda: "worker 1" in desk.pids())
            os.kill(desk.pids()["worker 1"], signal.SIGKILL)
            await eventually_async(partial(has_restarted, desk, count))
        await eventually_async(lambda: "worker 1" in desk.pids())
        assert desk.restarts() == {"worker 1": 4, "web": 0}
        await desk.stop()

    play(scenario())
    assert said == [f"worker 1 ended (signal 9); restart {count} in {delay:g} s."
                    for count, delay in [(1, 0.01), (2, 0.02), (3, 0.04), (4, 0.04)]]


def test_a_steady_run_forgives_earlier_ends(tmp_path: Path, said: Said) -> None:
    async def scenario() -> None:
        desk = Supervisor(tmp_path, said.append, backoff=Backoff(0.01, 10, steady_seconds=0))
        desk.settled()
        await desk.start([[spec("web", "")]])
        await eventually_async(lambda: desk.restarts()["web"] == 3)
        await desk.stop()

    play(scenario())
    assert "restart 3 in 0.01 s" in said


def test_stages_end_in_reverse_order_each_before_the_next(tmp_path: Path, said: Said) -> None:
    ends = tmp_path / "ends"
    names = ("store", "broker", "worker", "flower", "web")

    async def scenario() -> None:
        desk = Supervisor(tmp_path, said.append)
        await desk.start([[spec(name, NOTES_ITS_END, str(ends), name)] for name in names])
        await eventually_async(lambda: all(log_has(tmp_path, name) for name in names))
        await desk.stop()
        assert desk.pids() == {}

    play(scenario())
    assert ends.read_text().split() == list(reversed(names))


def test_a_stage_starts_when_the_one_before_is_ready(tmp_path: Path, said: Said) -> None:
    asked = 0

    def ready() -> bool:
        nonlocal asked
        asked += 1
        return asked == 3

    async def scenario() -> None:
        desk = Supervisor(tmp_path, said.append)
        await desk.start([[spec("store", WAITS, ready=ready)], [spec("web", WAITS)]])
        assert asked == 3
        await desk.stop()

    play(scenario())


def test_what_never_gets_ready_is_one_sentence(tmp_path: Path, said: Said) -> None:
    async def scenario() -> None:
        desk = Supervisor(tmp_path, said.append)
        with pytest.raises(StartFailed, match=r"store is not ready after 0\.1 s; .*store\.log tells more"):
            await desk.start([[spec("store", WAITS, ready=lambda: False, ready_seconds=0.1)]])
        await desk.stop()

    play(scenario())


def test_what_ignores_the_signal_is_killed_when_its_time_is_over(tmp_path: Path, said: Said) -> None:
    async def scenario() -> None:
        desk = Supervisor(tmp_path, said.append)
        await desk.start([[spec("worker", STUBBORN, stop_seconds=0.2)]])
        await eventually_async(lambda: log_has(tmp_path, "worker"))
        await desk.stop()

    play(scenario())
    assert said == ["worker did not end by itself and was killed."]


def test_hurrying_does_not_wait_out_the_full_time(tmp_path: Path, said: Said,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "HURRIED_SECONDS", 0.1)

    async def scenario() -> None:
        desk = Supervisor(tmp_path, said.append)
        await desk.start([[spec("store", STUBBORN, stop_seconds=600)], [spec("worker", STUBBORN, stop_seconds=600)]])
        await eventually_async(lambda: log_has(tmp_path, "worker") and log_has(tmp_path, "store"))
        stopping = asyncio.create_task(desk.stop())
        asyncio.get_running_loop().call_soon(desk.hurry)
        await asyncio.wait_for(stopping, 30)

    play(scenario())
    assert "worker did not end" in said
    assert "store did not end" in said


def test_stopping_during_a_back_off_is_immediate(tmp_path: Path, said: Said) -> None:
    async def scenario() -> None:
        desk = Supervisor(tmp_path, said.append, backoff=Backoff(600, 600, 600))
        desk.settled()
        await desk.start([[spec("web", "")]])
        await eventually_async(lambda: "restart 1 in 600 s" in said)
        await asyncio.wait_for(desk.stop(), 30)

    play(scenario())


def test_warnings_reach_the_terminal_and_everything_the_log(tmp_path: Path, said: Said) -> None:
    program = f"print('INFO calm'); print('[10:00: WARNING/Main] look'); print('x' * 200_000); {WAITS}"

    async def scenario() -> None:
        desk = Supervisor(tmp_path, said.append)
        await desk.start([[spec("web", program), spec("quiet", program, echo=False)]])
        await eventually_async(lambda: log_has(tmp_path, "web", "up\n") and log_has(tmp_path, "quiet", "up\n"))
        await desk.stop()

    play(scenario())
    assert said == ["web      | [10:00: WARNING/Main] look"]
    assert log_has(tmp_path, "web", "INFO calm")


@pytest.mark.parametrize(("line", "shown"), [
    ('{"level": "warning", "event": "store slow", "ms": 900}', "warning: store slow"),
    (r'{"level": "error", "event": "broken\nand more"}', "error: broken"),
    ('{"level": "info", "event": "an ERROR of long ago"}', ""),
    ("[10:00: ERROR/Main] broken", "[10:00: ERROR/Main] broken"), ("INFO calm", ""), ("17", ""), ('{"a": 1}', "")])
def test_of_a_structured_line_the_terminal_shows_the_event(line: str, shown: str) -> None:
    assert supervisor._worth_showing(line) == shown


def test_a_full_log_moves_aside(tmp_path: Path, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "LOG_BYTES", 1000)

    async def scenario() -> None:
        desk = Supervisor(tmp_path, said.append)
        await desk.start([[spec("web", f"[print('line', n) for n in range(1000)]; {WAITS}")]])
        await eventually_async(lambda: log_has(tmp_path, "web", "up\n"))
        await desk.stop()

    play(scenario())
    assert {file.name for file in tmp_path.iterdir()} == {"web.log", "web.log.1"}
    assert all(file.stat().st_size <= 1000 for file in tmp_path.iterdir())


@pytest.mark.parametrize(("program", "fault", "sentence"), [
    ("import sys; print('The key is wrong.'); sys.exit(78)", SettingsRefused, "exit code 78): The key is wrong."),
    ("raise SystemExit('No such thing.')", StartFailed, "exit code 1): No such thing.")])
def test_what_cannot_come_up_at_all_is_told_and_not_repeated_for_ever(
        tmp_path: Path, said: Said, program: str, fault: type[Exception], sentence: str) -> None:
    async def scenario() -> None:
        desk = Supervisor(tmp_path, said.append, backoff=QUICK)
        await desk.start([[spec("web", program)]])
        failure = await asyncio.wait_for(desk.failure, 30)
        await desk.stop()
        assert type(failure) is fault
        assert sentence in str(failure)

    play(scenario())


def test_a_program_that_is_missing_is_told(tmp_path: Path, said: Said) -> None:
    async def scenario() -> None:
        desk = Supervisor(tmp_path, said.append, backoff=QUICK)
        await desk.start([[ProcessSpec("web", ("/no/such/program",), {})]])
        assert "No such file or directory: /no/such/program" in str(await asyncio.wait_for(desk.failure, 30))
        await desk.stop()

    play(scenario())


SUPERVISES = """
import asyncio, os, pathlib, sys
from cli.supervisor import ProcessSpec, Supervisor
async def main():
    desk = Supervisor(pathlib.Path(sys.argv[1]), print)
    await desk.start([[ProcessSpec("web", (sys.executable, "-c", sys.argv[2]), dict(os.environ))]])
    while not desk.pids():
        await asyncio.sleep(0.01)
    print(desk.pids()["web"], flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help exists on Linux only")
def test_no_child_survives_kill_9_of_the_supervisor(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", SUPERVISES, str(tmp_path), STUBBORN], cwd=root,
                          stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        eventually(lambda: log_has(tmp_path, "web"), "the child's start")
        assert runs(child)
        parent.kill()
        eventually(lambda: not runs(child), "the child's end")

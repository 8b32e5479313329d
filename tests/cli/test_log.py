"""`paydesk log rebuild` writes what the follower wrote, over nothing, and leaves nothing half done."""

import asyncio
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.logs import rebuilding
from cli.servers import EmbeddedServer, free_port
from shared.events import Log
from shared.redis_calls import RedisCalls
from shared.settings import process_environment
from tests.worker.streams import add_events, rebuilt
from worker.log_file import LogFolder

pytestmark = pytest.mark.anyio

CHECKOUT = Path(__file__).resolve().parents[2]


def rebuild(url: str, *arguments: Path | str, before: Callable[[], None] | None = None
            ) -> subprocess.CompletedProcess[str]:
    """Run the command as a person does."""
    return subprocess.run([sys.executable, "-m", "cli", "log", "rebuild", *map(str, arguments)], cwd=CHECKOUT,
                          env=process_environment(REDIS_URL=url, STRIPE_SECRET_KEY=""), capture_output=True, timeout=30,
                          text=True, preexec_fn=before)


def one_sentence(text: str) -> bool:
    return text.startswith("paydesk: ") and text.count("\n") == 1 and "Traceback" not in text


async def test_both_logs_are_written_and_counted(valkey: EmbeddedServer, calls: RedisCalls, tmp_path: Path) -> None:
    await add_events(calls, 700)
    to = tmp_path / "new" / "folder"
    done = rebuild(valkey.url, to)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "".join(f"{to / log}: 700 lines\n" for log in Log)
    assert {path.name for path in to.iterdir()} == set(Log)
    for log in Log:
        assert (to / log).read_text() == await rebuilt(calls, log)
        assert (to / log).stat().st_mode & 0o077 == 0


async def test_an_empty_store_makes_empty_logs(valkey: EmbeddedServer, calls: RedisCalls, tmp_path: Path) -> None:
    done = rebuild(valkey.url, tmp_path)
    assert (done.returncode, done.stdout) == (0, "".join(f"{tmp_path / log}: 0 lines\n" for log in Log))


@pytest.mark.parametrize("there", list(Log))
@pytest.mark.parametrize("put", [lambda path: path.write_text("kept"), lambda path: path.symlink_to("nowhere")],
                         ids=["file", "link to nowhere"])
async def test_nothing_is_written_over(valkey: EmbeddedServer, calls: RedisCalls, tmp_path: Path, there: Log,
                                       put: Callable[[Path], None]) -> None:
    await add_events(calls, 5)
    put(tmp_path / there)
    done = rebuild(valkey.url, tmp_path)
    assert (done.returncode, done.stdout, one_sentence(done.stderr)) == (1, "", True)
    assert there in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).is_symlink() or (tmp_path / there).read_text() == "kept"


async def test_not_where_a_desk_writes_its_own(valkey: EmbeddedServer, calls: RedisCalls, tmp_path: Path) -> None:
    folder = LogFolder(tmp_path)
    assert folder.hold()
    done = rebuild(valkey.url, tmp_path)
    folder.let_go()
    assert (done.returncode, done.stdout, one_sentence(done.stderr)) == (1, "", True)
    assert list(tmp_path.iterdir()) == []


async def test_a_full_disk_leaves_no_half_log(valkey: EmbeddedServer, calls: RedisCalls, tmp_path: Path) -> None:
    await add_events(calls, 1_000)
    done = rebuild(valkey.url, tmp_path, before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)))
    assert (done.returncode, done.stdout, one_sentence(done.stderr)) == (1, "", True)
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_is_away_is_code_4(tmp_path: Path) -> None:
    done = rebuild(f"redis://127.0.0.1:{free_port()}/0", tmp_path / "to")
    assert (done.returncode, done.stdout, one_sentence(done.stderr)) == (4, "", True)
    assert not (tmp_path / "to" / Log.PAYMENTS).exists()


def test_a_desk_that_never_ran_is_code_4(tmp_path: Path) -> None:
    done = rebuild("", tmp_path / "to", "--data-dir", tmp_path / "data")
    assert (done.returncode, done.stdout, one_sentence(done.stderr)) == (4, "", True)


def test_a_folder_that_cannot_be_made_is_code_1(valkey: EmbeddedServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = rebuild(valkey.url, tmp_path / "file" / "to")
    assert (done.returncode, done.stdout, one_sentence(done.stderr)) == (1, "", True)


def test_no_folder_named_is_code_2(valkey: EmbeddedServer) -> None:
    assert rebuild(valkey.url).returncode == 2


async def test_many_are_rebuilt_to_the_byte_soon_and_in_little_memory(valkey: EmbeddedServer, calls: RedisCalls,
                                                                     tmp_path: Path) -> None:
    figures = await asyncio.to_thread(rebuilding, valkey.url, tmp_path, 20_000)
    assert all(figure.reached for figure in figures), figures

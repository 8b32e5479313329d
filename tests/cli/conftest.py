"""What the tests of cli/ share: waiting for a condition, and an embedded server of their own."""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cli.servers import STORE, EmbeddedServer

DEADLINE_SECONDS = 15.0
POLL_SECONDS = 0.02


def eventually(condition: Callable[[], object], what: str = "the condition", *,
               within_seconds: float = DEADLINE_SECONDS) -> None:
    """Return as soon as the condition holds; fail when it does not in time."""
    deadline = time.monotonic() + within_seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come about"
        time.sleep(POLL_SECONDS)


async def eventually_async(condition: Callable[[], object], what: str = "the condition") -> None:
    """The same for a test that shares its loop with what it waits for."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come about"
        await asyncio.sleep(POLL_SECONDS)


def runs(pid: int) -> bool:
    """Whether a process is there and not just waiting to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """A running embedded store."""
    server = EmbeddedServer(STORE, tmp_path / "data")
    server.start()
    yield server
    server.kill()

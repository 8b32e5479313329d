"""What every test may ask for."""

import signal
from collections.abc import AsyncIterator, Iterator

import pytest

from cli.servers import STORE, EmbeddedServer
from shared.redis_calls import RedisCalls
from tests.deploy.procfile_desk import ProcfileDesk
from tests.shared.till import Till, emptied


def pytest_configure() -> None:
    """Hear of interruptions and hang-ups whatever began the run: under `&` and `nohup` it would ignore them."""
    for number, heard in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, heard)


@pytest.fixture
def anyio_backend() -> str:
    """Asynchronous tests run on asyncio, as the desk does."""
    return "asyncio"


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """One running embedded store for the whole run: what the scripts promise is only ever tested on it."""
    server = EmbeddedServer(STORE, tmp_path_factory.mktemp("valkey"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def mock_desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcfileDesk]:
    """One whole desk in mock mode for the run, by the Procfile's lines, on servers that it did not start."""
    with ProcfileDesk(tmp_path_factory.mktemp("desk")) as desk:
        yield desk


@pytest.fixture
async def calls(valkey: EmbeddedServer, anyio_backend: str) -> AsyncIterator[RedisCalls]:
    """A way to the embedded store, which is empty."""
    made = RedisCalls.connect(valkey.url, deadline_seconds=5)
    await emptied(made)
    yield made
    await made.close()


@pytest.fixture
async def till(calls: RedisCalls) -> Till:
    """A JobStore on the empty embedded store, and its clock."""
    return Till(calls)

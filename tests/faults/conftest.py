"""Desks for the fault tests; after each test its desk must satisfy every invariant."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from standin.client import Standin
from tests.faults import invariants
from tests.faults.desk_processes import DeskProcesses, Servers, WorkerProcess


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the runs that take minutes be asked for."""
    parser.addoption("--long", action="store_true", help="also run the fault tests that take minutes")


def pytest_configure(config: pytest.Config) -> None:
    """Name the marker of what only --long runs."""
    config.addinivalue_line("markers", "long: takes minutes; run with --long")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the long ones out unless asked for."""
    if not config.getoption("--long", default=False):
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(pytest.mark.skip(reason="takes minutes: asked for with --long"))


@pytest.fixture(scope="session")
def running_standin() -> Iterator[Standin]:
    """The one stand-in of a run."""
    with Standin.start() as standin:
        yield standin


@pytest.fixture
def standin(running_standin: Standin) -> Standin:
    """The stand-in, within reach and remembering nothing."""
    running_standin.accept()
    running_standin.reset()
    return running_standin


@pytest.fixture(scope="session")
def shared_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Servers that no test harms, for tests that start their own workers."""
    yield from _running(tmp_path_factory.mktemp("servers"))


def _running(folder: Path) -> Iterator[Servers]:
    servers = Servers(folder)
    try:
        servers.start()
        yield servers
    finally:
        servers.stop()


@asynccontextmanager
async def _opened(desk: DeskProcesses) -> AsyncIterator[DeskProcesses]:
    await desk.open()
    try:
        yield desk
        await invariants.check(desk)
    finally:
        await desk.close()


@pytest.fixture
async def desk(shared_servers: Servers, standin: Standin, tmp_path: Path, anyio_backend: str,
               ) -> AsyncIterator[DeskProcesses]:
    """A desk without workers on servers that live on; a test starts, kills and restarts its own workers."""
    shared_servers.flush(broker=True)
    async with _opened(DeskProcesses(shared_servers, standin, tmp_path)) as desk:
        yield desk


@pytest.fixture
async def own_desk(standin: Standin, tmp_path: Path, anyio_backend: str) -> AsyncIterator[DeskProcesses]:
    """A desk without workers on servers of its own, which the test may kill."""
    servers = Servers(tmp_path)
    try:
        servers.start()
        async with _opened(DeskProcesses(servers, standin, tmp_path)) as desk:
            yield desk
    finally:
        servers.stop()


@pytest.fixture(scope="session")
def busy_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Servers of the workers that live through all tests."""
    yield from _running(tmp_path_factory.mktemp("busy"))


@pytest.fixture(scope="session")
def lasting_workers(busy_servers: Servers, running_standin: Standin, tmp_path_factory: pytest.TempPathFactory,
                    ) -> Iterator[list[WorkerProcess]]:
    """Two workers for all tests that harm no process: starting some anew each time would take most of the time."""
    starter = DeskProcesses(busy_servers, running_standin, tmp_path_factory.mktemp("lasting"))
    # An answer that a fault delays must not end a lease here.
    workers = [starter.launch(PAYDESK_LEASE_SECONDS="30") for _ in range(2)]
    try:
        yield workers
    finally:
        for worker in workers:
            worker.end()


@pytest.fixture
async def busy_desk(busy_servers: Servers, lasting_workers: list[WorkerProcess], standin: Standin, tmp_path: Path,
                    anyio_backend: str) -> AsyncIterator[DeskProcesses]:
    """A desk with two workers that no test harms."""
    busy_servers.flush(broker=False)
    async with _opened(DeskProcesses(busy_servers, standin, tmp_path)) as desk:
        await desk.until(lambda: desk.beating(lasting_workers), 30, "the workers' heartbeats")
        yield desk

"""Worker: a whole worker process's parts on a real store, started and stopped."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cli.servers import EmbeddedServer
from shared.epoch import Epoch
from shared.ids import Ids
from shared.jobs import Lane, Mode, Status
from shared.settings import Settings
from tests.shared.till import Till, new
from worker.main import Worker

pytestmark = pytest.mark.anyio


@pytest.fixture
async def full(till: Till) -> AsyncIterator[Till]:
    """A till whose server will have no memory left once its maxmemory is set; set back afterwards."""
    before = (await till.calls.call("CONFIG GET", "maxmemory"))["maxmemory"]
    yield till
    await till.calls.call("CONFIG SET", "maxmemory", before)


@pytest.fixture
def settings(valkey: EmbeddedServer, tmp_path: Path) -> Settings:
    """A desk without a key on the embedded store."""
    return Settings(_env_file=None, REDIS_URL=valkey.url, BROKER_URL=valkey.url, PAYDESK_DATA_DIR=tmp_path,
                    PAYDESK_SECRET="a secret of the desk, long enough")


async def test_a_worker_starts_on_a_full_store_and_finishes_what_is_there(full: Till, settings: Settings) -> None:
    await Epoch(full.calls, Ids(settings.instance_secret())).check()
    await full.accept(new(mode=Mode.NONE), delay_ms=60_000)
    await full.calls.call("CONFIG SET", "maxmemory", 1)
    worker = Worker(settings)
    await asyncio.to_thread(worker.start)
    try:
        assert await asyncio.to_thread(worker.work, Lane.INTERACTIVE, ["job_a"]) == "job_a succeeded mock"
    finally:
        await asyncio.to_thread(worker.stop)
    assert (await full.job()).status is Status.SUCCEEDED


async def test_a_worker_that_drains_begins_nothing(till: Till, settings: Settings) -> None:
    await till.accept(new(mode=Mode.NONE), delay_ms=60_000)
    worker = Worker(settings)
    await asyncio.to_thread(worker.start)
    try:
        worker.drain()
        assert await asyncio.to_thread(worker.work, Lane.INTERACTIVE, ["job_a"]) == "nothing to do"
    finally:
        await asyncio.to_thread(worker.stop)
    assert ((await till.job()).status, (await till.job()).attempts) == (Status.QUEUED, 0)

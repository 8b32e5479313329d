"""A store that is there and does not serve: full, read-only, without a disk, or slow. A pause, and never a loss."""

import asyncio
import os
import resource
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from cli.servers import STORE, EmbeddedServer, free_port
from shared.errors import StoreFull, StoreUnavailable
from shared.jobs import Status
from standin.client import Standin
from tests.faults import invariants
from tests.faults.desk_processes import DeskProcesses, Servers

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]

IN_FLIGHT = 8
WAITING = 8
REFUSED = 3
NO_MORE_BYTES = 20_000
"""What the full disk still takes: some answers of Stripe, not all."""


class IgnoresItsLimit(EmbeddedServer):
    """A store that hears of a file that may not grow as of a full disk: by a failed write, not by a signal."""

    @property
    def command(self) -> tuple[str, ...]:
        """How to start it."""
        return ("sh", "-c", 'trap "" XFSZ; exec "$@"', "sh", *super().command)


@pytest.fixture
async def desk(standin: Standin, tmp_path: Path, anyio_backend: str) -> AsyncIterator[DeskProcesses]:
    """A desk on servers of its own, with two workers and calls in flight when a test begins."""
    servers = Servers(tmp_path)
    servers.store = IgnoresItsLimit(STORE, tmp_path)
    desk = DeskProcesses(servers, standin, tmp_path)
    try:
        servers.start()
        await desk.open()
        await desk.start_workers(2, PAYDESK_WORKER_THREADS=str(IN_FLIGHT), PAYDESK_LEASE_SECONDS="30")
        standin.settings(latency_ms=1_000)
        for _ in range(IN_FLIGHT):
            await desk.submit()
        await desk.until(lambda: desk.calls_made() >= IN_FLIGHT, 25, "calls in flight")
        for _ in range(WAITING):
            await desk.submit(delay_ms=0)
        yield desk
        await invariants.check(desk)
    finally:
        await desk.close()
        servers.stop()


def store(desk: DeskProcesses) -> redis.Redis:
    """An operator's connection."""
    return redis.Redis.from_url(desk.servers.store.url, retry=Retry(NoBackoff(), 0), socket_timeout=10)


def process_id(desk: DeskProcesses) -> int:
    with store(desk) as client:
        return int(client.info("server")["process_id"])


async def refuses(desk: DeskProcesses, failure: type[Exception]) -> None:
    """Every submission is refused, each within its deadline."""
    for number in range(REFUSED):
        with pytest.raises(failure):
            await desk.accept(key=f"refused {number}")


async def everything_ends(desk: DeskProcesses, while_lifted: Callable[[], object]) -> None:
    """Once the condition is lifted, what was refused is accepted and all is charged once, in one attempt or two."""
    await asyncio.to_thread(while_lifted)
    for number in range(REFUSED):
        await desk.submit_until_accepted(f"refused {number}")
    await desk.settled(within_seconds=60)
    assert sorted(desk.charges_made()) == sorted(desk.accepted)
    assert len(desk.accepted) == IN_FLIGHT + WAITING + REFUSED


async def test_out_of_memory_nothing_more_is_accepted_and_what_was_is_finished(desk: DeskProcesses) -> None:
    with store(desk) as client:
        client.config_set("maxmemory", "1mb")
        await refuses(desk, StoreFull)
        await desk.settled(within_seconds=60)
        assert len(desk.charges_made()) == IN_FLIGHT + WAITING
        assert client.info("memory")["maxmemory"] == 2**20
        await everything_ends(desk, lambda: client.config_set("maxmemory", "1gb"))


async def test_read_only_for_a_while_every_answer_of_stripe_is_kept_until_it_can_be_written(
        desk: DeskProcesses) -> None:
    with store(desk) as client:
        client.replicaof("127.0.0.1", free_port())
        await refuses(desk, StoreUnavailable)
        await desk.until(lambda: len(desk.charges_made()) >= IN_FLIGHT, 25, "the charges of the calls in flight")
        counts = await desk.jobs.counts()
        assert counts[Status.SUCCEEDED] < len(desk.charges_made()), "what Stripe did could not be recorded"
        await everything_ends(desk, lambda: client.replicaof("NO", "ONE"))


async def test_a_full_disk_ends_the_store_and_loses_nothing_that_it_acknowledged(desk: DeskProcesses) -> None:
    kept = max(file.stat().st_size for file in desk.servers.store.folder.rglob("*.aof"))
    limit = kept + NO_MORE_BYTES
    pid = process_id(desk)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit, limit))
    written = 0

    async def full() -> bool:
        nonlocal written
        try:
            await desk.accept(key=f"until it is full {written}", delay_ms=0)
        except StoreUnavailable:
            return not desk.servers.store.answers()
        written += 1
        return False

    await desk.until(full, 30, "the store's end")
    assert written > 0
    assert "Can't recover from AOF write error" in told(desk)
    await refuses(desk, StoreUnavailable)
    await asyncio.to_thread(desk.servers.store.kill)  # it has ended: this only buries it
    await asyncio.to_thread(desk.servers.store.start)
    for number in range(REFUSED):
        await desk.submit_until_accepted(f"refused {number}")
    await desk.settled(within_seconds=60)
    made = desk.charges_made()
    assert set(desk.accepted) <= set(made)
    assert len(made) == len(set(made))


def told(desk: DeskProcesses) -> str:
    return (desk.servers.store.folder / "valkey.log").read_text()


async def test_a_store_that_stands_still_for_seconds_costs_only_them(desk: DeskProcesses) -> None:
    pid = process_id(desk)
    os.kill(pid, signal.SIGSTOP)
    try:
        await refuses(desk, StoreUnavailable)
        await desk.until(lambda: len(desk.charges_made()) >= IN_FLIGHT, 25, "the charges of the calls in flight")
    finally:
        os.kill(pid, signal.SIGCONT)
    await everything_ends(desk, str)


async def test_a_store_that_answers_no_write_for_a_while_costs_only_that(desk: DeskProcesses) -> None:
    with store(desk) as client:
        client.client_pause(60_000, all=False)  # of writes alone: else nobody could end it
        await refuses(desk, StoreUnavailable)
        client.client_unpause()
    await everything_ends(desk, str)

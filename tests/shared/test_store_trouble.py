"""A store in trouble: no memory, forgotten scripts, gone, lost replies. What is accepted still finishes."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ResponseError

from cli.servers import STORE, EmbeddedServer
from shared.errors import StoreFull, StoreUnavailable
from shared.jobs import Book, Status
from shared.redis_calls import SCRIPT_NAMES, RedisCalls, script_text
from shared.store import JobStore, Recorded
from tests.shared.till import Till, emptied, new, succeeded

pytestmark = pytest.mark.anyio


@pytest.fixture
async def full(till: Till) -> AsyncIterator[Till]:
    """A till whose server will have no memory left once its maxmemory is set; set back afterwards."""
    before = (await till.calls.call("CONFIG GET", "maxmemory"))["maxmemory"]
    yield till
    await till.calls.call("CONFIG SET", "maxmemory", before)


async def test_a_full_store_takes_no_job_and_finishes_those_it_has(full: Till) -> None:
    running = await full.started(new("job_a"))
    await full.accept(new("job_b"))
    lost = await full.started(new("job_c"), lease_ms=1)
    await full.calls.call("CONFIG SET", "maxmemory", 1)
    with pytest.raises(StoreFull):
        await full.accept(new("job_d"))
    assert await full.store.get("job_d") is None
    assert await full.record(succeeded(running)) is Recorded.RECORDED
    assert await full.release(await full.claimed("job_b"), unsent=True, delay_ms=60_000) is Status.RETRYING
    await full.lapse(lost.id)
    assert await full.feed() == [lost.id]
    assert not (await full.circuit.beat("w1", threads=1)).open
    assert await full.calls.script("reserve", "test", 25, 1, 1, 0)
    assert await full.ledger.differences() == []


async def test_forgotten_scripts_are_loaded_and_only_they_are_said_again(till: Till) -> None:
    jobs = [await till.started(new(f"job_{n}")) for n in range(3)]
    await till.calls.call("SCRIPT FLUSH")
    verdicts = await asyncio.gather(*(till.record(succeeded(job)) for job in jobs))
    assert verdicts == [Recorded.RECORDED] * 3
    assert (await till.ledger.totals())[Book.TEST].processed_cents == 15_000


async def test_every_script_heals_after_a_flush(till: Till) -> None:
    await till.calls.call("SCRIPT FLUSH")
    assert await till.feed() == []
    assert not (await till.accept(new())).replayed
    await till.calls.call("SCRIPT FLUSH")
    job = await till.claimed()
    await till.calls.call("SCRIPT FLUSH")
    assert await till.release(job, unsent=True) is Status.RETRYING
    assert (await till.circuit.look()).fresh_workers == 0
    assert (await till.calls.script("reserve", "test", 25, 1, 1, 0))[0] == 1


@pytest.mark.parametrize("name", SCRIPT_NAMES)
def test_scripts_are_whole_and_only_those_that_may_wait_mind_the_memory(name: str) -> None:
    text = script_text(name)
    assert "-- include " not in text
    assert text.startswith("#!lua")
    minds_the_memory = text.partition("\n")[0] not in ("#!lua flags=allow-oom", "#!lua flags=no-writes")
    assert minds_the_memory is (name in ("accept", "log_calls"))


class LossyCalls(RedisCalls):
    """Loses the reply of the first call of each script that is named: it took effect, and nobody hears of it."""

    loses: set[str] = set()  # noqa: RUF012  # replaced, never changed

    async def script(self, name: str, *args: Any) -> Any:
        answer = await super().script(name, *args)
        if name in self.loses:
            self.loses = self.loses - {name}
            raise StoreUnavailable("The reply was lost.")
        return answer


@pytest.fixture
async def lossy(valkey: EmbeddedServer, calls: RedisCalls, anyio_backend: str) -> AsyncIterator[LossyCalls]:
    made = LossyCalls.connect(valkey.url, deadline_seconds=5)
    yield made
    await made.close()


async def test_a_lost_reply_of_accept_still_answers_that_the_job_is_new(till: Till, lossy: LossyCalls) -> None:
    lossy.loses = {"accept"}
    accepted = await JobStore(lossy).accept(new(), delay_ms=0, deadline_seconds=5)
    assert not accepted.replayed
    assert len(await till.events("job.queued")) == 1


async def test_a_lost_reply_of_record_books_once(till: Till, lossy: LossyCalls) -> None:
    job = await till.started()
    lossy.loses = {"record"}
    assert await JobStore(lossy).record(succeeded(job), deadline_seconds=5) is Recorded.ALREADY
    assert len(await till.entries()) == 1


async def test_a_lost_reply_of_release_gives_the_job_back_once(till: Till, lossy: LossyCalls) -> None:
    job = await till.started()
    lossy.loses = {"release"}
    await JobStore(lossy).release(job, error={"code": "x"}, delay_ms=0, unsent=True, answered=False)
    assert ((await till.job()).status, (await till.job()).doubts) == (Status.RETRYING, 0)


async def test_a_store_that_is_gone_is_said_so_within_the_deadline_and_keeps_what_it_acknowledged(
        tmp_path: Path) -> None:
    server = EmbeddedServer(STORE, tmp_path)
    server.start()
    calls = RedisCalls.connect(server.url, deadline_seconds=2)
    till = Till(calls)
    try:
        await emptied(calls)
        job = await till.started()
        server.kill()
        with pytest.raises(StoreUnavailable):
            await till.store.get("job_a")
        with pytest.raises(StoreUnavailable):
            await till.store.accept(new("job_b"), delay_ms=0, deadline_seconds=0.2)
        recording = asyncio.create_task(till.store.record(succeeded(job), deadline_seconds=20))
        await asyncio.to_thread(server.start)
        assert await recording is Recorded.RECORDED
        assert (await till.job()).status is Status.SUCCEEDED
        assert await till.store.get("job_b") is None
    finally:
        await calls.close()
        server.kill()


async def test_a_script_told_nonsense_changes_nothing(till: Till) -> None:
    await till.started()
    before = await till.job()
    with pytest.raises(ResponseError, match="user_script"):
        await till.calls.script("record", "{not json")
    assert await till.job() == before


async def test_what_may_have_been_heard_is_said_once(anyio_backend: str) -> None:
    """Only a caller knows what may be said twice, so nothing below it does so."""
    heard: list[bytes] = []

    async def hear_and_hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65536):
            if b"INCR" in piece:
                heard.append(piece)
                break
            writer.write(b"+OK\r\n" * piece.count(b"*"))  # what a connection begins with
        writer.close()

    server = await asyncio.start_server(hear_and_hang_up, "127.0.0.1", 0)
    calls = RedisCalls.connect(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}", deadline_seconds=5)
    with pytest.raises(StoreUnavailable):
        await calls.call("INCR", "anything")
    await calls.close()
    server.close()
    assert len(heard) == 1

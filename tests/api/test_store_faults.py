"""The store fails: every submission is answered soon, honestly, and never makes two jobs."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest
import redis

from api.main import create_app
from cli.servers import EmbeddedServer, free_port
from shared.epoch import Epoch
from shared.errors import WrongSecret
from shared.redis_calls import RedisCalls
from shared.settings import Settings
from tests.api.front import CHARGE, INTENT, STATS, Front, job_id_of, serving

pytestmark = pytest.mark.anyio

ANSWERED_SECONDS = 15
"""It takes two; the rest is for a machine that does other work. Nothing else would end such a wait."""


class Wire:
    """A way to a server that can swallow a reply, or everything."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.cut_reply_to: bytes | None = None
        self.silent = False
        self.cuts = 0
        self._writers: list[asyncio.StreamWriter] = []
        self._ended: list[asyncio.Event] = []

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[int]:
        """Listen until the block ends; gives the port."""
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        yield server.sockets[0].getsockname()[1]
        server.close()
        for writer in self._writers:
            writer.close()
        for ended in self._ended:  # one that came as it closed must not outlive the loop
            await ended.wait()
        await server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ended = asyncio.Event()
        self._ended.append(ended)
        try:
            await self._join(reader, writer)
        finally:
            ended.set()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream, server = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers += [writer, server]
        doomed = asyncio.Event()
        await asyncio.gather(self._forth(reader, server, doomed), self._back(upstream, writer, doomed))
        writer.close()
        server.close()

    async def _forth(self, reader: asyncio.StreamReader, server: asyncio.StreamWriter, doomed: asyncio.Event) -> None:
        with contextlib.suppress(ConnectionError):
            while said := await reader.read(65_536):
                if self.cut_reply_to is not None and self.cut_reply_to in said:
                    self.cut_reply_to = None
                    doomed.set()
                if not self.silent:
                    server.write(said)
        server.close()

    async def _back(self, upstream: asyncio.StreamReader, writer: asyncio.StreamWriter, doomed: asyncio.Event) -> None:
        with contextlib.suppress(ConnectionError):
            while said := await upstream.read(65_536):
                if doomed.is_set():  # it was done, and nobody hears of it
                    self.cuts += 1
                    break
                writer.write(said)
        writer.close()


def _through(settings: Settings, store: EmbeddedServer, port: int) -> Settings:
    url = store.url.replace(f":{store.port}/", f":{port}/")
    return settings.model_copy(update={"redis_url": type(settings.redis_url)(url)})


async def test_a_lost_reply_of_accept_is_one_job(settings: Settings, store: EmbeddedServer) -> None:
    wire = Wire(store.port)
    async with wire.open() as port, serving(_through(settings, store, port)) as front:
        await front.charge()  # the script is loaded now
        wire.cut_reply_to = b"cut here"
        response = await front.charge(CHARGE | {"description": "cut here"})
        assert wire.cuts == 1
        assert response.status_code == 202
        assert "idempotent-replayed" not in response.headers
        jobs = (await front.client.get("/api/jobs")).json()["data"]
        assert len(jobs) == 2
        assert job_id_of(response) in {job["id"] for job in jobs}


async def _refused_in_time(front: Front) -> None:
    async with asyncio.timeout(ANSWERED_SECONDS):
        response = await front.charge(**{"Idempotency-Key": "k"})
    assert (response.status_code, response.json()["code"]) == (503, "store_unavailable")
    assert response.headers["retry-after"] == "1"
    assert job_id_of(response) == front.desk.ids.job("local", "/api/stripe/process-charge", "k")


async def test_a_store_that_is_silent(settings: Settings, store: EmbeddedServer) -> None:
    wire = Wire(store.port)
    async with wire.open() as port, serving(_through(settings, store, port)) as front:
        await front.charge()
        wire.silent = True
        await _refused_in_time(front)
        for path in ("/readyz?verbose", STATS, "/api/jobs", "/api/jobs/job_" + "a" * 32, f"{INTENT}?amount=1"):
            async with asyncio.timeout(ANSWERED_SECONDS):
                assert (await front.client.get(path)).status_code == 503
        wire.silent = False


async def test_a_store_that_is_down(settings: Settings, store: EmbeddedServer) -> None:
    async with serving(_through(settings, store, free_port())) as front:
        await _refused_in_time(front)
        assert (await front.client.get("/livez")).status_code == 200
        response = await front.client.get("/readyz", params={"verbose": ""})
        assert response.json()["checks"] == {"store": "unavailable", "durability": "unknown", "eviction": "unknown",
                                             "broker": "ok", "workers": 0, "stripe": "no key", "mode": "none"}


async def test_a_store_that_comes_later(settings: Settings, store: EmbeddedServer) -> None:
    await asyncio.to_thread(store.stop)
    try:
        async with serving(settings) as front:
            await _refused_in_time(front)
            await asyncio.to_thread(store.start)
            assert (await front.charge(**{"Idempotency-Key": "k"})).status_code == 202
    finally:
        if not store.answers():
            await asyncio.to_thread(store.start)


async def test_a_broker_that_is_down_is_no_obstacle(settings: Settings, broker: EmbeddedServer) -> None:
    url = broker.url.replace(f":{broker.port}/", f":{free_port()}/")
    async with serving(settings.model_copy(update={"broker_url": type(settings.broker_url)(url)})) as front:
        while front.desk.hints.has_room:
            await asyncio.sleep(0)
        job = (await front.charge()).json()
        assert float(await front.desk.calls.call("ZSCORE", "{pd}:due:interactive", job["id"])) <= time.time() * 1000


async def test_a_full_store(front: Front, store: EmbeddedServer) -> None:
    first = await front.charge()
    with redis.Redis.from_url(store.url) as client:
        client.config_set("maxmemory", "1mb")
        try:
            response = await front.charge()
            assert (response.status_code, response.json()["code"]) == (503, "store_full")
            await front.worker.succeed(first.json()["id"])  # what it has still finishes
        finally:
            client.config_set("maxmemory", "1gb")


async def test_another_desks_store(settings: Settings, with_key: Settings) -> None:
    async with serving(settings):
        pass
    other = settings.model_copy(update={"secret": type(settings.redis_url)("another secret of the tests")})
    app = create_app(other)
    with pytest.raises(WrongSecret, match="PAYDESK_SECRET"):
        async with app.router.lifespan_context(app):
            pass


async def test_another_desks_store_that_comes_later(settings: Settings, store: EmbeddedServer) -> None:
    async with serving(settings):
        pass
    await asyncio.to_thread(store.stop)
    other = settings.model_copy(update={"secret": type(settings.redis_url)("another secret of the tests")})
    try:
        async with serving(other) as front:
            await asyncio.to_thread(store.start)
            response = await front.charge()
            assert (response.status_code, response.json()["code"]) == (503, "wrong_secret")
            ready = await front.client.get("/readyz", params={"verbose": ""})
            assert ready.json()["checks"]["store"] == "wrong_secret"
    finally:
        if not store.answers():
            await asyncio.to_thread(store.start)


async def test_a_store_that_lost_what_was_in_it(front: Front, store: EmbeddedServer) -> None:
    job = (await front.charge(**{"Idempotency-Key": "k"})).json()
    with redis.Redis.from_url(store.url) as client:
        client.flushall()
        for response in [await front.charge(**{"Idempotency-Key": "k"}),
                         await front.client.get(f"/api/jobs/{job['id']}")]:
            assert (response.status_code, response.json()["code"]) == (503, "store_lost")
            assert "location" not in response.headers
        ready = await front.client.get("/readyz", params={"verbose": ""})
        assert (ready.status_code, ready.json()["checks"]["store"]) == (503, "store_lost")
        assert "paydesk reconcile" in ready.json()["detail"]
        assert client.dbsize() == 0
    await front.desk.epoch.begin_anew()
    response = await front.charge(**{"Idempotency-Key": "k"})
    assert (response.status_code, response.json()["id"]) == (202, job["id"])


async def test_a_desk_starts_on_a_store_that_was_emptied_and_says_so(settings: Settings, store: EmbeddedServer) -> None:
    async with serving(settings) as front:
        await front.charge()
    with redis.Redis.from_url(store.url) as client:
        client.flushall()
    async with serving(settings) as front:
        response = await front.charge()
        assert (response.status_code, response.json()["code"]) == (503, "store_lost")


async def test_an_emptied_store_that_another_desk_began_is_noticed_by_who_runs(front: Front,
                                                                              store: EmbeddedServer) -> None:
    await front.charge()
    with redis.Redis.from_url(store.url) as client:
        client.flushall()
    other = RedisCalls.connect(store.url, deadline_seconds=2)
    await Epoch(other, front.desk.ids).check()
    await other.close()
    while (await front.charge()).status_code == 202:  # as long as the front door has not looked again
        await asyncio.sleep(0.01)
    assert (await front.charge()).json()["code"] == "store_lost"

"""Fixtures of the worker's tests: a server on loopback that plays a script, and jobs."""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

from shared.failpoints import arm
from shared.ids import Ids
from shared.jobs import Job, NewJob
from shared.requests import ChargeRequest, PaymentIntentRequest, Request
from shared.settings import Settings
from shared.stripe_params import new_job
from standin.client import Standin
from tests.shared.till import Till
from tests.worker.shop import Shop


class Peer:
    """A server on loopback; every connection is handed to the script, whose requests are kept in `heard`."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.connections = 0
        self.base_url = ""
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def play(self, script: "Script", tls: ssl.SSLContext | None = None) -> str:
        """Listen, with TLS when there is a context, and give the base URL."""

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections += 1
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            try:
                await script(Line(self, reader, writer))
            except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, ssl.SSLError):
                pass
            finally:
                writer.close()
                self._tasks.discard(task)

        server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
        self._servers.append(server)
        port = server.sockets[0].getsockname()[1]
        self.base_url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
        return self.base_url

    async def close(self) -> None:
        """Stop listening and end every connection."""
        for server in self._servers:
            server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class Line:
    """One connection of a Peer, as its script sees it."""

    def __init__(self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.peer, self.reader, self.writer = peer, reader, writer

    async def request(self) -> bytes:
        """Read one whole request."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
        whole = head + await self.reader.readexactly(int(fields.get(b"content-length", b"0")))
        self.peer.heard.append(whole)
        return whole

    async def say(self, raw: bytes) -> None:
        """Write bytes as they are."""
        self.writer.write(raw)
        await self.writer.drain()

    async def answer(self, status: int, body: bytes, *headers: str) -> None:
        """Write a whole answer."""
        lines = [f"HTTP/1.1 {status} -", f"Content-Length: {len(body)}", *headers, "", ""]
        await self.say("\r\n".join(lines).encode() + body)

    async def silence(self) -> None:
        """Say nothing until the other side goes."""
        await self.reader.read()

    def reset(self) -> None:
        """End the connection with an RST."""
        plug: socket.socket = self.writer.get_extra_info("socket")
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script = Callable[[Line], Awaitable[None]]


@pytest.fixture
async def peer(anyio_backend: str) -> AsyncIterator[Peer]:
    """A Peer that has not begun to listen."""
    made = Peer()
    yield made
    await made.close()


def intent(amount: str, **fields: object) -> PaymentIntentRequest:
    """A request for an intent of so many dollars."""
    return PaymentIntentRequest.model_validate({"amount": amount, **fields})


def charge(payment_method_id: str, **fields: object) -> ChargeRequest:
    """A request to charge 50 dollars."""
    return ChargeRequest.model_validate({"amount": "50", "payment_method_id": payment_method_id, **fields})


def stored(new: NewJob, **changes: str) -> Job:
    """A new job as a worker gets it, running; named fields replace what is stored."""
    return Job.from_hash({**new.fields(), "status": "running", "created_ms": "0", "updated_ms": "0", **changes})


MakeJob = Callable[..., Job]


@pytest.fixture
def make_job() -> MakeJob:
    """Turns a request into a running job, the same one for the same id."""

    def make(request: Request, job_id: str = "job_a1", **changes: str) -> Job:
        settings = Settings(_env_file=None)
        return stored(new_job(request, job_id=job_id, caller="local", ids=Ids("a secret"), settings=settings),
                      **changes)

    return make


@pytest.fixture(scope="module")
def running() -> Iterator[Standin]:
    """A stand-in for the tests of one file."""
    with Standin.start() as standin:
        yield standin


@pytest.fixture
async def shop(till: Till, running: Standin) -> AsyncIterator[Shop]:
    """A desk with jobs and a stand-in that has their objects, both empty."""
    running.accept()
    running.reset()
    made = Shop(till, running)
    yield made
    arm("")
    await made.close()

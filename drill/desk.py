"""The desk that is drilled: its own stand-in, servers, workers and front door, all real processes in one folder."""

import asyncio
import re
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import aiohttp

from drill.plan import FAULTS, LATENCY, Plan
from drill.processes import DeskProcess
from drill.tcp_proxy import TcpProxy
from shared.errors import PaydeskError, StoreUnavailable
from shared.jobs import UNFINISHED, Status
from shared.redis_calls import ROOT, RedisCalls
from shared.settings import process_environment
from standin.client import Standin, StandinFailed

KEY = "sk_test_drill"
SECRET = "drill"  # noqa: S105  # a name for this desk's ids, no secret
LOOPBACK = "127.0.0.1"
CHECKOUT = Path(__file__).resolve().parent.parent
START_SECONDS = 90.0
WORKER_FRESH_SECONDS = 2
STORE_SECONDS = 5.0
_POLL_SECONDS = 0.05
_THREADS = "16"
_NOT_OURS = ("STRIPE_", "PAYDESK_", "REDIS_", "BROKER_", "LOG_", "FLOWER_", "MOCK_", "CORS_", "PORT")
_JOB = re.compile(rb"(?i)idempotency-key: *(job_[a-z0-9]+)")


class NotReady(PaydeskError):
    """The drilled desk did not come up; the message says which part."""

    code = "drill_not_ready"


class Server(Protocol):
    """An embedded server, as far as a drill needs it."""

    folder: Path
    port: int

    @property
    def url(self) -> str:
        """Where to reach it."""

    @property
    def command(self) -> tuple[str, ...]:
        """How to start it, in its folder."""

    def prepare(self) -> None:
        """Settle its folder, port and configuration."""

    def answers(self) -> bool:
        """Whether it has loaded its data and serves."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What the desk is made of, given by whoever knows how it is started."""

    store: Callable[[Path], Server]
    broker: Callable[[Path], Server]
    web: Callable[[Mapping[str, str]], Sequence[str]]
    worker: Callable[[Mapping[str, str]], Sequence[str]]
    standin: Callable[[Sequence[str]], Sequence[str]]
    in_child: Callable[[], None] | None = None
    """What a child does before it becomes its program: ask to be killed when the drill is gone."""


class Worker:
    """A worker process, and its own wire to Stripe."""

    def __init__(self, process: DeskProcess, wire: TcpProxy) -> None:
        self.process, self.wire = process, wire

    def in_flight(self) -> set[str]:
        """The jobs whose calls to Stripe it waits for."""
        found = (_JOB.search(piece) for piece in self.wire.asking())
        return {match[1].decode() for match in found if match}


class DrilledDesk:
    """All processes of one drill. Nothing of it is the user's desk: own folder, key, ports, store and Stripe."""

    def __init__(self, plan: Plan, parts: Parts, folder: Path) -> None:
        self._plan, self._parts, self.folder = plan, parts, folder
        self.oracle_db = folder / "stripe.sqlite"
        self.store_server, self.broker_server = parts.store(folder), parts.broker(folder)
        self.workers: list[Worker] = []
        self._started: list[DeskProcess] = []
        self._wires: list[TcpProxy] = []
        self._calls: RedisCalls | None = None
        self.revived = 0
        """How often a process that ended by itself was started again."""

    async def start(self) -> None:
        """Start everything and return when the front door is ready and every worker has its heartbeat."""
        self._start_standin()
        await self._until(self._standin_answers, "the stand-in")
        for server in (self.store_server, self.broker_server):
            server.prepare()
        self.store, self.broker = (self._server(name, server) for name, server in (
            ("store", self.store_server), ("broker", self.broker_server)))
        for process, server in ((self.store, self.store_server), (self.broker, self.broker_server)):
            process.start()
            await self._until(server.answers, process.name)
        self._calls = self.calls = RedisCalls.connect(self.store_server.url, deadline_seconds=STORE_SECONDS)
        self.store_wire = await self._wire(self.store_server.port)
        for number in range(1, self._plan.workers + 1):
            await self._add_worker(number)
        self._start_web()
        await self._until(self._is_ready, "the front door")
        await self._until(self._all_beat, "the workers")

    def _start_standin(self) -> None:
        self.stripe_port = free_port()
        options = ("--port", str(self.stripe_port), "--db", str(self.oracle_db))
        environment = {**self._clean(), "PYTHONPATH": str(CHECKOUT)}
        self.stripe = self._process("stripe", self._parts.standin(options), environment)
        self.stripe.start()

    def _standin_answers(self) -> bool:
        try:
            self.standin = Standin(f"http://{LOOPBACK}:{self.stripe_port}")
        except (OSError, StandinFailed):
            return False
        return True

    def _server(self, name: str, server: Server) -> DeskProcess:
        return self._kept(DeskProcess(name, server.command, self._clean(), server.folder, self.folder / f"{name}.log",
                                      in_child=self._parts.in_child))

    async def _add_worker(self, number: int) -> None:
        wire = await self._wire(self.stripe_port)
        environment = {**self._environment(), "PAYDESK_WORKER_NAME": f"w{number}",
                       "STRIPE_API_BASE": f"http://{LOOPBACK}:{wire.port}"}
        process = self._process(f"worker {number}", self._parts.worker(environment), environment)
        process.start()
        self.workers.append(Worker(process, wire))

    def _start_web(self) -> None:
        port = free_port()
        self.url = f"http://{LOOPBACK}:{port}"
        environment = {**self._environment(), "PAYDESK_PORT": str(port)}
        self.web = self._process("web", self._parts.web(environment), environment)
        self.web.start()

    def _process(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> DeskProcess:
        # The folder has no .env: what a process knows is what the drill gives it.
        log = self.folder / f"{name.replace(' ', '_')}.log"
        return self._kept(DeskProcess(name, command, environment, self.folder, log, in_child=self._parts.in_child))

    def _kept(self, process: DeskProcess) -> DeskProcess:
        """Known from before it starts, so that it is ended whatever comes."""
        self._started.append(process)
        return process

    async def _wire(self, port: int) -> TcpProxy:
        wire = TcpProxy(port)
        self._wires.append(wire)
        await wire.accept()
        return wire

    def _clean(self) -> dict[str, str]:
        return {name: text for name, text in process_environment().items() if not name.startswith(_NOT_OURS)}

    def _environment(self) -> dict[str, str]:
        return {**self._clean(), "PYTHONPATH": str(CHECKOUT), "PYTHONUNBUFFERED": "1", "PAYDESK_SECRET": SECRET,
                "REDIS_URL": self.store_wire.url(self.store_server.url), "BROKER_URL": self.broker_server.url,
                "PAYDESK_DATA_DIR": str(self.folder / "data"), "PAYDESK_WORKER_THREADS": _THREADS,
                "PAYDESK_LEASE_SECONDS": str(self._plan.lease_seconds), "STRIPE_SECRET_KEY": KEY,
                "STRIPE_API_BASE": f"http://{LOOPBACK}:{self.stripe_port}", "STRIPE_RATE_PER_SECOND": "1000",
                "MOCK_PAYS_AFTER_SECONDS": "1"}

    async def _until(self, ready: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not await (ready() if asyncio.iscoroutinefunction(ready) else asyncio.to_thread(ready)):
            if time.monotonic() > deadline:
                raise NotReady(f"{what} did not come up within {START_SECONDS:g} s.\n{self.told()}")
            await asyncio.sleep(_POLL_SECONDS)

    async def _is_ready(self) -> bool:
        try:
            async with aiohttp.ClientSession() as session, session.get(f"{self.url}/readyz") as answer:
                return answer.status == 200
        except (OSError, aiohttp.ClientError):
            return False

    async def _all_beat(self) -> bool:
        now_ms = int(time.time() * 1000)
        fresh = await self.calls.call("ZCOUNT", f"{ROOT}workers", now_ms - WORKER_FRESH_SECONDS * 1000, "+inf")
        return int(fresh) >= len(self.workers)

    def begin_faults(self) -> None:
        """Let the stand-in take its time, and do wrong to a fifth of all calls."""
        self.standin.settings(latency={"seed": self._plan.seed, "default": LATENCY})
        for number, fault in enumerate(FAULTS):
            more = {name: fault[name] for name in ("delay_ms", "end") if name in fault}
            self.standin.fault(fault["action"], **more, probability=fault["share"], times=10**9,
                               seed=self._plan.seed * 1000 + number)

    async def calm(self) -> None:
        """End every fault: the stand-in answers, the wires pass, nothing is frozen, everything runs."""
        await asyncio.to_thread(self.standin.clear_faults)
        for worker in self.workers:
            worker.wire.let_go()
            worker.process.thaw()
        self.revive()

    def revive(self) -> None:
        """Start again what ended by itself."""
        for process in self.processes():
            if not process.runs:
                self.revived += 1
                process.start()

    def processes(self) -> list[DeskProcess]:
        """All but the stand-in, which stays up: it is the oracle."""
        return [self.store, self.broker, self.web, *(worker.process for worker in self.workers)]

    async def unfinished(self) -> int | None:
        """How many jobs have not ended; None while the store does not answer."""
        return await self._count(_OPEN)

    async def in_work(self) -> int | None:
        """How many jobs the desk has still to work; those in doubt wait for Stripe, some of them until the end."""
        return await self._count(_IN_WORK)

    async def _count(self, statuses: Sequence[Status]) -> int | None:
        try:
            counted = await asyncio.gather(*(self.calls.call("ZCARD", f"{ROOT}jobs:{status}") for status in statuses))
        except StoreUnavailable:
            return None
        return sum(map(int, counted))

    async def unknown(self) -> set[str]:
        """The jobs of which nobody knows whether Stripe has them."""
        return set(await self.calls.call("ZRANGE", f"{ROOT}jobs:{Status.UNKNOWN}", 0, -1))

    def told(self) -> str:
        """The last lines of each process's log."""
        logs = sorted(self.folder.glob("*.log"))
        return "\n".join(f"-- {log.name}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-12:])
                         for log in logs)

    async def stop(self) -> None:
        """End everything at once: what is to be known is known."""
        for process in self._started:
            process.kill()
        for wire in self._wires:
            await wire.__aexit__()
        if self._calls is not None:
            await self._calls.close()


_OPEN = tuple(status for status in UNFINISHED if status is not Status.PARKED)
"""What a worker must still move; a parked job waits for a human, and is a violation here."""
_IN_WORK = (Status.QUEUED, Status.RUNNING, Status.RETRYING)


def free_port() -> int:
    """A port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def drilled_desk(plan: Plan, parts: Parts, folder: Path) -> AsyncIterator[DrilledDesk]:
    """A desk that is ready; ended with all its processes, however the drill ends."""
    desk = DrilledDesk(plan, parts, folder)
    try:
        await desk.start()
        yield desk
    finally:
        await desk.stop()

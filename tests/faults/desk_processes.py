"""A desk in pieces, each of which a test can kill and restart: embedded servers, worker processes, the stand-in."""

import asyncio
import inspect
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import redis
from celery import Celery
from redis.backoff import NoBackoff
from redis.retry import Retry

from cli import processes
from cli.servers import BROKER, STORE, EmbeddedServer
from shared.broker import Backlog, Hinter, create_celery
from shared.circuit import Circuit
from shared.epoch import STAMP_FILE, Epoch
from shared.errors import StoreFull, StoreUnavailable
from shared.ids import Ids
from shared.jobs import Job, Lane, Status
from shared.ledger import Ledger
from shared.redis_calls import ROOT, RedisCalls
from shared.requests import ChargeRequest, Request
from shared.settings import Settings
from shared.store import Accepted, JobStore
from shared.stripe_params import new_job
from standin.client import Standin

ROOT_FOLDER = Path(__file__).resolve().parents[2]
KEY = "sk_test_fake"
SECRET = "faults"
LEASE_SECONDS = 3.0
HINTED_MS = 5_000
"""When a hinted job is due by itself, as the front door sets it."""
STORE_DEADLINE_SECONDS = 2.0
_OURS = ("STRIPE_", "PAYDESK_", "REDIS_", "BROKER_", "LOG_", "FLOWER_")
START_SECONDS = 50.0
"""How long a worker may take to come up on a machine that does other work."""
_POLL_SECONDS = 0.02
_END_SECONDS = 20.0

Condition = Callable[[], object]
"""Asked until what it gives, or what it gives when awaited, is true."""


async def eventually(condition: Condition, within_seconds: float, what: str, told: Callable[[], str] = str) -> Any:
    """The condition's first true value; fails when there is none in time. The one place where a test waits."""
    deadline = time.monotonic() + within_seconds
    while True:
        found = condition()
        value = await found if inspect.isawaitable(found) else found
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_seconds:g} s: {what}; last seen: {value!r}\n{told()}")
        await asyncio.sleep(_POLL_SECONDS)


def charge(amount: str = "50.00", payment_method_id: str = "pm_card_visa") -> ChargeRequest:
    """A charge that succeeds unless its payment method says otherwise."""
    return ChargeRequest.model_validate({"amount": amount, "payment_method_id": payment_method_id})


class Servers:
    """A store and a broker of one desk."""

    def __init__(self, folder: Path) -> None:
        self.store = EmbeddedServer(STORE, folder)
        self.broker = EmbeddedServer(BROKER, folder)
        self._celery: Celery | None = None

    def start(self) -> None:
        """Start both, and a hinter to the broker: kombu keeps connections by address, so each desk there shares it."""
        self.store.start()
        self.broker.start()
        self._celery = create_celery(self.broker.url)
        self.hinter = Hinter(self._celery)
        self.hinter.start()

    def stop(self) -> None:
        """End both."""
        if self._celery is not None:
            self.hinter.stop()
            self._celery.pool.force_close_all()  # type: ignore[attr-defined]  # its types name the other pool
            self._celery.close()
        self.store.kill()
        self.broker.kill()

    def flush(self, *, broker: bool) -> None:
        """Forget every job. Under a running worker the broker must keep what Celery bound there, and the store its
        epoch and where its events stand: by them the worker knows that it is whole.
        """
        with redis.Redis.from_url(self.store.url, retry=Retry(NoBackoff(), 0), decode_responses=True) as client:
            epoch = client.hgetall(f"{ROOT}epoch")
            events = f"{ROOT}events"
            stands = client.xinfo_stream(events)["last-generated-id"] if client.exists(events) else "0-0"
            ms, _, sequence = stands.partition("-")
            with client.pipeline() as together:
                together.flushall()
                together.xadd(events, {"event": "flushed"}, f"{ms}-{int(sequence) + 1}")
                together.xtrim(events, maxlen=0)
                if epoch:
                    together.hset(f"{ROOT}epoch", mapping=epoch)
                together.execute()
        if broker:
            with redis.Redis.from_url(self.broker.url, retry=Retry(NoBackoff(), 0)) as client:
                client.flushall()


class WorkerProcess:
    """One worker of the desk as `up` starts it, ended by its process id."""

    def __init__(self, number: int, environment: Mapping[str, str], folder: Path) -> None:
        self.environment = {**environment, "PAYDESK_WORKER_NAME": f"w{number}"}
        self.log = folder / f"worker_{number}.log"
        with self.log.open("ab") as log:
            # The folder has no .env: what a worker knows is what the test gives it.
            self.process = subprocess.Popen(processes.command(processes.WORKER, self.environment), cwd=folder,
                                            env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    @property
    def exit_code(self) -> int | None:
        """How it ended; None while it runs."""
        return self.process.poll()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def end(self) -> None:
        """End it as a crash would, frozen or not."""
        self.process.kill()
        self.process.wait()


class DeskProcesses:
    """One desk: what a client of it does, what runs for it, and what a test declares of its jobs' ends."""

    def __init__(self, servers: Servers, standin: Standin, folder: Path) -> None:
        self.servers, self.standin, self.folder = servers, standin, folder
        self.ids = Ids(SECRET)
        self.workers: list[WorkerProcess] = []
        self.accepted: dict[str, Request] = {}
        self.left: dict[str, Status] = {}
        """Jobs that a test leaves without an end, and how they stand: unknown, parked."""

    async def open(self) -> None:
        """Connect as the front door would."""
        self.calls = RedisCalls.connect(self.servers.store.url, deadline_seconds=STORE_DEADLINE_SECONDS)
        self.epoch = Epoch(self.calls, self.ids, self.folder / STAMP_FILE)
        await self.epoch.check()
        self.broker_calls = RedisCalls.connect(self.servers.broker.url, deadline_seconds=STORE_DEADLINE_SECONDS)
        self.jobs, self.ledger, self.circuit = JobStore(self.calls), Ledger(self.calls), Circuit(self.calls)
        self.backlog = Backlog(self.broker_calls)

    async def close(self) -> None:
        """End every worker that this desk started, and all connections."""
        for worker in self.workers:
            worker.end()
        await self.calls.close()
        await self.broker_calls.close()

    def settings(self, **changes: object) -> Settings:
        """What the front door of this desk would know."""
        known: dict[str, object] = {"stripe_secret_key": KEY, "stripe_api_base": self.standin.base_url, **changes}
        return Settings(_env_file=None, **known)  # type: ignore[arg-type]  # checked by pydantic itself

    def environment(self, **changes: str) -> dict[str, str]:
        """What a worker of this desk is started with; nothing of the desk that the tests may run beside."""
        kept = {name: text for name, text in os.environ.items() if not name.startswith(_OURS)}
        return {**kept, "PYTHONPATH": str(ROOT_FOLDER), "PYTHONUNBUFFERED": "1",
                "REDIS_URL": self.servers.store.url, "BROKER_URL": self.servers.broker.url, "PAYDESK_SECRET": SECRET,
                "PAYDESK_DATA_DIR": str(self.folder), "PAYDESK_WORKER_THREADS": "16",
                "PAYDESK_LEASE_SECONDS": str(LEASE_SECONDS),
                # A comparison with Stripe would take the fault that a test meant for a job's call.
                "PAYDESK_RECONCILE_SECONDS": "off", "STRIPE_SECRET_KEY": KEY,
                "STRIPE_API_BASE": self.standin.base_url, "STRIPE_RATE_PER_SECOND": "1000", **changes}

    def launch(self, **changes: str) -> WorkerProcess:
        """Start a worker and do not wait for it."""
        worker = WorkerProcess(len(self.workers) + 1, self.environment(**changes), self.folder)
        self.workers.append(worker)
        return worker

    async def start_workers(self, count: int = 1, **changes: str) -> list[WorkerProcess]:
        """Start workers and wait until each has its heartbeat in the store."""
        started = [self.launch(**changes) for _ in range(count)]
        await self.until(lambda: self.beating(started), START_SECONDS, "the workers' heartbeats")
        return started

    async def beating(self, workers: list[WorkerProcess]) -> bool:
        """Whether each of these workers has a fresh heartbeat."""
        try:
            now_ms = int((await self.calls.call("TIME"))[0]) * 1000
            names = await self.calls.call("ZRANGEBYSCORE", f"{ROOT}workers", now_ms - 2000, "+inf")
        except StoreUnavailable:
            return False
        return all(any(f":{worker.process.pid}:" in name for name in names) for worker in workers)

    def restart_ended_workers(self) -> None:
        """What the supervisor does for workers that end by themselves."""
        for worker in [worker for worker in self.workers if worker.exit_code is not None]:
            self.workers.remove(worker)
            self.workers.append(WorkerProcess(len(self.workers) + 100, worker.environment, self.folder))

    async def accept(self, request: Request | None = None, *, key: str | None = None, delay_ms: int = HINTED_MS,
                     settings: Settings | None = None) -> Accepted:
        """Accept a job and hint it to nobody."""
        request = request or charge()
        new = new_job(request, job_id=self.ids.job("local", "/faults", key), caller="local", ids=self.ids,
                      settings=settings or self.settings())
        accepted = await self.jobs.accept(new, delay_ms=delay_ms, deadline_seconds=STORE_DEADLINE_SECONDS)
        self.accepted[accepted.job.id] = request
        return accepted

    def hint(self, job: Job) -> None:
        """Tell Celery of a job."""
        assert self.servers.hinter.hint(job.kind, Lane.INTERACTIVE, [job.id])

    async def submit(self, request: Request | None = None, *, delay_ms: int = HINTED_MS,
                     settings: Settings | None = None) -> str:
        """Accept a job and hint it, as the front door does; answers its id."""
        job = (await self.accept(request, delay_ms=delay_ms, settings=settings)).job
        self.hint(job)
        return job.id

    async def submit_until_accepted(self, key: str) -> str:
        """A client that sends the same request again until it is accepted."""
        async def accepted() -> str | None:
            try:
                job = (await self.accept(key=key)).job
            except (StoreUnavailable, StoreFull):
                return None
            self.hint(job)
            return job.id

        job_id: str = await self.until(accepted, 25, f"{key} accepted")
        return job_id

    async def job(self, job_id: str) -> Job:
        """The job as it stands."""
        job = await self.jobs.get(job_id)
        assert job is not None, f"{job_id} is lost"
        return job

    async def comes_to(self, job_id: str, *statuses: Status, within_seconds: float = 25) -> Job:
        """The job once it stands so."""
        async def stands() -> Job | None:
            try:
                job = await self.job(job_id)
            except StoreUnavailable:
                return None
            return job if job.status in statuses else None

        job: Job = await self.until(stands, within_seconds, f"{job_id} {'/'.join(statuses)}")
        return job

    async def settled(self, within_seconds: float = 25) -> None:
        """Return once every accepted job has ended, but those that the test leaves as they stand."""
        expected = {job_id: self.left.get(job_id) for job_id in self.accepted}

        async def unsettled() -> list[str]:
            jobs = await asyncio.gather(*(self.job(job_id) for job_id in expected))
            return [f"{job.id} {job.status}" for job in jobs
                    if not (job.status is expected[job.id] if expected[job.id] else job.status.final)]

        async def all_settled() -> bool:
            try:
                return not await unsettled()
            except StoreUnavailable:
                return False

        try:
            await eventually(all_settled, within_seconds, "every job's end")
        except AssertionError:
            raise AssertionError(f"not ended within {within_seconds:g} s: {await unsettled()}\n{self.told()}") from None

    async def until(self, condition: Condition, within_seconds: float, what: str) -> Any:
        """`eventually`, and what the workers said when it fails."""
        return await eventually(condition, within_seconds, what, self.told)

    def told(self) -> str:
        """The last lines of each worker's log."""
        return "\n".join(f"-- {worker.log.name} (exit code {worker.exit_code})\n{_tail(worker.log)}"
                         for worker in self.workers)

    def charges_made(self) -> list[str]:
        """The job of every charge that really happened at Stripe."""
        return [effect["job_id"] for effect in self.standin.effects("charge")]

    def calls_made(self, job_id: str | None = None) -> int:
        """How many requests reached Stripe, for one job or at all."""
        return sum(job_id in (None, request["job_id"]) for request in self.standin.requests())

    async def messages_published(self) -> int:
        """How many messages the broker was given, by its own count of pushes."""
        stats: dict[str, dict[str, int]] = await self.broker_calls.redis.info("commandstats")
        return sum(int(stats.get(f"cmdstat_{name}", {}).get("calls", 0)) for name in ("lpush", "rpush"))


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:])

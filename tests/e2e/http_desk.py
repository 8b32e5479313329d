"""A whole desk behind HTTP, each part a process of its own that a test may kill."""

import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx2

from cli import processes
from cli.servers import free_port
from shared.jobs import Status
from standin.client import Standin
from tests.faults import invariants
from tests.faults.desk_processes import DeskProcesses, Servers, charge

CHARGES = "/api/stripe/process-charge"
PAYMENTS = "/api/stripe/create-payment"
CUSTOMERS = "/api/stripe/create-customer"
PAYMENT_STATUS = "/api/stripe/payment-status"
STATS = "/api/stripe/stats"
CHARGE = {"amount": 50.00, "payment_method_id": "pm_card_visa", "email": "customer@example.com",
          "description": "Service Payment"}
READY_SECONDS = 40.0


class HttpDesk(DeskProcesses):
    """A desk that is asked over HTTP. `settings`: variables of the environment of all its processes."""

    def __init__(self, servers: Servers, standin: Standin, folder: Path, settings: Mapping[str, str]) -> None:
        super().__init__(servers, standin, folder)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._settings = settings
        self._processes: list[subprocess.Popen[bytes]] = []

    def environment(self, **changes: str) -> dict[str, str]:
        """What each process of this desk is started with."""
        return super().environment(**{"PAYDESK_PORT": str(self.port), **self._settings, **changes})

    def start_web(self) -> subprocess.Popen[bytes]:
        """Start a web process, at the same port each time, and do not wait for it."""
        return self.start(processes.WEB, "web")

    def start(self, line: str, name: str, *, inside: Sequence[str] = (), **changes: str) -> subprocess.Popen[bytes]:
        """Start one of the lines of cli/processes.py, inside another command if one is given; it ends with the desk."""
        environment = self.environment(**changes)
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen([*inside, *processes.command(line, environment)], cwd=self.folder,
                                       env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._processes.append(process)
        return process

    async def close(self) -> None:
        """End every process that this desk started."""
        for process in self._processes:
            process.kill()
            process.wait()
        await super().close()

    @asynccontextmanager
    async def client(self) -> AsyncIterator[httpx2.AsyncClient]:
        """Somebody who asks this desk; kept connections would outlive a web process that is killed."""
        limits = httpx2.Limits(max_keepalive_connections=0)
        async with httpx2.AsyncClient(base_url=self.url, timeout=30, limits=limits) as client:
            yield client

    async def ready(self, client: httpx2.AsyncClient, *, workers: int) -> bool:
        """Whether it is ready, with so many workers."""
        try:
            found = await client.get("/readyz?verbose")
        except httpx2.TransportError:
            return False
        return found.status_code == 200 and found.json()["checks"]["workers"] >= workers

    async def came_to(self, client: httpx2.AsyncClient, job_id: str, status: Status = Status.SUCCEEDED,
                      ) -> dict[str, Any]:
        """A job, by polling its address, once it stands so."""
        async def stands() -> dict[str, Any]:
            job: dict[str, Any] = (await client.get(f"/api/jobs/{job_id}?wait=5")).json()
            return job if job.get("status") == status else {}

        job: dict[str, Any] = await self.until(stands, 20, f"{job_id} {status}")
        return job

    def told(self) -> str:
        """The last lines of each process's log."""
        return "\n".join([super().told(), *(f"-- {log.name}\n{log.read_text(errors='replace')[-2000:]}"
                                            for log in sorted(self.folder.glob("*.log")))])

    def remember(self, *job_ids: str) -> None:
        """Let the invariants be checked of jobs that were accepted over HTTP."""
        self.accepted |= dict.fromkeys(job_ids, charge())


@asynccontextmanager
async def http_desk(folder: Path, *, workers: Sequence[Mapping[str, str]] = ({},),
                    settings: Mapping[str, str] = MappingProxyType({}),
                    ) -> AsyncIterator[tuple[HttpDesk, httpx2.AsyncClient]]:
    """A ready desk on servers and a stand-in of its own, and a client; each worker with its own variables beside.

    Without workers it is not waited for. At the end every invariant must hold of what it has accepted.
    """
    servers = Servers(folder)
    try:
        servers.start()
        with Standin.start() as standin:
            desk = HttpDesk(servers, standin, folder, settings)
            await desk.open()
            try:
                desk.start_web()
                for own in workers:
                    desk.launch(**own)
                async with desk.client() as client:
                    if workers:
                        await desk.until(lambda: desk.ready(client, workers=len(workers)), READY_SECONDS, "readiness")
                    yield desk, client
                await invariants.check(desk)
            finally:
                await desk.close()
    finally:
        servers.stop()


def job_of(response: httpx2.Response) -> str:
    """The job that an answer points to."""
    return response.headers["location"].rpartition("/")[2]

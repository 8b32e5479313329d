"""Can this worker connect to Stripe? Asked by plain TCP, three quick tries, and told to the whole desk."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from shared.circuit import Circuit, Reach
from shared.errors import StoreUnavailable
from shared.failpoints import failpoint

log = structlog.get_logger(__name__)

TRIES = 3
TRY_SECONDS = 1.0
"""For dropped packets: the connect that failed (2 s), another worker's next tick (0.5 s) and its three tries (3.2 s)
come to less than the 8 s in which a job must be answered."""
BETWEEN_TRIES_SECONDS = 0.1

Connect = Callable[[], Awaitable[None]]


def tcp_connect(host: str, port: int) -> Connect:
    """A try that opens a connection and closes it; raises OSError when it cannot. It sends nothing."""

    async def connect() -> None:
        _, writer = await asyncio.open_connection(host, port)
        writer.close()

    return connect


class Reachability:
    """This worker's eye on Stripe. `reach` is the desk's shared view as this worker last saw it."""

    def __init__(self, circuit: Circuit, worker: str, connect: Connect) -> None:
        self._circuit = circuit
        self._worker = worker
        self._connect = connect
        self._checking: asyncio.Task[bool] | None = None
        self._failed = False
        self.reach = Reach(open=False, suspected=False, failing_workers=0, fresh_workers=0, threads=0, granted=False)

    async def check(self, *, suspected: bool = False) -> bool:
        """Try to connect now, once for all who ask meanwhile, and tell the desk; False when three tries failed.

        `suspected`: a call has just failed to connect, so the other workers are told to try as well, at once.
        """
        checking = self._begin_check()
        if suspected:
            self._see(await self._circuit.suspect(self._worker), failed=self._failed)
        return await asyncio.shield(checking)

    def _begin_check(self) -> asyncio.Task[bool]:
        if self._checking is None or self._checking.done():
            self._checking = asyncio.create_task(self._check())
            self._checking.add_done_callback(_note_failure)
        return self._checking

    async def _check(self) -> bool:
        connected = await self._connects()
        self._see(await (self._circuit.answered() if connected else self._circuit.failed(self._worker)),
                  failed=not connected)
        return connected

    async def _connects(self) -> bool:
        for attempt in range(TRIES):
            if attempt:
                await asyncio.sleep(BETWEEN_TRIES_SECONDS)
            try:
                failpoint("probe.before")
                async with asyncio.timeout(TRY_SECONDS):
                    await self._connect()
                failpoint("probe.after")
            except (OSError, TimeoutError):  # a failed look-up, refused, unreachable, or silence
                continue
            return True
        return False

    async def beat(self, *, threads: int) -> Reach:
        """This worker's heartbeat, and what follows from what the others saw; never waits for a try.

        While anyone fails or suspects, each worker tries for itself; while all fail, one at a time probes for Stripe's
        return; a worker that fails alone goes on trying.
        """
        self._see(await self._circuit.beat(self._worker, threads=threads), failed=self._failed)
        if self.reach.open or self._failed:
            if (await self._circuit.may_probe(self._worker)).granted:
                self._begin_check()
        elif self.reach.failing_workers or self.reach.suspected:
            self._begin_check()
        return self.reach

    async def refresh(self) -> None:
        """Look at the desk's view again."""
        self._see(await self._circuit.look(), failed=self._failed)

    @property
    def cut_off(self) -> bool:
        """Whether this worker cannot connect while others can: then it claims nothing."""
        return self._failed and not self.reach.open

    def _see(self, reach: Reach, *, failed: bool) -> None:
        before = (self.reach.open, self.cut_off)
        self.reach, self._failed = reach, failed
        if (reach.open, self.cut_off) != before:
            log.warning("stripe_reach", open=reach.open, cut_off=self.cut_off, failing_workers=reach.failing_workers,
                        fresh_workers=reach.fresh_workers)


def _note_failure(check: asyncio.Task[bool]) -> None:
    """A check that the store did not hear of is made again at the next tick; any other failure must be seen."""
    failure = None if check.cancelled() else check.exception()
    if failure is not None and not isinstance(failure, StoreUnavailable):
        log.warning("reach_not_checked", reason=type(failure).__name__)

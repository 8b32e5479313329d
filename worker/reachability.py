"""Can this worker connect to Stripe? Asked by plain TCP, three quick tries, and told to the whole desk."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from shared.circuit import Circuit, Reach

log = structlog.get_logger(__name__)

TRIES = 3
TRY_SECONDS = 1.5
"""Three of these and the connect that failed before stay under the 8 s in which a dropped packet must be answered."""
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
        self.reach = Reach(open=False, failing_workers=0, fresh_workers=0, threads=0, granted=False)

    async def check(self) -> bool:
        """Try to connect now, once for all who ask meanwhile, and tell the desk; False when three tries failed."""
        if self._checking is None or self._checking.done():
            self._checking = asyncio.create_task(self._check())
        return await asyncio.shield(self._checking)

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
                async with asyncio.timeout(TRY_SECONDS):
                    await self._connect()
            except (OSError, TimeoutError):  # a failed look-up, refused, unreachable, or silence
                continue
            return True
        return False

    async def beat(self, *, threads: int) -> Reach:
        """This worker's heartbeat, and what follows from what the others saw.

        While anyone fails, each worker tries for itself; while all fail, one at a time probes for Stripe's return; a
        worker that fails alone goes on trying.
        """
        self._see(await self._circuit.beat(self._worker, threads=threads), failed=self._failed)
        if self.reach.open or self._failed:
            if (await self._circuit.may_probe("" if self.reach.open else self._worker)).granted:
                await self.check()
        elif self.reach.failing_workers:
            await self.check()
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

"""Whether a new job is hinted to Celery at once, or left to the feeder because hints are waiting already."""

import asyncio

import structlog

from shared.broker import Backlog, Hinter, grace_ms, hints_cap
from shared.circuit import Circuit
from shared.errors import PaydeskError
from shared.jobs import Job, Lane
from shared.settings import Settings

log = structlog.get_logger(__name__)

_MEASURE_SECONDS = 0.1


class Hints:
    """Keeps Celery's list of interactive hints under its cap; what is not hinted is due at once, so order is kept.

    Between two measurements it counts what it gave itself. Never blocks and never fails a request.
    """

    def __init__(self, settings: Settings, hinter: Hinter, backlog: Backlog, circuit: Circuit) -> None:
        self._hinter = hinter
        self._backlog = backlog
        self._circuit = circuit
        self._threads = settings.worker_threads
        self._calls_per_second = settings.hinted_per_second
        self._room = hints_cap(self._threads)

    @property
    def has_room(self) -> bool:
        """Whether a job accepted now is to be hinted."""
        return self._room > 0

    def delay_ms(self, *, hinted: bool) -> int:
        """When a job accepted now is due: once its hint should have been taken, or at once."""
        if not hinted:
            return 0
        return grace_ms(Lane.INTERACTIVE, threads=self._threads, calls_per_second=self._calls_per_second)

    def give(self, job: Job) -> None:
        """Tell Celery to look at a job."""
        self._room -= 1
        self._hinter.hint(job.kind, job.lane, [job.id])

    async def watch(self) -> None:
        """Measure until cancelled. While the broker does not answer, jobs are left to the feeder."""
        while True:
            try:
                await self._measure()
            except PaydeskError:
                self._room = 0
            except Exception as failure:  # noqa: BLE001  # whatever it was, it must not end the watch
                self._room = 0
                log.warning("hints_not_measured", reason=type(failure).__name__)
            await asyncio.sleep(_MEASURE_SECONDS)

    async def _measure(self) -> None:
        waiting, reach = await asyncio.gather(self._backlog.waiting(Lane.INTERACTIVE), self._circuit.look())
        if reach.threads:
            self._threads = reach.threads
        self._room = hints_cap(self._threads) - waiting - self._hinter.unpublished

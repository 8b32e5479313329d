"""create_worker(settings): the composition root of a worker process, and the one place that chooses the processors."""

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Sequence
from urllib.parse import urlsplit

import structlog
from celery import Celery, signals

from shared.broker import Backlog, Hinter, create_celery
from shared.circuit import Circuit
from shared.epoch import STAMP_FILE, Epoch
from shared.errors import StoreLost, StoreUnavailable, WrongSecret
from shared.events import Events
from shared.failpoints import arm
from shared.ids import Ids, token
from shared.jobs import Lane
from shared.logs import configure_logging
from shared.redis_calls import RedisCalls
from shared.settings import STRIPE_API_VERSION, Settings
from shared.store import JobStore
from worker.desk import Desk, Terms
from worker.feeder import TICK_SECONDS, Feeder
from worker.log_follower import LogFollower
from worker.loop import WorkerLoop, summary, work
from worker.mock_processor import MockProcessor
from worker.pacing import Pacing
from worker.processor import Processor
from worker.progress import Progress
from worker.reachability import Reachability, tcp_connect
from worker.reconcile import Reconcile
from worker.reconcile_rounds import ReconcileRounds
from worker.stripe_processor import StripeProcessor
from worker.tasks import register_tasks

REFUSED_EXIT_CODE = 78
STALLED_EXIT_CODE = 75
"""Try again: whoever supervises the worker starts it anew."""

log = structlog.get_logger(__name__)

STORE_DEADLINE_SECONDS = 3.0
"""How long a worker waits for the store; a pause of its disk passes in this."""
MOST_CALL_SECONDS = 40.0
"""Longer than any call to Stripe and its record take."""


def create_worker(settings: Settings) -> Celery:
    """Build a worker's Celery app: its tasks, and a Worker that starts and stops with the process.

    Only a process that really works starts one; for Flower, which loads the same app, it is a list of names.
    """
    configure_logging("worker")
    arm(settings.failpoints)
    app = create_celery(settings.broker_url.get_secret_value())
    worker = Worker(settings)
    register_tasks(app, worker.work)
    signals.worker_init.connect(lambda **_: _start(worker), weak=False)
    signals.worker_ready.connect(lambda **_: worker.ready(), weak=False)
    signals.worker_shutting_down.connect(lambda **_: worker.drain(), weak=False)
    signals.worker_shutdown.connect(lambda **_: worker.stop(), weak=False)
    signals.setup_logging.connect(lambda **_: None, weak=False)  # told that logging is set up, Celery leaves it alone
    return app


def _start(worker: "Worker") -> None:
    """Start, or end the process: Celery would go on without it, taking hints that nobody works."""
    try:
        worker.start()
    except WrongSecret as wrong:
        sys.stderr.write(f"{wrong}\n")
        sys.exit(REFUSED_EXIT_CODE)
    except Exception as failure:
        log.exception("worker_not_started", reason=type(failure).__name__)
        sys.exit(1)


class Worker:
    """One worker process: a loop with a desk on it, and a feeder that ticks."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._name = f"{socket.gethostname()}:{os.getpid()}:{token()[:6]}"
        self._loop = WorkerLoop()
        self._hinter = Hinter(create_celery(settings.broker_url.get_secret_value()))
        self._progress = Progress(settings.worker_threads)
        self._desk: Desk | None = None

    def start(self) -> None:
        """Connect and begin to feed."""
        self._hinter.start()
        self._loop.start()
        self._loop.run(self._open)

    def ready(self) -> None:
        """Expect hints from now on: Celery consumes."""
        self._loop.call(lambda: self._progress.consumes(consuming=True))

    def work(self, lane: Lane, job_ids: Sequence[str]) -> str:
        """Work jobs, from one of Celery's threads, which waits for them."""
        return self._loop.run(lambda: self._work(lane, job_ids))

    def drain(self) -> None:
        """Begin nothing more: what waits for its turn stays due, for others or for the next start."""
        if self._desk is not None:
            self._desk.gate.closed = True
            self._loop.call(lambda: self._progress.consumes(consuming=False))

    def stop(self) -> None:
        """Leave the desk; called when Celery's threads have finished what they had."""
        self._loop.run(self._close)
        self._loop.stop()
        self._hinter.stop()

    async def _work(self, lane: Lane, job_ids: Sequence[str]) -> str:
        if self._desk is None:
            raise RuntimeError("the worker was not started")
        self._progress.began()
        try:
            await self._epoch.check()
            return summary(await work(self._desk, lane, job_ids))
        except StoreLost:
            return "store lost"
        except StoreUnavailable:  # expected: what was not begun is due, and what was begun ends its lease
            return "store away"
        finally:
            self._progress.ended()

    async def _open(self) -> None:
        settings = self._settings
        self._calls = RedisCalls.connect(settings.redis_url.get_secret_value(), deadline_seconds=STORE_DEADLINE_SECONDS)
        self._broker = RedisCalls.connect(settings.broker_url.get_secret_value(),
                                          deadline_seconds=STORE_DEADLINE_SECONDS)
        self._circuit = Circuit(self._calls)
        self._epoch = Epoch(self._calls, Ids(settings.instance_secret()), settings.data_dir / STAMP_FILE)
        with contextlib.suppress(StoreUnavailable):  # asked again before any work
            await self._epoch.check()
        self._desk = desk = create_desk(settings, self._calls, self._circuit, worker=self._name)
        self._feeder = Feeder(epoch=self._epoch, store=desk.store, backlog=Backlog(self._broker),
                              hinter=self._hinter, reachability=desk.reachability, progress=self._progress,
                              threads=settings.worker_threads, calls_per_second=settings.hinted_per_second)
        follower = LogFollower(Events(self._calls), settings.log_dir or settings.data_dir)
        parts = [self._feeder.run(), follower.run(), self._epoch.watch(), self._end_when_stalled(desk)]
        if isinstance(desk.stripe, StripeProcessor) and settings.reconcile_seconds is not None:
            parts.append(ReconcileRounds(desk, Reconcile(desk, desk.stripe, self._calls), self._epoch,
                                         every_seconds=settings.reconcile_seconds).run())
        self._ticking = [asyncio.create_task(part) for part in parts]

    async def _end_when_stalled(self, desk: Desk) -> None:
        """End the process once Celery brings it nothing any more, after the calls that run: no other way wakes it."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            if self._progress.stalled:
                break
        log.error("consumer_stalled", running=self._progress.running, exit_code=STALLED_EXIT_CODE)
        desk.gate.closed = True
        for _ in range(int(MOST_CALL_SECONDS / TICK_SECONDS)):
            if self._progress.running:
                await asyncio.sleep(TICK_SECONDS)
        with contextlib.suppress(StoreUnavailable):
            await self._circuit.leave(self._name)
        sys.stdout.flush()
        os._exit(STALLED_EXIT_CODE)  # Celery's own way out asks the consumer that stands still

    async def _close(self) -> None:
        for task in self._ticking:
            task.cancel()
        await asyncio.gather(*self._ticking, return_exceptions=True)
        with contextlib.suppress(StoreUnavailable):
            await self._circuit.leave(self._name)
        if self._desk is not None and self._desk.stripe is not None:
            await self._desk.stripe.close()
        await self._calls.close()
        await self._broker.close()


def create_desk(settings: Settings, calls: RedisCalls, circuit: Circuit, *, worker: str) -> Desk:
    """Put one worker's parts together. Runs on the loop that will use them."""
    base = urlsplit(settings.stripe_api_base)
    connect = tcp_connect(base.hostname or "", base.port or (443 if base.scheme == "https" else 80))
    pays_after = settings.mock_pays_after_seconds
    terms = Terms(mode=settings.mode, account=settings.account, fallback=settings.stripe_fallback,
                  lease_ms=int(settings.lease_seconds * 1000),
                  mock_pays_after_ms=None if pays_after is None else int(pays_after * 1000))
    return Desk(terms=terms, store=JobStore(calls), mock=MockProcessor(), stripe=_stripe(settings),
                pacing=Pacing(calls, mode=settings.mode, calls_per_second=settings.stripe_rate_per_second),
                reachability=Reachability(circuit, worker, connect), ids=Ids(settings.instance_secret()))


def _stripe(settings: Settings) -> Processor | None:
    if settings.stripe_secret_key is None:
        return None
    return StripeProcessor(api_key=settings.stripe_secret_key.get_secret_value(), api_base=settings.stripe_api_base,
                           api_version=STRIPE_API_VERSION)

"""Worker processes: each with the desk that a real one makes, its threads of Celery, its feeder, its rounds."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from shared.circuit import Circuit
from shared.epoch import Epoch
from shared.ids import Ids
from shared.settings import STRIPE_API_VERSION, Settings
from tests.faults.simulator.broker import Broker, Hint, SimulatedBacklog, SimulatedHinter
from tests.faults.simulator.clock import Process
from tests.faults.simulator.store import SimulatedCalls, Store
from tests.faults.simulator.stripe import Network, SimulatedHTTP, Stripe
from tests.faults.simulator.world import World
from worker.desk import Desk
from worker.feeder import Feeder
from worker.loop import work
from worker.machine import Machine
from worker.main import create_desk
from worker.processor import Processor
from worker.progress import Progress
from worker.reachability import Reachability
from worker.reconcile import Reconcile
from worker.reconcile_rounds import ReconcileRounds
from worker.stripe_processor import StripeProcessor

WrapProcessor = Callable[[Processor], Processor]
"""Puts something before Stripe's processor: for proof that the simulation notices."""


class Surroundings:
    """What all workers of a world share."""

    def __init__(self, world: World, settings: Settings, store: Store, wrap: WrapProcessor) -> None:
        self.world, self.settings, self.store, self.wrap = world, settings, store, wrap
        self.broker = Broker(world)
        self.network = Network(world)
        self.stripe = Stripe(world)


class Worker:
    """One worker process."""

    def __init__(self, around: Surroundings, name: str) -> None:
        self._around = around
        self.process = Process(name)
        self._holds: dict[int, Hint] = {}
        self._calls = SimulatedCalls(around.world, around.store, self.process)
        self.desk = self._create_desk()

    def _create_desk(self) -> Desk:
        around, world = self._around, self._around.world
        circuit = Circuit(self._calls)
        desk = create_desk(around.settings, self._calls, circuit, worker=self.process.name)
        assert around.settings.stripe_secret_key is not None
        self._stripe = StripeProcessor(api_key=around.settings.stripe_secret_key.get_secret_value(),
                                       api_base=around.settings.stripe_api_base, api_version=STRIPE_API_VERSION,
                                       http=SimulatedHTTP(world, around.stripe, around.network, self.process))
        return replace(desk, stripe=around.wrap(self._stripe),
                       reachability=Reachability(circuit, self.process.name,
                                                 partial(around.network.connect, self.process)),
                       machine=Machine(world.clock.lasted, world.clock.host_ms, world.rng.uniform))

    def start(self) -> None:
        """Begin to feed and to take hints."""
        around = self._around
        self._progress = Progress(around.settings.worker_threads, clock=around.world.loop.time)
        self._progress.consumes(consuming=True)
        self._epoch = Epoch(self._calls, Ids(around.settings.instance_secret()))
        feeder = Feeder(epoch=self._epoch, store=self.desk.store, backlog=SimulatedBacklog(around.broker),
                        hinter=SimulatedHinter(around.broker, self.process), reachability=self.desk.reachability,
                        progress=self._progress, threads=around.settings.worker_threads,
                        calls_per_second=around.settings.hinted_per_second)
        rounds = ReconcileRounds(self.desk, Reconcile(self.desk, self._stripe, self._calls), self._epoch)
        around.world.loop.start(self.process, feeder.run())
        around.world.loop.start(self.process, rounds.run())
        for thread in range(around.settings.worker_threads):
            around.world.loop.start(self.process, self._take_hints(thread))

    async def _take_hints(self, thread: int) -> None:
        """One of Celery's threads, as worker.main has it work."""
        while True:
            lane, job_ids = self._holds[thread] = await self._around.broker.take(self.process)
            self._progress.began()
            try:
                await self._epoch.check()
                await work(self.desk, lane, job_ids)
            except Exception as failure:  # noqa: BLE001  # Celery logs it and goes on
                self._around.world.say(self.process.name, f"a task ended with {type(failure).__name__}")
            self._progress.ended()
            del self._holds[thread]

    @property
    def is_busy(self) -> bool:
        """Whether it has a hint in its hands."""
        return bool(self._holds)

    def kill(self) -> None:
        """End it as kill -9 does."""
        self._around.world.loop.kill(self.process)
        self._around.broker.left(list(self._holds.values()))
        self._holds.clear()


class Fleet:
    """The workers that run, and the supervisor that starts another when one ends."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._started = 0
        self.running: list[Worker] = []

    def start(self) -> None:
        """Start one more."""
        self._started += 1
        worker = Worker(self._around, f"w{self._started}")
        self._around.world.say(worker.process.name, "starts")
        worker.start()
        self.running.append(worker)

    def kill(self, worker: Worker) -> None:
        """Kill one; another takes its place soon."""
        world = self._around.world
        self.running.remove(worker)
        world.counts["kills"] += 1
        world.counts["kills at work"] += worker.is_busy
        world.say(worker.process.name, f"is killed{', at work' if worker.is_busy else ''}")
        worker.kill()
        world.later(world.rng.uniform(0.1, 5), self.start)

    def freeze(self, worker: Worker, seconds: float) -> None:
        """Stop one for a while."""
        world = self._around.world
        world.counts["freezes"] += 1
        world.say(worker.process.name, f"freezes for {seconds:.1f} s")
        world.loop.freeze(worker.process)
        world.disturb(seconds)
        world.later(seconds, world.loop.thaw, worker.process)

    @property
    def is_busy(self) -> bool:
        """Whether any of them has a hint in its hands."""
        return any(worker.is_busy for worker in self.running)

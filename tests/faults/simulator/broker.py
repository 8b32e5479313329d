"""Celery, as far as the desk may rely on it: hints that come late, twice, out of order, or never."""

import asyncio
from collections import deque
from collections.abc import Sequence

from shared.broker import Backlog, Hinter
from shared.errors import StoreUnavailable
from shared.jobs import Lane
from tests.faults.simulator.clock import Process
from tests.faults.simulator.world import World

Hint = tuple[Lane, tuple[str, ...]]
_VISIBILITY_SECONDS = 60.0


class Broker:
    """The lists of hints, and who waits at them."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._lists: dict[Lane, list[tuple[str, ...]]] = {lane: [] for lane in Lane}
        self._takers: deque[tuple[Process, asyncio.Future[Hint]]] = deque()
        self.loses = world.climate.hints_lost
        self.away = False

    def waiting(self, lane: Lane) -> int:
        """How many hints wait in a lane."""
        return len(self._lists[lane])

    @property
    def is_empty(self) -> bool:
        """Whether nobody was hinted anything that is not taken."""
        return not any(self._lists.values())

    def publish(self, lane: Lane, job_ids: Sequence[str]) -> None:
        """Somebody hints: it arrives after a while, perhaps."""
        world = self._world
        if self.away or world.chance(self.loses):
            world.counts["hints lost"] += 1
            return
        world.later(world.rng.uniform(0.001, 0.05), self._arrive, lane, tuple(job_ids))
        if world.chance(0.05):
            world.counts["hints doubled"] += 1
            world.later(world.rng.uniform(0.001, 5), self._arrive, lane, tuple(job_ids))

    def _arrive(self, lane: Lane, job_ids: tuple[str, ...]) -> None:
        queue = self._lists[lane]
        if queue and self._world.chance(0.03):  # one hint may name several jobs
            job_ids = (*queue.pop(), *job_ids)
        if queue and self._world.chance(0.1):
            queue.insert(self._world.rng.randrange(len(queue)), job_ids)
        else:
            queue.append(job_ids)
        self._hand_out()

    def _hand_out(self) -> None:
        for lane, queue in self._lists.items():
            while queue and self._takers:
                process, taker = self._takers.popleft()
                if not process.dead and not taker.done():
                    taker.set_result((lane, queue.pop(0)))

    async def take(self, process: Process) -> Hint:
        """Wait for the next hint."""
        taker: asyncio.Future[Hint] = self._world.loop.create_future()
        self._takers.append((process, taker))
        self._hand_out()
        return await taker

    def left(self, hints: Sequence[Hint]) -> None:
        """A process died with these: some brokers deliver them again at once, some late, some never."""
        for lane, job_ids in hints:
            if self._world.chance(0.7):
                self._world.later(self._world.rng.choice((0.1, _VISIBILITY_SECONDS)), self._arrive, lane, job_ids)

    def forget(self) -> None:
        """Everything in it is gone."""
        for queue in self._lists.values():
            queue.clear()


class SimulatedHinter(Hinter):
    """Publishes for one process."""

    def __init__(self, broker: Broker, process: Process) -> None:
        # Not the base's: this has neither a thread nor a queue.
        self._broker, self._process = broker, process

    @property
    def unpublished(self) -> int:
        return 0

    def hint(self, kind: str, lane: Lane, job_ids: Sequence[str]) -> bool:
        if not self._process.dead:
            self._broker.publish(lane, job_ids)
        return True


class SimulatedBacklog(Backlog):
    """Counts the lists."""

    def __init__(self, broker: Broker) -> None:
        self._lists = broker

    async def waiting(self, lane: Lane) -> int:
        await asyncio.sleep(0.001)
        if self._lists.away:
            raise StoreUnavailable("The simulated broker is away.")
        return self._lists.waiting(lane)

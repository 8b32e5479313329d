"""The root of one simulation: its one source of chance, its clocks, its trace, and what was seen to be broken."""

import hashlib
import heapq
import random
from collections import Counter, deque
from collections.abc import Callable
from contextvars import copy_context
from typing import TYPE_CHECKING

from shared.jobs import NewJob
from tests.faults.simulator.climate import Climate
from tests.faults.simulator.clock import Clock, VirtualLoop

if TYPE_CHECKING:
    from tests.faults.simulator.watch import Watch

_TAIL = 60


class World:
    """One seed's world. Whoever needs chance draws it here, in an order that the seed alone decides."""

    watch: "Watch"

    def __init__(self, seed: int, charges: int, *, tell: Callable[[str], None] | None = None) -> None:
        self.seed = seed
        self.rng = random.Random(seed)  # noqa: S311  # to be repeatable
        self.clock = Clock()
        self.loop = VirtualLoop(self.clock)
        self.climate = Climate.draw(self.rng, charges)
        self.counts: Counter[str] = Counter()
        self.violations: list[str] = []
        self.tail: deque[str] = deque(maxlen=_TAIL)
        self.disturbed: list[tuple[float, float]] = []
        """From when to when the pace of calls says nothing: a clock was set, or somebody stood still."""
        self.specs: dict[str, NewJob] = {}
        self._names: dict[str, str] = {}
        self._calendar: list[tuple[float, int, Callable[[], None]]] = []
        self._entries = 0
        self._hash = hashlib.blake2b(digest_size=16)
        self._tell = tell
        self._outside = copy_context()

    def chance(self, likelihood: float) -> bool:
        """Whether something happens that happens so often."""
        return self.rng.random() < likelihood

    def say(self, who: str, what: str, *, quietly: bool = False) -> None:
        """Put a line into the trace; quietly: only into its digest."""
        line = f"{self.clock.lasted():12.6f} {who:<6} {what}"
        self._hash.update(line.encode())
        if not quietly:
            self.tail.append(line)
            if self._tell is not None:
                self._tell(line)

    def digest(self) -> str:
        """What two runs of one seed have in common."""
        return self._hash.hexdigest()

    def broken(self, what: str) -> None:
        """Say that something is that must never be."""
        self.say("!!!", what)
        self.violations.append(f"at {self.clock.lasted():.3f} s: {what}")

    def knows(self, new: NewJob) -> None:
        """Learn of a job that a client asks for."""
        self.specs[new.id] = new
        self._names.setdefault(new.id, f"{new.kind}#{len(self._names)}")

    def name(self, job_id: str) -> str:
        """A job's name in the trace."""
        return self._names.get(job_id, job_id)

    def later(self, seconds: float, act: Callable[..., None], *args: object) -> None:
        """Let the world do something; it belongs to no process, and no kill keeps it from happening."""
        self.loop.call_later(seconds, act, *args, context=self._outside)

    def at(self, seconds: float, act: Callable[[], None]) -> None:
        """Put something on the calendar, which also passes while everybody sleeps."""
        self._entries += 1
        heapq.heappush(self._calendar, (self.clock.lasted() + seconds, self._entries, act))

    def pass_calendar(self) -> None:
        """Do what the calendar has for now."""
        while self._calendar and self._calendar[0][0] <= self.clock.lasted():
            heapq.heappop(self._calendar)[2]()

    @property
    def next_entry(self) -> float | None:
        """In how many seconds the calendar has something."""
        return self._calendar[0][0] - self.clock.lasted() if self._calendar else None

    def disturb(self, seconds: float) -> None:
        """Say that for so long, and a while after, calls may be less even than the budget."""
        now = self.clock.awake
        self.disturbed.append((now, now + seconds))

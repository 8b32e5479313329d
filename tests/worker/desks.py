"""A worker's desk on the real store, with a Stripe that follows a script and a network that does what it is told."""

from collections.abc import Callable

from shared.ids import Ids
from shared.jobs import Job, Mode
from shared.settings import Fallback
from tests.shared.till import ACCOUNT, LEASE_MS, Till, new
from worker.desk import Desk, Terms
from worker.mock_processor import MockProcessor
from worker.pacing import Pacing
from worker.processor import Outcome, Processor
from worker.reachability import Connect, Reachability

WORKER = "w1"
Answers = Callable[[Job], Outcome]


class Scripted:
    """A processor that gives one answer to everything, and keeps what it was asked."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self.sent: list[Job] = []
        self.looked: list[Job] = []
        self.canceled: list[Job] = []

    async def send(self, job: Job) -> Outcome:
        self.sent.append(job)
        return self._answers(job)

    async def look(self, job: Job) -> Outcome:
        self.looked.append(job)
        return self._answers(job)

    async def cancel(self, job: Job) -> Outcome:
        self.canceled.append(job)
        return self._answers(job)

    async def close(self) -> None:
        """Nothing to let go of."""


async def connects() -> None:
    """The network is there."""


async def refuses() -> None:
    """The network is away."""
    raise ConnectionRefusedError


def make_desk(till: Till, stripe: Processor | None, *, fallback: Fallback = Fallback.MOCK, connect: Connect = connects,
              calls_per_second: float = 10_000) -> Desk:
    """One worker's desk."""
    mode = Mode.TEST if stripe else Mode.NONE
    terms = Terms(mode=mode, account=ACCOUNT if stripe else "", fallback=fallback, lease_ms=LEASE_MS,
                  mock_pays_after_ms=2000)
    return Desk(terms=terms, store=till.store, stripe=stripe, mock=MockProcessor(), ids=Ids("a secret"),
                pacing=Pacing(till.calls, mode=mode, calls_per_second=calls_per_second),
                reachability=Reachability(till.circuit, WORKER, connect))


async def claimed(till: Till, *, earlier_doubt: bool = False) -> Job:
    """A running job; with an earlier doubt, one whose first worker is gone."""
    await till.accept(new())
    if earlier_doubt:
        await till.crash()
    return await till.claimed()


async def lose_stripe(till: Till, desk: Desk) -> None:
    """Open the circuit, and let the desk know."""
    await till.open_circuit(WORKER)
    await desk.reachability.refresh()

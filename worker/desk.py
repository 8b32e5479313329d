"""What an attempt may use: one worker process's parts, put together in main.py."""

from dataclasses import dataclass, field

from shared.ids import Ids
from shared.jobs import Mode
from shared.settings import Fallback
from shared.store import JobStore
from worker.gate import Gate
from worker.machine import Machine
from worker.pacing import Pacing
from worker.processor import Processor
from worker.reachability import Reachability


@dataclass(frozen=True, slots=True)
class Terms:
    """The settings that attempts follow."""

    mode: Mode
    account: str
    fallback: Fallback
    lease_ms: int
    mock_pays_after_ms: int | None
    """None: the simulated customer never pays."""


@dataclass(frozen=True, slots=True)
class Desk:
    """One worker's side of the desk."""

    terms: Terms
    store: JobStore
    pacing: Pacing
    reachability: Reachability
    stripe: Processor | None
    """None without a key."""
    mock: Processor
    ids: Ids
    gate: Gate = field(default_factory=Gate)
    machine: Machine = field(default_factory=Machine)

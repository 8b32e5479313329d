"""How far the desk has compared itself with Stripe, what it found, and who compares now: one process at a time."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from typing import Any, Self

from shared.ids import token
from shared.redis_calls import ROOT, RedisCalls

LEASE_MS = 30_000
"""How long who compares may be silent before another takes over."""
_FOUND_PAGE = 500


class Discrepancy(StrEnum):
    """How Stripe's list and the desk's records can differ."""

    MISSING_HERE = "missing_here"
    """Stripe has an object that this desk made, and the desk has no job for it."""
    MISSING_THERE = "missing_there"
    """A job has an object of Stripe's, and Stripe says that there is none."""
    AMOUNT = "amount"
    """Object, job and ledger entry do not have the same amount."""
    STATUS = "status"
    """Stripe knows more of it, or something else, than the desk; a missing ledger entry is that too."""
    DUPLICATE = "duplicate"
    """Another object of the same job."""
    MALFORMED = "malformed"
    """An object that this desk made lacks what it must have."""
    FOREIGN = "foreign"
    """Somebody else made it. Counted, and nothing to mend."""


class Phase(StrEnum):
    """What a comparison goes through, in this order."""

    PAYMENT_INTENTS = "payment_intents"
    CUSTOMERS = "customers"
    JOBS = "jobs"
    """The desk's jobs whose objects were in none of the lists."""
    DONE = "done"


class Run(StrEnum):
    """Whose comparison it is."""

    WORKERS = "workers"
    """What the workers do by themselves, on and on."""
    ASKED = "asked"
    """What somebody asked for."""
    REBUILD = "rebuild"
    """Everything, after a loss."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One discrepancy, in words without personal data."""

    kind: Discrepancy
    object_id: str | None
    job_id: str | None
    here: str
    there: str
    fixed: bool = False
    noted: bool = False
    """The job says that something speaks against it."""

    def text(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, text: str) -> Self:
        """What `text` wrote."""
        known = json.loads(text)
        return cls(**{**known, "kind": Discrepancy(known["kind"])})


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one comparison is. Times are milliseconds since 1970 by the store's clock."""

    since_ms: int
    until_ms: int
    begun_ms: int
    fix: bool
    asked: str = ""
    """The window in the words of who asked."""
    phase: Phase = Phase.PAYMENT_INTENTS
    after: str = ""
    """The last object that was listed in this phase; of the jobs, how many were compared."""
    compared: int = 0
    """Objects of this desk, and jobs."""
    in_motion: int = 0
    """Left out, because a worker has them right now."""
    found: Mapping[str, int] = field(default_factory=dict)
    fixed: Mapping[str, int] = field(default_factory=dict)
    newest_ms: int = 0
    """When the newest listed object was created. Stripe's clock says it, so a wrong clock here leaves out nothing."""
    listed_to_ms: int = 0
    """Up to when everything listed is compared; 0 until the comparison is complete, or if there was nothing."""
    held_back_ms: int = 0
    """When the oldest object that was left out was created."""
    at_ms: int = 0
    complete: bool = False
    stopped_by: str = ""
    """Why it is not complete, in one word."""

    @property
    def left(self) -> int:
        """Discrepancies that still stand; foreign objects are none."""
        return sum(count - self.fixed.get(kind, 0) for kind, count in self.found.items() if kind != Discrepancy.FOREIGN)

    def with_findings(self, findings: Sequence[Finding], *, foreign: int = 0) -> Self:
        """The same, with more found."""
        found, fixed = dict(self.found), dict(self.fixed)
        for finding in findings:
            found[finding.kind] = found.get(finding.kind, 0) + 1
            if finding.fixed:
                fixed[finding.kind] = fixed.get(finding.kind, 0) + 1
        if foreign:
            found[Discrepancy.FOREIGN] = found.get(Discrepancy.FOREIGN, 0) + foreign
        return replace(self, found=found, fixed=fixed)

    def text(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, text: str) -> Self:
        """What `text` wrote; fields of another version are left alone."""
        known: dict[str, Any] = json.loads(text)
        names = {each.name for each in fields(cls)}
        return cls(**{**{name: value for name, value in known.items() if name in names},
                      "phase": Phase(known["phase"])})


@dataclass(frozen=True, slots=True)
class Seen:
    """The state at one moment."""

    held: bool
    """Whether who asked has the lease."""
    now_ms: int
    runs: Mapping[str, Progress]


class LeaseLost(Exception):
    """Another process compares now: this one was silent for too long."""


class ReconcileState:
    """One process's way to the state. Each method is one step; all may raise StoreUnavailable."""

    def __init__(self, calls: RedisCalls) -> None:
        self._calls = calls
        self._token = token()

    async def look(self) -> Seen:
        """What stands now; changes nothing."""
        return await self._say("look")

    async def hold(self) -> Seen:
        """Take the lease, if nobody has it or its holder is silent."""
        return await self._say("hold")

    async def keep(self) -> None:
        """Renew the lease. Raises LeaseLost."""
        self._mine(await self._say("keep"))

    async def begin(self, run: Run, progress: Progress) -> None:
        """Begin a comparison; what the one before it found is forgotten. Raises LeaseLost."""
        self._mine(await self._say("begin", run, progress.text()))

    async def save(self, run: Run, progress: Progress, *, listed: Sequence[str] = (),
                   findings: Sequence[Finding] = ()) -> None:
        """Keep how far it is and what was found, and mark the jobs whose objects were listed. Raises LeaseLost."""
        found = json.dumps([finding.text() for finding in findings])
        self._mine(await self._say("save", run, progress.text(), progress.begun_ms, found, *listed))

    async def leave(self) -> None:
        """Let others compare."""
        await self._say("leave")

    async def findings(self, run: Run) -> list[Finding]:
        """What was found, in order; of very many the newest."""
        found: list[Finding] = []
        while True:
            page = await self._calls.call("LRANGE", f"{ROOT}reconcile:found:{run}", len(found),
                                          len(found) + _FOUND_PAGE - 1)
            found += [Finding.read(text) for text in page]
            if len(page) < _FOUND_PAGE:
                return found

    async def _say(self, verb: str, *more: str | float) -> Seen:
        held, now_ms, flat = await self._calls.script("reconcile", verb, self._token, LEASE_MS, *more)
        state = dict(zip(flat[::2], flat[1::2], strict=True))
        runs = {name.removeprefix("run:"): Progress.read(text) for name, text in state.items()
                if name.startswith("run:")}
        return Seen(held == 1, int(now_ms), runs)

    def _mine(self, seen: Seen) -> None:
        if not seen.held:
            raise LeaseLost

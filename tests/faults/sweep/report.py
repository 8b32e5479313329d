"""What a sweep found, counted."""

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from shared import failpoints
from tests.faults.sweep.combinations import FAULTS, Combination, Crash, Shape
from tests.faults.sweep.rig import Outcome

NEVER_PASSED = {
    "moment": "reads at one moment for pages and for `verify`: no job passes it",
    "operate": "a human's step, and idempotent by its token: tests/shared/test_operator.py",
    "note": "needs an object that contradicts its job: tests/worker/test_reconcile.py",
    "reconcile.note": "the same",
    "reconcile.retrieve": "needs an object that Stripe has lost: tests/worker/test_reconcile.py",
    "probe.after": "needs a network that comes back between two tries: tests/faults/test_circuit.py",
}
"""Steps and failpoints that no run of the sweep passes, and why."""


@dataclass(slots=True)
class Report:
    """The outcomes so far. A combination counts only if all its stops were reached and its fault was played."""

    planned: int = 0
    outcomes: dict[Combination, Outcome] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    def add(self, outcome: Outcome) -> None:
        """Count one."""
        self.outcomes[outcome.combination] = outcome

    @property
    def fired(self) -> list[Combination]:
        """Combinations with a stop in which everything happened."""
        return [one for one, outcome in self.outcomes.items() if one.stops and outcome.fired]

    @property
    def broken(self) -> list[Outcome]:
        """Outcomes in which something did not hold, fired or not."""
        return [outcome for outcome in self.outcomes.values() if outcome.broken]

    def unreached_failpoints(self) -> list[str]:
        """Failpoints that stopped nothing in any combination, except those that no job passes."""
        reached = {stop.failpoint for one in self.fired for stop in one.stops}
        excused = {name for name in failpoints.names() if {name, name.rpartition(".")[0]} & set(NEVER_PASSED)}
        return sorted(failpoints.names() - reached - excused)

    def unplayed_faults(self) -> list[str]:
        """Faults that were played in no combination."""
        return sorted(set(FAULTS) - {one.fault for one in self.fired})

    def summary(self) -> dict[str, Any]:
        """The figures."""
        fired = self.fired
        return {
            "distinct_combinations_fired": len(fired), "of_them_pairs": sum(len(one.stops) == 2 for one in fired),
            "did_not_fire_together": sum(bool(one.stops) for one in self.outcomes) - len(fired),
            "faults_alone": sum(not one.stops for one in self.outcomes),
            "violations": [{"combination": str(outcome.combination), "broken": outcome.broken}
                           for outcome in self.broken],
            "seconds": round(time.monotonic() - self.began, 1),
            "seconds_each": round(sum(outcome.seconds for outcome in self.outcomes.values())
                                  / max(1, len(self.outcomes)), 3),
            "failpoints": len({stop.failpoint for one in fired for stop in one.stops}),
            "faults": len({one.fault for one in fired}), "shapes": len({one.shape for one in fired}),
            "by_crash": Counter(str(stop.crash) for one in fired for stop in one.stops),
            "by_shape": Counter(str(one.shape) for one in fired),
            "unreached_failpoints": self.unreached_failpoints(), "unplayed_faults": self.unplayed_faults(),
        }

    def line(self) -> str:
        """How far it is."""
        return (f"{len(self.outcomes)}/{self.planned} run, {len(self.fired)} fired, {len(self.broken)} violations, "
                f"{time.monotonic() - self.began:.0f} s")

    def table(self) -> str:
        """The end, for people."""
        said = self.summary()
        lines = [f"{name.replace('_', ' '):32} {_shown(value)}" for name, value in said.items() if name != "violations"]
        lines.append(f"{'violations':32} {len(said['violations'])}")
        for outcome in self.broken:
            lines += [f"VIOLATION in {outcome.combination}", *(f"  {sentence}" for sentence in outcome.broken),
                      f'  alone: python -m tests.faults.sweep --only "{outcome.combination}"']
        return "\n".join(lines) + "\n"


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {count}" for name, count in sorted(value.items()))
    return ", ".join(value) or "none" if isinstance(value, list) else str(value)


def combinations_there_are(kinds: Iterable[Shape] = Shape) -> int:
    """How many there would be if everything could be combined with everything."""
    return len(failpoints.names()) * len(Crash) * len(FAULTS) * len(list(kinds))

"""python -m tests.faults.sweep: the whole sweep, or one combination of it."""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from tests.faults.sweep.combinations import Combination
from tests.faults.sweep.plan import LONG, SHORT, Size
from tests.faults.sweep.report import Report
from tests.faults.sweep.rig import Rig
from tests.faults.sweep.sweep import sweep

_MEMORY = Path("/dev/shm")  # noqa: S108  # only as the parent of a temporary folder


def main() -> int:
    """Run what is asked for; 1 when anything did not hold."""
    asked = _read()
    if asked.serve:
        return _serve()
    if asked.only:
        return _only(asked.only)
    size = SHORT if asked.short else Size(LONG.calibrated, asked.singles, asked.pairs)
    report = sweep(size, jobs=asked.jobs, seed=asked.seed, tell=lambda report: _progress(report, asked.json))
    sys.stdout.write(json.dumps(report.summary(), indent=2) + "\n" if asked.json else report.table())
    return 1 if report.broken or report.unreached_failpoints() else 0


def _read() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.sweep", description=__doc__)
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time, each with a store and a stand-in")
    parser.add_argument("--seed", type=int, default=1, help="which sample is drawn")
    parser.add_argument("--singles", type=int, default=LONG.singles, help="combinations with one stop, at most")
    parser.add_argument("--pairs", type=int, default=LONG.pairs, help="combinations with two stops, at most")
    parser.add_argument("--short", action="store_true", help="the sample that every change is tested with")
    parser.add_argument("--only", metavar="COMBINATION", help='one of them, like "record.before exit none charge"')
    parser.add_argument("--json", action="store_true", help="the result as JSON")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def _only(text: str) -> int:
    with _rig_folder() as folder, Rig(Path(folder)) as rig:
        outcome = rig.run(Combination.read(text))
        told = rig.told() if outcome.broken else ""
    sys.stdout.write(f"{text}\n  fired: {outcome.fired} (stops {list(outcome.reached)}, fault {outcome.fault_played}), "
                     f"{outcome.rounds} rounds, {outcome.seconds:.2f} s\n"
                     + "".join(f"  VIOLATION: {sentence}\n" for sentence in outcome.broken) + told)
    return 1 if outcome.broken else 0


def _serve() -> int:
    """One process of a sweep: a combination a line comes in, its outcome goes out as a line."""
    with _rig_folder() as folder, Rig(Path(folder)) as rig:
        for line in sys.stdin:
            text, _, watched = line.rstrip("\n").partition("\t")
            outcome = rig.run(Combination.read(text), watched=bool(watched))
            sys.stdout.write(json.dumps({
                "reached": outcome.reached, "fault_played": outcome.fault_played, "broken": outcome.broken,
                "rounds": outcome.rounds, "seconds": outcome.seconds, "passed": outcome.passed}) + "\n")
            sys.stdout.flush()
    return 0


def _rig_folder() -> "tempfile.TemporaryDirectory[str]":
    """In memory where that is possible: a kill takes nothing that the kernel has, and no disk is waited for."""
    return tempfile.TemporaryDirectory(prefix="sweep-", dir=_MEMORY if _MEMORY.is_dir() else None)


def _progress(report: Report, quietly: bool) -> None:
    if not quietly:
        sys.stderr.write(report.line() + "\n")


if __name__ == "__main__":
    sys.exit(main())

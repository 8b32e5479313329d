"""python -m tests.faults.simulator --seeds 500 --charges 1000 --jobs 2: many seeds, a summary, exit 1 on any violation.

`--seed N` runs one seed; with `--trace` it prints everything that happens in it.
"""

import argparse
import sys
import time
from collections.abc import Iterator

from tests.faults.simulator.many import failure, run_one, run_seeds, summary
from tests.faults.simulator.run import Report

_EVERY_SECONDS = 30.0


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.simulator", description="A desk in one thread.")
    parser.add_argument("--seeds", type=int, default=20, help="how many seeds")
    parser.add_argument("--first", type=int, default=1, help="the first of them")
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--charges", type=int, default=60, help="charges in each")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--trace", action="store_true", help="with --seed: print everything that happens")
    asked = parser.parse_args()
    if asked.seed is None:
        seeds = range(asked.first, asked.first + asked.seeds)
        found = list(_shown(run_seeds(seeds, asked.charges, asked.jobs), len(seeds), asked.charges))
    else:
        found = list(_shown(iter([run_one(asked.seed, asked.charges, _write if asked.trace else None)]), 1,
                            asked.charges))
    _write(summary(found))
    return 1 if any(report.violations for report in found) else 0


def _shown(reports: Iterator[Report], seeds: int, charges: int) -> Iterator[Report]:
    """Say how far it is, and every violation as soon as it is found."""
    began = last = time.monotonic()
    for done, report in enumerate(reports, start=1):
        if report.violations:
            _write(failure(report, charges))
        if time.monotonic() - last > _EVERY_SECONDS:
            last = time.monotonic()
            _write(f"{done} of {seeds} seeds, {last - began:.0f} s")
        yield report


def _write(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

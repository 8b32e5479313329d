"""`python -m tests.plants [NAME ...]`: plant each bug by itself and show which check catches it."""

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.plants.catching import Strayed, Verdict, catch
from tests.plants.planting import Plant, plants

LONG = ("tests/shared", "tests/worker", "tests/faults")
"""What --long runs on each plant, to show what else would have caught it."""
LONG_SECONDS = 900.0


def main(given: Sequence[str]) -> int:
    """Run the plants that are named, or all; 1 when any is not caught."""
    parser = argparse.ArgumentParser(prog="python -m tests.plants", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="a part of the names of those to run; all when none")
    parser.add_argument("--jobs", type=int, default=2, help="how many at once (default: 2)")
    parser.add_argument("--long", action="store_true", help=f"run all of {', '.join(LONG)} on each: minutes a plant")
    asked = parser.parse_args(given)
    chosen = [plant for plant in plants() if not asked.names or any(name in plant.name for name in asked.names)]

    def verdict(plant: Plant) -> Verdict:
        try:
            if asked.long:
                return catch(plant, LONG, first=False, seconds=LONG_SECONDS)
            return catch(plant, plant.caught_by)
        except (LookupError, Strayed) as failure:
            return Verdict(plant.name, None, str(failure), 0)

    missed = 0
    with ThreadPoolExecutor(asked.jobs) as pool:
        for plant, found in zip(chosen, pool.map(verdict, chosen), strict=True):
            missed += found.caught_by is None
            _show(plant, found)
    _tell(f"{len(chosen)} planted, {len(chosen) - missed} caught, "
          f"{sum(plant.by == 'invariant' for plant in chosen)} of them by an invariant")
    return 1 if missed or not chosen else 0


def _show(plant: Plant, found: Verdict) -> None:
    end = found.why.replace("\n", " ")[:200] if found.caught_by else f"NOT CAUGHT: {found.why}"
    _tell(f"{plant.name:45} {plant.by:9} {found.seconds:5.1f} s  {end}")
    for also in found.failed[1:]:
        _tell(f"{'':65}{also}")


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What failpoints cost while none is armed: python -m bench.failpoints."""

import sys
import timeit

from shared.failpoints import arm, failpoint

_TIMES = 2_000_000
_ROUNDS = 5
PASSED_BY_A_CHARGE = 170
"""At a front door and a worker together, as the sweep counts them."""


def nothing(_name: str) -> None:
    """What any function call costs."""


def main() -> None:
    """Print nanoseconds, of the best of a few rounds."""
    arm("")
    costs_ns = {name: 1e9 / _TIMES * min(timeit.repeat("call('record.before')", globals={"call": call}, number=_TIMES,
                                                       repeat=_ROUNDS)) for name, call in (("a failpoint that is off", failpoint), ("an empty function", nothing))}
    for name, cost_ns in costs_ns.items():
        sys.stdout.write(f"{name}: {cost_ns:.0f} ns\n")
    off_ns = costs_ns["a failpoint that is off"]
    sys.stdout.write(f"a charge, {PASSED_BY_A_CHARGE} failpoints: {off_ns * PASSED_BY_A_CHARGE / 1000:.1f} µs\n")


if __name__ == "__main__":
    main()

"""What failpoints cost while none is armed: python -m bench.failpoints."""

import sys
import timeit
from collections.abc import Callable

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
    off_ns = _cost_ns(failpoint)
    sys.stdout.write(f"a failpoint that is off: {off_ns:.0f} ns\nan empty function: {_cost_ns(nothing):.0f} ns\n"
                     f"a charge, {PASSED_BY_A_CHARGE} failpoints: {off_ns * PASSED_BY_A_CHARGE / 1000:.1f} µs\n")


def _cost_ns(call: Callable[[str], None]) -> float:
    return 1e9 / _TIMES * min(timeit.repeat("call('record.before')", globals={"call": call}, number=_TIMES,
                                            repeat=_ROUNDS))


if __name__ == "__main__":
    main()

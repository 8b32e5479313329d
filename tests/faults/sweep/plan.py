"""Which combinations are run: all that can fire, or a sample in which nothing is left out for long."""

import itertools
import random
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from tests.faults.sweep.combinations import (
    FAULTS,
    NO_FAULT,
    NO_NETWORK,
    Combination,
    Crash,
    Process,
    Shape,
    Stop,
    meets,
)

MAIN = tuple(f"{step}.{side}" for step in ("feed", "reserve", "claim", "connect", "write", "read", "classify", "record",
                                           "release") for side in ("before", "after"))
"""The steps between which a job changes hands: those that are stopped in pairs."""

_MOST_PASSES = 16
"""Of one failpoint in one process: how far its passes are told apart."""
_REVEALING = (NO_NETWORK, "status:429", "status:500_before", "status:500_after")
"""Faults that lead a charge to steps that it does not pass without them."""
_WEB_SHAPES = (Shape.CHARGE, Shape.DECLINED, Shape.PAYMENT_INTENT, Shape.CUSTOMER, Shape.MOCK)
_PAIR_FAULTS = (NO_FAULT, "die_after_effect", "status:429", "status:409")

Passed = Mapping[Combination, Mapping[str, int]]
"""For combinations without a stop: how often each failpoint was passed."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything."""

    calibrated: int
    """Pairs of a fault and a shape that are first run without a stop."""
    singles: int
    pairs: int


SHORT = Size(calibrated=46, singles=230, pairs=20)
LONG = Size(calibrated=10_000, singles=5_400, pairs=10_000)


def calibrations(size: Size, dice: random.Random) -> list[Combination]:
    """Faults and shapes without a stop, each at least once: what is passed there can be stopped."""
    every = [Combination((), fault, shape) for fault in FAULTS for shape in Shape if meets(shape, fault)]
    chosen = [one for one in every if one.fault == NO_FAULT or (one.fault in _REVEALING and one.shape is Shape.CHARGE)]
    others = [one for one in every if one not in chosen]
    return chosen + _spread(others, size.calibrated - len(chosen), dice, [lambda one: one.fault])


def front_door() -> list[Combination]:
    """The shapes that are submitted at the front door, without a stop."""
    return [Combination((Stop(Process.WEB, "answer.before", Crash.EXIT, 1000),), NO_FAULT, shape)
            for shape in _WEB_SHAPES]


def singles(worker: Passed, web: Passed, size: Size, dice: random.Random) -> list[Combination]:
    """One stop each. First every failpoint, every fault, every way to crash there, then what they make together."""
    every = [Combination((stop,), one.fault, one.shape)
             for passed, process in ((worker, Process.WORKER), (web, Process.WEB))
             for one, counts in passed.items() for stop in _stops(process, counts)]
    return _spread(every, size.singles, dice, [
        lambda one: (one.stops[0].process, one.stops[0].failpoint), lambda one: one.fault,
        lambda one: (one.stops[0].failpoint, one.stops[0].crash),
        lambda one: (one.stops[0].failpoint, one.shape), lambda one: (one.stops[0].failpoint, one.fault),
        lambda one: (one.stops[0].failpoint, one.fault, one.stops[0].crash),
        lambda one: (one.stops[0].failpoint, one.fault, one.shape)])


def pairs(size: Size, dice: random.Random) -> list[Combination]:
    """A crash at i, and again at j during recovery, for all main i and j; half of them take the store with them."""
    every = []
    for first, second in itertools.product(MAIN, MAIN):
        for _ in range(2):
            stops = tuple(Stop(Process.WORKER, point, dice.choice(list(Crash))) for point in (first, second))
            fault = "status:429" if "release.before" in (first, second) else dice.choice(_PAIR_FAULTS)
            every.append(Combination(stops, fault, dice.choice((Shape.CHARGE, Shape.IN_DOUBT, Shape.PAYMENT_INTENT))))
    return _spread(every, size.pairs, dice, [lambda one: one.stops[0].failpoint, lambda one: one.stops[1].failpoint])


def _stops(process: Process, passed: Mapping[str, int]) -> Iterable[Stop]:
    return (Stop(process, name, crash, nth) for name, count in passed.items()
            for nth in range(1, min(count, _MOST_PASSES) + 1) for crash in Crash)


def _spread(every: Sequence[Combination], most: int, dice: random.Random,
            aspects: Sequence[Callable[[Combination], Hashable]]) -> list[Combination]:
    """Up to `most` of them by lot, those first that show something new in an aspect, the first aspect before others."""
    left, chosen = list(dict.fromkeys(every)), list[Combination]()
    dice.shuffle(left)
    for aspect in aspects:
        seen: Counter[Hashable] = Counter(map(aspect, chosen))
        rest = []
        for one in left:
            if seen[aspect(one)]:
                rest.append(one)
            else:
                seen[aspect(one)] += 1
                chosen.append(one)
        left = rest
    return [*chosen, *left][:most]

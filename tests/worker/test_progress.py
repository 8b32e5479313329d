"""Progress: a consumer that stands still is told from every other reason why nothing begins."""

from collections.abc import Callable, Iterable

import pytest

from worker.feeder import TICK_SECONDS
from worker.progress import MOST_PER_TICK_SECONDS, STALLED_AFTER_SECONDS, Progress

THREADS = 4
NOTICED_SECONDS = 30.0
ENOUGH = int(STALLED_AFTER_SECONDS / TICK_SECONDS)
"""Ticks of a consumer that stands still until it is said."""


class Watched:
    """A progress whose time passes as the test says."""

    def __init__(self, *, ready: bool = True) -> None:
        self.seconds = 1000.0
        self.progress = Progress(THREADS, clock=lambda: self.seconds)
        if ready:
            self.progress.consumes(consuming=True)

    def ticks(self, waiting: Iterable[int | None], *, apart: float = TICK_SECONDS,
              before_each: Callable[[], object] = str) -> bool:
        """Tick for each; whether it was ever stalled."""
        stalled = False
        for hints in waiting:
            self.seconds += apart
            before_each()
            self.progress.tick(hints)
            stalled = stalled or self.progress.stalled
        return stalled

    def works_a_hint(self) -> None:
        """A task that begins and ends."""
        self.progress.began()
        self.progress.ended()


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_hints_that_wait_while_threads_are_free_and_nothing_begins_are_a_stall(watched: Watched) -> None:
    assert not watched.ticks([7] * (ENOUGH - 1))
    assert watched.ticks([7])
    assert ENOUGH * TICK_SECONDS <= NOTICED_SECONDS


def test_a_stall_is_noticed_in_time_however_slow_the_ticks(watched: Watched) -> None:
    assert watched.ticks([1] * int(NOTICED_SECONDS / 2), apart=2)


def test_a_stall_with_some_threads_busy_is_one_too(watched: Watched) -> None:
    """The credit of the others leaked away: a call of half a minute holds one thread, and nothing else begins."""
    watched.progress.began()
    assert watched.ticks([7] * ENOUGH)
    assert watched.progress.running == 1


def test_an_idle_worker_waits_for_ever(watched: Watched) -> None:
    assert not watched.ticks([0] * 10 * ENOUGH)


def test_a_full_worker_is_busy_not_stalled(watched: Watched) -> None:
    for _ in range(THREADS):
        watched.progress.began()
    assert not watched.ticks([100] * 10 * ENOUGH)
    watched.progress.ended()
    assert not watched.ticks([100] * (ENOUGH - 1)), "its time counts from when a thread is free"
    assert watched.ticks([100])


@pytest.mark.parametrize("every", [1, 2, ENOUGH // 2, ENOUGH - 1])
def test_a_worker_that_works_a_hint_now_and_then_is_well(watched: Watched, every: int) -> None:
    """Also one that is cut off, or whose desk is on hold or waits for the network: it takes hints and lets them go."""
    for _ in range(20):
        assert not watched.ticks([50] * every)
        watched.works_a_hint()


def test_hints_that_others_take_in_time_are_no_stall(watched: Watched) -> None:
    """Seen at nearly every tick, but the list was empty in between: the others eat it, whoever is nearer."""
    assert not watched.ticks(([3] * (ENOUGH - 1) + [0]) * 10)


def test_a_broker_that_is_away_is_no_verdict(watched: Watched) -> None:
    assert not watched.ticks([None] * 10 * ENOUGH)
    assert not watched.ticks(([9] * (ENOUGH - 1) + [None]) * 10)


def test_before_the_consumer_is_up_nothing_is_expected() -> None:
    watched = Watched(ready=False)
    assert not watched.ticks([9] * 10 * ENOUGH)
    watched.progress.consumes(consuming=True)
    assert not watched.ticks([9] * (ENOUGH - 1)), "a worker that has just started has its full time"
    assert watched.ticks([9])


def test_a_worker_that_was_asked_to_take_no_more_is_not_stalled(watched: Watched) -> None:
    assert not watched.ticks([9] * (ENOUGH - 1))
    watched.progress.consumes(consuming=False)
    assert not watched.ticks([9] * 10 * ENOUGH)


def test_a_machine_that_slept_did_not_wait(watched: Watched) -> None:
    assert not watched.ticks([9] * 3)
    assert not watched.ticks([9], apart=8 * 3600)
    assert not watched.ticks([9] * int((STALLED_AFTER_SECONDS - MOST_PER_TICK_SECONDS) / TICK_SECONDS - 4))
    assert watched.ticks([9] * 4)

"""The drill's time: it stands still while the desk or the breaks are behind, and never for ever."""

import pytest

from drill.pace import ENOUGH_UNDER_WAY, Pace

FULL = 101


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds

    def pace(self) -> Pace:
        """A Pace that sees this time."""
        return Pace(most_under_way=FULL - 1, still_seconds=60, clock=self)


@pytest.fixture
def clock() -> Clock:
    """Time that stands still until it is moved."""
    return Clock()


def test_it_goes_on_while_the_desk_keeps_up(clock: Clock) -> None:
    pace = clock.pace()
    for under_way in (0, 100, None):
        clock.seconds += 1
        pace.see(under_way)
    assert pace.seconds == 3


def test_it_stands_still_while_too_much_is_under_way_but_not_for_ever(clock: Clock) -> None:
    pace = clock.pace()
    for _ in range(6):
        clock.seconds += 10
        pace.see(FULL)
    assert pace.seconds == 0
    clock.seconds += 10
    pace.see(FULL)
    assert pace.seconds == 10
    clock.seconds += 1
    pace.see(0)
    clock.seconds += 1
    pace.see(FULL)
    assert pace.seconds == 11


def test_it_stands_still_for_breaks_that_are_behind_while_they_have_something_to_meet(clock: Clock) -> None:
    pace = clock.pace()
    pace.next_break = 1.0
    clock.seconds += 5
    pace.see(ENOUGH_UNDER_WAY)
    clock.seconds += 5
    pace.see(ENOUGH_UNDER_WAY + 1)
    assert pace.seconds == 5
    clock.seconds += 5
    pace.see(ENOUGH_UNDER_WAY)
    assert pace.seconds == 10

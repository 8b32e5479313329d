"""The worker's own clock may be anything: it only says when a pending job is looked at again."""

import pytest

from shared.jobs import Job
from tests.shared.till import new
from worker.facts import DAY_SECONDS, LOOK_AT_SECONDS, look_ms

CREATED_MS = 1_795_000_000_000
HOUR_MS = 3_600_000
SOONEST_MS = 1


def pending() -> Job:
    return new().queued(CREATED_MS)


@pytest.mark.parametrize("age_ms", [0, 30_000, 60_000, 5 * HOUR_MS, 100 * HOUR_MS])
@pytest.mark.parametrize("off_ms", [-1000 * HOUR_MS, -HOUR_MS, HOUR_MS, 1000 * HOUR_MS])
def test_a_clock_that_is_off_looks_again_within_a_day_and_never_at_once_for_ever(age_ms: int, off_ms: int) -> None:
    found_ms = look_ms(pending(), now_ms=CREATED_MS + age_ms + off_ms)
    assert SOONEST_MS <= found_ms <= DAY_SECONDS * 1000


def test_a_clock_that_is_behind_looks_as_if_the_job_were_new() -> None:
    assert look_ms(pending(), now_ms=CREATED_MS - HOUR_MS) == LOOK_AT_SECONDS[0] * 1000

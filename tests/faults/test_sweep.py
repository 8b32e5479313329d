"""The sweep itself: a sample for every change, all of it with --long. Whatever is stopped, every job ends right."""

import sys

import pytest

from shared import failpoints
from standin.faults import Action
from tests.faults.sweep.combinations import FAULTS, Combination, Crash, Process, Shape, Stop
from tests.faults.sweep.plan import LONG, SHORT, Size
from tests.faults.sweep.report import NEVER_PASSED, Report
from tests.faults.sweep.sweep import sweep

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="process handles (pidfd) are Linux's")

SEED = 1


def _tell(report: Report) -> None:
    sys.stderr.write(report.line() + "\n")


def _swept(size: Size) -> Report:
    report = sweep(size, jobs=2, seed=SEED, tell=_tell)
    assert not report.broken, report.table()
    assert report.unreached_failpoints() == [], report.table()
    assert report.unplayed_faults() == [], report.table()
    assert {one.shape for one in report.fired} == set(Shape), report.table()
    return report


@pytest.mark.timeout(600)
def test_stopped_at_every_failpoint_and_struck_by_every_fault_every_job_ends_right() -> None:
    report = _swept(SHORT)
    assert len(report.fired) >= 200, report.table()


@pytest.mark.long
@pytest.mark.timeout(4 * 3600)
def test_the_whole_sweep_finds_nothing() -> None:
    report = _swept(LONG)
    assert len(report.fired) >= 5_000, report.table()


@pytest.mark.parametrize("text", [
    "record.before exit status:500_after charge", "trip.after@3 store none customer",
    "web:accept.after both refuse payment_intent", "claim.after exit record.before store none in_doubt", "none mock"])
def test_a_combination_is_read_as_it_is_written(text: str) -> None:
    assert str(Combination.read(text)) == text


def test_a_combination_is_its_stops_its_fault_and_its_shape() -> None:
    assert Combination.read("web:get.before@2 both hang_after look") == Combination(
        (Stop(Process.WEB, "get.before", Crash.BOTH, 2),), "hang_after", Shape.LOOK)


@pytest.mark.parametrize("text", ["exit none charge", "record.before none charge", "record.before exit nothing charge",
                                  "record.before exit none chargeback", "record.before stop none charge"])
def test_what_is_no_combination_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Combination.read(text)


def test_the_sweep_knows_every_fault_of_the_stand_in() -> None:
    assert {fault.action for fault in FAULTS.values()} - {None} == {str(action) for action in Action}


def test_only_steps_that_there_are_may_be_left_out() -> None:
    assert set(NEVER_PASSED) <= failpoints.names() | {name.rpartition(".")[0] for name in failpoints.names()}

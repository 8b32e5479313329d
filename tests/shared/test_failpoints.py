"""Failpoints: armed by a text, each acts once, and none is armed by a wrong name."""

from collections.abc import Iterator

import pytest

from shared.failpoints import FailpointReached, arm, failpoint, left, names, watch


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    arm("")


def test_each_acts_once_at_the_pass_that_was_asked_for() -> None:
    arm("claim.after=raise@2, record.before=raise")
    failpoint("claim.after")
    with pytest.raises(FailpointReached, match=r"claim\.after"):
        failpoint("claim.after")
    failpoint("claim.after")
    assert left() == {"record.before"}


@pytest.mark.parametrize("text", ["claims.after=exit", "claim=exit", "answer.after=exit", "_job.before=exit", "=exit",
                                  "claim.after", "claim.after=explode", "claim.after=raise@x", "claim.after=call"])
def test_what_cannot_be_armed_is_refused_and_leaves_what_is_armed(text: str) -> None:
    arm("claim.after=raise")
    with pytest.raises(ValueError, match=r".+"):
        arm(text)
    assert left() == {"claim.after"}


def test_a_test_may_say_what_is_called_and_the_process_goes_on() -> None:
    called: list[str] = []
    arm("claim.after=call", called.append)
    failpoint("claim.after")
    failpoint("claim.after")
    assert called == ["claim.after"]


def test_passes_are_counted_when_that_is_asked_for() -> None:
    passed = watch()
    for _ in range(3):
        failpoint("claim.after")
    assert passed == {"claim.after": 3}


def test_every_script_has_one_before_and_one_after_it() -> None:
    assert {"accept.before", "accept.after", "moment.before", "circuit.after"} <= names()
    assert not any(name.startswith("_") for name in names())

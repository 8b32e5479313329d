"""Ids: derived so that asking twice finds the same thing, and telling nothing."""

import re

from hypothesis import assume, given
from hypothesis import strategies as st

from shared.ids import Ids, mock_id, mock_secret, token

IDS = Ids("a secret")
SHAPE = re.compile(r"job_[a-z2-7]{32}", re.ASCII)
PARTS = st.tuples(st.text(), st.text(), st.text())


def test_the_same_question_gives_the_same_id_in_every_process() -> None:
    """Written out: an id that changed with a release would charge a resubmission twice."""
    assert IDS.job("local", "/r", "k") == Ids("a secret").job("local", "/r", "k") == DERIVED


DERIVED = "job_5vukx3b3xqiwfeksnhhdac34zhjivf2m"


@given(PARTS, PARTS)
def test_different_questions_give_different_ids(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    assume(one != other)
    assert IDS.job(*one) != IDS.job(*other)


@given(st.text(), st.text(), st.text(min_size=1))
def test_where_one_part_ends_and_the_next_begins_matters(caller: str, route: str, key: str) -> None:
    assert IDS.job(caller + key, route, key) != IDS.job(caller, key + route, key)
    assert IDS.job(caller, route + key[:1], key[1:]) != IDS.job(caller, route, key)


@given(PARTS)
def test_every_id_has_one_shape_that_tells_nothing(parts: tuple[str, str, str]) -> None:
    assert SHAPE.fullmatch(IDS.job(*parts))


def test_another_secret_gives_other_ids() -> None:
    assert IDS.job("local", "/r", "k") != Ids("another secret").job("local", "/r", "k")
    assert IDS.fingerprint() != Ids("another secret").fingerprint()


def test_without_a_key_each_id_is_random() -> None:
    made = {IDS.job("local", "/r", None) for _ in range(100)}
    assert len(made) == 100
    assert all(SHAPE.fullmatch(job_id) for job_id in made)
    assert IDS.job("local", "/r", "") == IDS.job("local", "/r", "")


def test_a_child_is_one_for_each_role_and_parent() -> None:
    roles = ("retry", "settle", "mock_payment")
    children = {IDS.child(role, parent) for role in roles for parent in ("job_a", "job_b")}
    assert len(children) == 6
    assert IDS.child("retry", "job_a") in children
    assert IDS.child("job", "local") != IDS.job("local", "", "")


def test_the_fingerprint_is_no_id() -> None:
    assert IDS.fingerprint() == Ids("a secret").fingerprint()
    assert "secret" not in IDS.fingerprint()


def test_mock_objects_carry_their_job() -> None:
    assert mock_id("pi", "job_a1") == "pi_mock_a1"
    assert mock_secret("pi_mock_a1").startswith("pi_mock_a1_secret_")
    assert mock_secret("pi_mock_a1") == mock_secret("pi_mock_a1") != mock_secret("pi_mock_a2")


def test_tokens_do_not_repeat() -> None:
    assert len({token() for _ in range(100)}) == 100

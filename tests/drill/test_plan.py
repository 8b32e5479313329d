"""A drill is drawn from its seed: the same again, with everything in proportion."""

from collections import Counter
from itertools import islice

import pytest

from drill.plan import FAULTS, Break, Plan
from shared.jobs import Kind


def plan(seed: int = 1, **changes: int) -> Plan:
    return Plan.of(**{"charges": 1000, "seed": seed, "worker_kills": 15, "store_kills": 3, **changes})


def test_the_same_seed_draws_the_same() -> None:
    assert plan().events() == plan().events() != plan(seed=2).events()
    assert list(islice(plan().submissions(), 50)) == list(islice(plan().submissions(), 50))
    assert [one.body for one in islice(plan().submissions(), 50)] != [
        one.body for one in islice(plan(seed=2).submissions(), 50)]


def test_every_break_is_made_as_often_as_asked_and_inside_the_load() -> None:
    events = plan().events()
    made = Counter(event.what for event in events)
    assert made == plan().breaks
    assert set(made) == set(Break)
    assert (made[Break.WORKER_KILLED], made[Break.STORE_KILLED]) == (15, 3)
    assert all(0 < event.at_seconds < plan().seconds for event in events)
    assert [event.at_seconds for event in events] == sorted(event.at_seconds for event in events)


def test_a_drill_without_kills_breaks_nothing() -> None:
    assert plan(worker_kills=0, store_kills=0).events() == []


def test_clients_ask_for_all_kinds_and_the_charges_are_about_as_many_as_asked() -> None:
    asked = list(islice(plan().submissions(), plan().total))
    kinds = Counter(one.kind for one in asked)
    assert set(kinds) == {Kind.CHARGE, Kind.PAYMENT_INTENT, Kind.CUSTOMER}
    assert kinds[Kind.CHARGE] == pytest.approx(1000, rel=0.05)
    assert len({one.key for one in asked}) == len(asked)
    assert any(one.declines for one in asked)
    assert any(one.posts > 1 for one in asked)
    cents = [one.cents for one in asked if one.cents is not None]
    assert len({amount % 100 for amount in cents}) == 100


def test_a_fifth_of_all_calls_goes_wrong() -> None:
    untouched = 1.0
    for fault in FAULTS:
        untouched *= 1 - fault["share"]
    assert 0.2 < 1 - untouched < 0.25

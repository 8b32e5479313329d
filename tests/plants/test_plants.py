"""The suite is tested too: each bug that is planted in a copy of the tree is caught by a check that says no.

All of them take minutes (`python -m tests.plants`), so a run plants some, others on each day; that the bugs can still
be planted, and that the tests named to catch them are there, is checked for all in each run.
"""

import ast
import datetime as dt
import random
import re
from pathlib import Path

import pytest

from tests.plants.catching import catch
from tests.plants.planting import CHECK_INVARIANTS, ROOT, Catcher, Plant, plants

PLANTS = list(plants())
PLANTED_IN_A_RUN = 8
SECONDS_EACH = 170
TODAY = dt.datetime.now(dt.UTC).date()


def of_today() -> list[Plant]:
    """So many that a run stays short: all come round within days, whoever runs this."""
    order = random.Random(0).sample(PLANTS, len(PLANTS))  # noqa: S311  # an order, the same for all
    start = TODAY.toordinal() * PLANTED_IN_A_RUN % len(order)
    return (order + order)[start:start + PLANTED_IN_A_RUN]


def named(plant: Plant) -> str:
    return plant.name


@pytest.mark.timeout(SECONDS_EACH + 60)
@pytest.mark.parametrize("plant", of_today(), ids=named)
def test_a_planted_bug_is_caught(plant: Plant) -> None:
    found = catch(plant, plant.caught_by, seconds=SECONDS_EACH)
    assert found.caught_by is not None, found.why


@pytest.mark.timeout(SECONDS_EACH + 60)
def test_a_worker_process_runs_the_planted_code() -> None:
    """Else every bug in a worker would be missed, or caught by chance: a worker that never claims ends no job."""
    idle = next(plant for plant in PLANTS if plant.name == "worker_that_works_nothing")
    assert catch(idle, idle.caught_by, seconds=SECONDS_EACH).caught_by is not None


def test_there_are_enough_and_half_of_them_are_caught_by_promises() -> None:
    assert len(PLANTS) >= 40
    assert len({plant.name for plant in PLANTS}) == len(PLANTS)
    assert 2 * sum(plant.by is Catcher.INVARIANT for plant in PLANTS) >= len(PLANTS)


@pytest.mark.parametrize("plant", PLANTS, ids=named)
def test_a_bug_can_still_be_planted_and_its_catchers_are_there(plant: Plant) -> None:
    """A changed line needs its plant changed. That the catchers pass without it, the rest of the suite shows."""
    assert plant.hurts
    assert plant.caught_by
    for edit in plant.edits:
        assert (ROOT / edit.file).read_text().count(edit.find) == 1, f"{edit.file}: {edit.find!r}"
        assert edit.replace != edit.find
        assert not edit.file.startswith("tests/"), "a bug is planted in the product"
    for test in plant.caught_by:
        assert exists(test), test
        if plant.by is Catcher.INVARIANT:
            assert test.startswith(CHECK_INVARIANTS), f"{test} is the test of one thing"


def exists(test: str) -> bool:
    """Whether there is such a test, or a file of tests."""
    path, _, name = test.partition("::")
    file = ROOT / path
    if not file.exists() or not name:
        return file.exists()
    functions = {node.name for node in ast.walk(ast.parse(file.read_text()))
                 if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    return re.sub(r"\[.*", "", name) in functions


def test_no_test_knows_of_a_plant() -> None:
    """Only this folder speaks of planted bugs."""
    names = "|".join(re.escape(plant.name) for plant in PLANTS)
    here = Path(__file__).parent
    knowing = [file.name for file in sorted((ROOT / "tests").rglob("*.py")) if here not in file.parents
               and re.search(rf"\btests\.plants\b|\b(?:{names})\b", file.read_text())]
    assert knowing == []

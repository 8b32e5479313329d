"""One stand-in for a whole run, forgetful between two tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from standin.client import Standin
from tests.standin.asking import Asker
from tests.standin.listening import Listener, listening


@pytest.fixture(scope="session")
def running() -> Iterator[Standin]:
    with Standin.start() as standin:
        yield standin


@pytest.fixture
def standin(running: Standin) -> Standin:
    running.accept()
    running.reset()
    return running


@pytest.fixture
def ask(standin: Standin) -> Iterator[Asker]:
    asker = Asker(standin.base_url)
    yield asker
    asker.close()


@pytest.fixture
def ear() -> Iterator[Listener]:
    with listening() as listener:
        yield listener

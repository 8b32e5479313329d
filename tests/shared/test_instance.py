"""Instance: a store is one desk's for ever, and saying so needs no memory."""

from collections.abc import AsyncIterator

import pytest

from shared.errors import StoreFull, WrongSecret
from shared.ids import Ids
from shared.instance import Instance
from tests.shared.till import Till

pytestmark = pytest.mark.anyio


@pytest.fixture
async def full(till: Till) -> AsyncIterator[Till]:
    """A till whose server will have no memory left once its maxmemory is set; set back afterwards."""
    before = (await till.calls.call("CONFIG GET", "maxmemory"))["maxmemory"]
    yield till
    await till.calls.call("CONFIG SET", "maxmemory", before)


def instance(till: Till, whose: str = "ours") -> Instance:
    return Instance(till.calls, Ids(whose))


async def test_a_store_is_whose_it_was_first(till: Till) -> None:
    await instance(till).check()
    await instance(till).check()
    with pytest.raises(WrongSecret):
        await instance(till, "another").check()


async def test_a_full_store_is_known_as_ours(full: Till) -> None:
    await instance(full).check()
    await full.calls.call("CONFIG SET", "maxmemory", 1)
    await instance(full).check()
    with pytest.raises(WrongSecret):
        await instance(full, "another").check()


async def test_a_full_store_becomes_nobodys(full: Till) -> None:
    await full.calls.call("CONFIG SET", "maxmemory", 1)
    fresh = instance(full)
    with pytest.raises(StoreFull):
        await fresh.check()
    await full.calls.call("CONFIG SET", "maxmemory", 0)
    await fresh.check()

"""The oldest server that is promised to work."""

import pytest

from shared.redis_calls import RedisCalls
from tests.shared.conftest import REDIS, SERVERS

FLOOR = {"redis_version": (7, 0), "valkey_version": (7, 2)}


@pytest.mark.anyio
async def test_what_the_store_is_tested_on_is_no_older_than_is_promised(calls: RedisCalls) -> None:
    server = await calls.call("INFO", "server")
    name = "valkey_version" if "valkey_version" in server else "redis_version"
    assert tuple(map(int, str(server[name]).split(".")[:2])) >= FLOOR[name]


def test_redis_is_tested_too() -> None:
    if "redis" not in SERVERS:
        pytest.skip(f"{REDIS} is not installed: the store was tested on the embedded Valkey only")

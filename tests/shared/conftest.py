"""The store is tested on the embedded Valkey and, where it is installed, on the oldest Redis that is supported."""

import shutil
from collections.abc import Iterator

import pytest

from cli.servers import STORE, EmbeddedServer

REDIS = "redis-server"


class InstalledRedis(EmbeddedServer):
    """The machine's own Redis, under the same configuration."""

    @property
    def command(self) -> tuple[str, ...]:
        """How to start it."""
        return (REDIS, *super().command[1:])


SERVERS = {"valkey": EmbeddedServer} | ({"redis": InstalledRedis} if shutil.which(REDIS) else {})


@pytest.fixture(scope="session", params=sorted(SERVERS))
def valkey(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """One running store for the whole run, of each kind that there is."""
    server = SERVERS[request.param](STORE, tmp_path_factory.mktemp(request.param))
    server.start()
    yield server
    server.kill()

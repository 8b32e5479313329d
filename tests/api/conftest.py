"""The front door on real embedded servers, empty before each test."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import redis

from cli.servers import BROKER, STORE, EmbeddedServer
from shared.settings import Settings
from standin.client import Standin
from tests.api.at_stripe import AtStripe, at_stripe
from tests.api.front import Front, serving


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EmbeddedServer, EmbeddedServer]]:
    """The store and the broker of the whole run."""
    servers = tuple(EmbeddedServer(role, tmp_path_factory.mktemp("data")) for role in (STORE, BROKER))
    for server in servers:
        server.start()
    yield servers[0], servers[1]
    for server in servers:
        server.stop()


@pytest.fixture
def store(embedded: tuple[EmbeddedServer, EmbeddedServer]) -> EmbeddedServer:
    """The store, empty."""
    with redis.Redis.from_url(embedded[0].url) as client:
        client.flushall()
    return embedded[0]


@pytest.fixture
def broker(embedded: tuple[EmbeddedServer, EmbeddedServer]) -> EmbeddedServer:
    """The broker, empty."""
    with redis.Redis.from_url(embedded[1].url) as client:
        client.flushall()
    return embedded[1]


@pytest.fixture
def settings(store: EmbeddedServer, broker: EmbeddedServer, tmp_path: Path) -> Settings:
    """A desk without a key."""
    return Settings(_env_file=None, redis_url=store.url, broker_url=broker.url, data_dir=tmp_path,
                    secret="a secret of the tests", stripe_secret_key=None)


@pytest.fixture
def with_key(settings: Settings) -> Settings:
    """A desk with a key that is none."""
    return Settings(_env_file=None, redis_url=settings.redis_url, broker_url=settings.broker_url,
                    data_dir=settings.data_dir, secret=settings.secret, stripe_secret_key="sk_test_none")


@pytest.fixture
async def front(settings: Settings, anyio_backend: str) -> AsyncIterator[Front]:
    """A desk without a key, serving."""
    async with serving(settings) as front:
        yield front


@pytest.fixture
async def real(with_key: Settings, anyio_backend: str) -> AsyncIterator[Front]:
    """A desk with a key, serving."""
    async with serving(with_key) as front:
        yield front


@pytest.fixture(scope="session")
def running_standin() -> Iterator[Standin]:
    """The one stand-in of a run."""
    with Standin.start() as standin:
        yield standin


@pytest.fixture
def standin(running_standin: Standin) -> Standin:
    """The stand-in, within reach and remembering nothing."""
    running_standin.accept()
    running_standin.reset()
    return running_standin


@pytest.fixture
async def stripe(with_key: Settings, standin: Standin, anyio_backend: str) -> AsyncIterator[AtStripe]:
    """A desk that serves with the stand-in as its Stripe, and a real worker that works when the test says so."""
    async with at_stripe(with_key, standin) as desk:
        yield desk

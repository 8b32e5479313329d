"""The embedded servers: the promised configuration, and an acknowledged write that a crash cannot take back."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from cli.servers import (
    BROKER,
    LOOPBACK,
    STORE,
    EmbeddedServer,
    Role,
    ServerFailed,
    free_port,
    port_is_free,
    running_url,
)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedServer]:
    server = EmbeddedServer(BROKER, tmp_path / "data")
    server.start()
    yield server
    server.kill()


def config(server: EmbeddedServer, name: str) -> str:
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        return str(client.config_get(name)[name])


@pytest.mark.parametrize(("name", "value"), [
    ("bind", LOOPBACK), ("appendonly", "yes"), ("appendfsync", "always"), ("aof-load-truncated", "yes"), ("save", ""),
    ("maxmemory", str(1024**3)), ("maxmemory-policy", "noeviction"), ("daemonize", "no")])
def test_the_store_is_configured_to_keep_what_it_acknowledged(store: EmbeddedServer, name: str, value: str) -> None:
    assert config(store, name) == value


@pytest.mark.parametrize(("name", "value"), [
    ("bind", LOOPBACK), ("appendonly", "no"), ("save", ""), ("maxmemory", str(256 * 1024**2)),
    ("maxmemory-policy", "noeviction")])
def test_the_broker_is_configured_to_be_quick_and_bounded(broker: EmbeddedServer, name: str, value: str) -> None:
    assert config(broker, name) == value


def test_an_acknowledged_write_survives_kill_9_on_the_same_port(store: EmbeddedServer) -> None:
    url = store.url
    for number in range(3):
        with redis.Redis.from_url(url) as client:
            assert client.set(f"kept:{number}", "yes")
        store.kill()
        store.start()
        assert store.url == url
    with redis.Redis.from_url(url) as client:
        assert client.mget([f"kept:{number}" for number in range(3)]) == [b"yes"] * 3


def test_a_new_start_finds_its_port_password_and_data_again(store: EmbeddedServer, tmp_path: Path) -> None:
    with redis.Redis.from_url(store.url) as client:
        client.set("kept", "yes")
    store.stop()
    again = EmbeddedServer(STORE, tmp_path / "data")
    again.start()
    try:
        assert again.url == store.url
        with redis.Redis.from_url(again.url) as client:
            assert client.get("kept") == b"yes"
    finally:
        again.kill()


def test_others_find_the_server_by_its_data_directory(store: EmbeddedServer, tmp_path: Path) -> None:
    assert running_url(STORE, tmp_path / "data") == store.url
    assert running_url(BROKER, tmp_path / "data") is None


def test_a_taken_port_is_left_alone(tmp_path: Path) -> None:
    with socket.create_server((LOOPBACK, 0)) as listener:
        taken = listener.getsockname()[1]
        server = EmbeddedServer(STORE, tmp_path)
        server.folder.mkdir(parents=True)
        (server.folder / "port").write_text(str(taken))
        server.start()
        try:
            assert server.port != taken
        finally:
            server.kill()


def test_a_server_that_an_earlier_run_left_behind_is_shut_down_first(store: EmbeddedServer, tmp_path: Path) -> None:
    with redis.Redis.from_url(store.url) as client:
        client.set("kept", "yes")
    again = EmbeddedServer(STORE, tmp_path / "data")
    again.start()
    try:
        assert again.port == store.port
        with redis.Redis.from_url(again.url) as client:
            assert client.get("kept") == b"yes"
    finally:
        again.kill()


def test_it_answers_nobody_without_the_password(store: EmbeddedServer) -> None:
    with redis.Redis(port=store.port, retry=Retry(NoBackoff(), 0)) as client, pytest.raises(redis.AuthenticationError):
        client.ping()


def test_only_this_user_reads_the_data_and_no_secret_is_in_an_argument(store: EmbeddedServer) -> None:
    secret = (store.folder / "password").read_text()
    assert secret not in " ".join(store.command)
    assert store.folder.stat().st_mode & 0o777 == store.folder.parent.stat().st_mode & 0o777 == 0o700
    for name in ("password", "valkey.conf"):
        assert (store.folder / name).stat().st_mode & 0o777 == 0o600


def test_a_folder_with_spaces_and_quotes_is_no_trouble(tmp_path: Path) -> None:
    server = EmbeddedServer(STORE, tmp_path / 'Grüße "an" alle')
    server.start()
    try:
        assert config(server, "dir") == str(server.folder)
    finally:
        server.kill()


def test_a_server_that_cannot_start_says_where_to_look(tmp_path: Path) -> None:
    server = EmbeddedServer(Role("store", "nonsense", durable=True), tmp_path)
    with pytest.raises(ServerFailed, match=r"ended as it started; .*valkey\.log tells more"):
        server.start()


def test_a_free_port_is_free_and_a_listened_one_is_not() -> None:
    assert port_is_free(LOOPBACK, free_port())
    with socket.create_server((LOOPBACK, 0)) as listener:
        assert not port_is_free(LOOPBACK, listener.getsockname()[1])

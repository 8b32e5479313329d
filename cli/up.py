"""`paydesk up`: the whole desk on this machine, supervised until Ctrl-C or SIGTERM."""

import asyncio
import contextlib
import errno
import fcntl
import http.client
import json
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import redis
import typer
from redis.backoff import NoBackoff
from redis.retry import Retry

from cli import processes
from cli.servers import BROKER, LOOPBACK, STORE, EmbeddedServer, free_port, port_is_free
from cli.supervisor import ProcessSpec, StartFailed, Supervisor
from shared.epoch import MENDS
from shared.errors import PaydeskError, SettingsRefused, StoreLost, StoreUnavailable
from shared.jobs import Mode
from shared.settings import FLOWER_PASSWORD_FILE, Settings, is_loopback, process_environment

EXAMPLE = "paydesk up --port 8080 --data-dir /srv/paydesk --workers 4"

READY_SECONDS = 60
POLL_SECONDS = 0.1
WEB_STOP_SECONDS = 8
FLOWER_STOP_SECONDS = 5
WORKER_STOP_SECONDS = 35
"""Longer than any call to Stripe may take, so that a worker can end what it has begun."""
FLOWER_OPTIONS = Path(__file__).resolve().parent.parent / "flowerconfig.py"
EXIT_INTERRUPTED = 130
BIND_FAULTS = {errno.EACCES: "this user may not use that port",
               errno.EADDRNOTAVAIL: "this machine has no such address"}


class InUse(PaydeskError):
    """What `up` needs is held by somebody else; the message says what and what to do."""

    code = "in_use"


def up(*, port: Annotated[int | None, typer.Option(help="Where to serve; PAYDESK_PORT, else 8000.")] = None,
       host: Annotated[str | None, typer.Option(help="The address to serve on; PAYDESK_HOST, else 127.0.0.1.")] = None,
       data_dir: Annotated[Path | None, typer.Option(help="Where everything is kept; PAYDESK_DATA_DIR, else "
                                                          ".paydesk.")] = None,
       workers: Annotated[int, typer.Option(min=1, max=64, help="How many worker processes.")] = 2) -> None:
    """Run the desk here: servers, workers, Flower and web, until Ctrl-C or SIGTERM."""
    given = {"port": port, "host": host, "data_dir": data_dir}
    settings = Settings.load(**{name: value for name, value in given.items() if value is not None})
    with _data_dir_alone(settings.data_dir.resolve()):
        raise typer.Exit(asyncio.run(_run(_plan(settings, workers))))


@contextlib.contextmanager
def _data_dir_alone(data_dir: Path) -> Iterator[None]:
    """Hold the data directory. Raises InUse when a running `up` has it; the kernel frees it however that one ends."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (data_dir / "up.lock").open("a+") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held.seek(0)
            raise InUse(f"{data_dir} is in use by the desk with process id {held.read().strip() or 'unknown'}: "
                        "stop that one, or choose another directory with --data-dir.") from None
        held.truncate(0)
        held.write(str(os.getpid()))
        held.flush()
        yield


@dataclass(frozen=True, slots=True)
class Plan:
    """What is going to run, and what to tell about it."""

    settings: Settings
    data_dir: Path
    port: int
    flower_port: int
    flower_password: str
    stages: tuple[tuple[ProcessSpec, ...], ...]


def _plan(settings: Settings, workers: int) -> Plan:
    data_dir = settings.data_dir.resolve()
    port = _web_port(settings)
    flower_port = settings.flower_port
    if flower_port in (0, port) or not port_is_free(LOOPBACK, flower_port):
        flower_port = free_port()
    user, password = settings.flower_credentials()
    servers = [EmbeddedServer(role, data_dir) for role, name in ((STORE, "redis_url"), (BROKER, "broker_url"))
               if name not in settings.model_fields_set]
    for server in servers:
        server.prepare()
    urls = {"store": settings.redis_url.get_secret_value(), "broker": settings.broker_url.get_secret_value()}
    for name in urls.keys() - {server.role.name for server in servers}:
        _check_reachable(name, urls[name])
    urls |= {server.role.name: server.url for server in servers}
    environment = process_environment(
        REDIS_URL=urls["store"], BROKER_URL=urls["broker"], PAYDESK_SECRET=settings.instance_secret(),
        PAYDESK_DATA_DIR=str(data_dir), PAYDESK_HOST=settings.host, PAYDESK_PORT=str(port),
        PAYDESK_WORKER_THREADS=str(settings.worker_threads), PYTHONUNBUFFERED="1")
    flower = {"FLOWER_ADDRESS": LOOPBACK, "FLOWER_PORT": str(flower_port), "FLOWER_USER": user,
              "FLOWER_PASSWORD": password, "FLOWER_CONF": str(FLOWER_OPTIONS)}
    stages = (*((_server(server),) for server in servers),
              tuple(_worker(number, environment) for number in range(1, workers + 1)),
              (_quiet(_process("flower", processes.FLOWER, environment | flower, FLOWER_STOP_SECONDS)),),
              (_process("web", processes.WEB, environment, WEB_STOP_SECONDS),))
    return Plan(settings, data_dir, port, flower_port, password, stages)


def _web_port(settings: Settings) -> int:
    try:
        port = settings.port or free_port(settings.host)
        free = port_is_free(settings.host, port)
    except OSError as failed:
        reason = BIND_FAULTS.get(failed.errno or 0, failed.strerror)
        raise InUse(f"Cannot serve on {settings.host} port {settings.port}: {reason}.") from None
    if not free:
        raise InUse(f"Port {port} is taken by another program: stop that one, or choose another port "
                    f"with --port {port + 1}.")
    return port


def _check_reachable(name: str, url: str) -> None:
    variable = "REDIS_URL" if name == "store" else "BROKER_URL"
    try:
        with redis.Redis.from_url(url, socket_timeout=3, socket_connect_timeout=3,
                                  retry=Retry(NoBackoff(), 0)) as client:
            client.ping()
    except ValueError:
        raise SettingsRefused(f"{variable} must be an address like redis://host:6379/0.") from None
    except redis.AuthenticationError:
        raise StoreUnavailable(f"The server at {variable} wants another user name or password.") from None
    except redis.BusyLoadingError:
        return
    except redis.RedisError:
        raise StoreUnavailable(f"Nothing answers at {variable} ({urlsplit(url).hostname or 'no host'}): start that "
                               "server, or unset it to use the embedded one.") from None


def _server(server: EmbeddedServer) -> ProcessSpec:
    return _quiet(ProcessSpec(server.role.name, server.command, process_environment(), cwd=server.folder,
                              ready=server.answers, ready_seconds=300))


def _worker(number: int, environment: dict[str, str]) -> ProcessSpec:
    return _process(f"worker {number}", processes.WORKER, environment | {"PAYDESK_WORKER_NAME": f"w{number}"},
                    WORKER_STOP_SECONDS)


def _process(name: str, line: str, environment: dict[str, str], stop_seconds: float) -> ProcessSpec:
    return ProcessSpec(name, processes.command(line, environment), environment, stop_seconds=stop_seconds)


def _quiet(spec: ProcessSpec) -> ProcessSpec:
    """Servers warn about the machine, Flower about workers that are not up yet: that stays in their files."""
    return replace(spec, echo=False)


async def _run(plan: Plan) -> int:
    """Start, tell when it is ready, keep it up, and stop in order. To stop when asked is success: 0.

    Only Ctrl-C before it was ready is an interruption.
    """
    supervisor = Supervisor(plan.data_dir / "logs", _say)
    asked = _stop_signals(supervisor)
    starting = asyncio.create_task(_start(plan, supervisor))
    first: set[asyncio.Future[Any]] = {starting, asked, supervisor.failure}
    try:
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        if supervisor.failure.done():
            raise supervisor.failure.result()
        if asked.done():
            return EXIT_INTERRUPTED if asked.result() is signal.SIGINT else 0
        _say(_ready_text(plan) if starting.result() is Store.WHOLE else
             f"Paydesk is up and takes nothing: its store lost what was in it. {MENDS}")
        await asked
        return 0
    finally:
        starting.cancel()
        _say("Stopping: web, Flower, workers, servers. Ctrl-C again hurries.")
        await supervisor.stop()
        _say("Stopped.")


def _stop_signals(supervisor: Supervisor) -> asyncio.Future[signal.Signals]:
    """Done with the first signal that asks to stop; a second one hurries."""
    loop = asyncio.get_running_loop()
    asked: asyncio.Future[signal.Signals] = loop.create_future()

    def ask(number: signal.Signals) -> None:
        if asked.done():
            supervisor.hurry()
        else:
            asked.set_result(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # `nohup` asked not to hear of hang-ups
            loop.add_signal_handler(number, ask, number)
    return asked


class Store(Enum):
    """What a desk that is up has found its store to be."""

    WHOLE = "whole"
    LOST = "lost"


async def _start(plan: Plan, supervisor: Supervisor) -> Store:
    """Start everything; done when the desk is ready, or cannot be before its user has mended the store."""
    await supervisor.start(plan.stages)
    deadline = asyncio.get_running_loop().time() + READY_SECONDS
    while (found := await asyncio.to_thread(_look, plan.settings.host, plan.port)) is None:
        if asyncio.get_running_loop().time() > deadline:
            raise StartFailed(f"The desk is not ready after {READY_SECONDS} s; {plan.data_dir / 'logs'} tells more.")
        await asyncio.sleep(POLL_SECONDS)
    supervisor.settled()
    return found


def _look(host: str, port: int) -> Store | None:
    """What the front door says of the store; None while it is not ready."""
    connection = http.client.HTTPConnection(_reached_as(host), port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        response.read()
        if response.status == http.client.OK:
            return Store.WHOLE
        connection.request("GET", "/readyz?verbose")
        lost = json.loads(connection.getresponse().read()).get("checks", {}).get("store") == StoreLost.code
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
    return Store.LOST if lost else None


def _reached_as(host: str) -> str:
    """An address that stands for every interface is served on, not called."""
    return {"0.0.0.0": LOOPBACK, "::": "::1", "": LOOPBACK}.get(host, host)  # noqa: S104  # recognised, not bound


def _base(plan: Plan) -> str:
    host = _reached_as(plan.settings.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{plan.port}"


def _ready_text(plan: Plan) -> str:
    base = _base(plan)
    # A log that keeps stderr must not keep the password; the file is there for its reader.
    return "\n".join((
        f"Paydesk is ready in {_mode_text(plan.settings)}",
        f"  API      {base}/",
        f"  Contract {base}/openapi.json",
        f"  Flower   http://{LOOPBACK}:{plan.flower_port}/  user {plan.settings.flower_user}, {_password_text(plan)}",
        f"  Data     {plan.data_dir}",
        "  Try it   " + FIRST_CHARGE.format(base=base),
        f"  Stop     Ctrl-C{'' if is_loopback(_reached_as(plan.settings.host)) else ' (open to whoever can connect)'}"))


FIRST_CHARGE = ("curl {base}/api/stripe/process-charge -H 'Content-Type: application/json' -H 'Prefer: wait=10' "
                """-d '{{"amount": "25.50", "payment_method_id": "pm_card_visa"}}'""")


def _password_text(plan: Plan) -> str:
    if plan.settings.flower_password is not None:
        return "password as set in FLOWER_PASSWORD"
    # A log that keeps stderr must not keep the password; the file is there for its reader.
    return f"password {plan.flower_password if sys.stderr.isatty() else f'in {plan.data_dir / FLOWER_PASSWORD_FILE}'}"


def _mode_text(settings: Settings) -> str:
    if settings.mode is Mode.NONE:
        return "mock mode: without a Stripe key no money moves."
    return f"{settings.mode} mode with the key {settings.shown_key}"


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # the terminal may be gone; the desk still has to stop in order
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

"""`paydesk up`: calm to start, one sentence when it cannot, the right order when it stops."""

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis

from cli import processes
from cli.servers import LOOPBACK, free_port
from tests.cli.conftest import eventually, runs

ROOT = Path(__file__).parents[2]
OURS = ("STRIPE_", "PAYDESK_", "FLOWER_", "REDIS_", "BROKER_", "PORT", "LOG_DIR")

Run = Callable[..., "Desk"]


class Desk:
    """A `paydesk` that runs apart, and what it says."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        self.folder = folder
        clean = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        self._said = (folder / "said").open("w+")
        self.process = subprocess.Popen([sys.executable, "-m", "tests.cli.desk_of_stubs", *arguments], cwd=folder,
                                        stdout=subprocess.PIPE, stderr=self._said, text=True,
                                        env={**clean, "PYTHONPATH": str(ROOT), **environment})

    @property
    def said(self) -> str:
        return (self.folder / "said").read_text()

    def until_said(self, text: str) -> None:
        eventually(lambda: text in self.said or self.process.poll() is not None, text)
        assert text in self.said, self.said

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(20)

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        self._said.close()

    def environment_of(self, name: str) -> dict[str, str]:
        return dict(json.loads((self.folder / f"{name}.json").read_text()))

    def children(self) -> list[int]:
        return [int(pid) for file in Path(f"/proc/{self.process.pid}/task").glob("*/children")
                for pid in file.read_text().split()]

    def child(self, part: str) -> int:
        """The one child whose command line has this in it."""
        found = [pid for pid in self.children() if part in Path(f"/proc/{pid}/cmdline").read_text()]
        assert len(found) == 1, found
        return found[0]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    desks: list[Desk] = []

    def begin(*arguments: str, folder: Path = tmp_path, **environment: str) -> Desk:
        folder.mkdir(exist_ok=True)
        desks.append(Desk(folder, *arguments, **environment))
        return desks[-1]

    yield begin
    for desk in desks:
        desk.close()


def up(run: Run, *arguments: str, **environment: str) -> Desk:
    desk = run("up", "--port", "0", *arguments, **environment)
    desk.until_said("Paydesk is ready")
    workers = int(arguments[arguments.index("--workers") + 1]) if "--workers" in arguments else 2
    for name in ("flower", *(f"w{number}" for number in range(1, workers + 1))):  # ready does not wait for these
        eventually((desk.folder / f"{name}.json").exists, name)
    return desk


def test_ready_is_a_few_calm_lines_with_everything_one_needs(run: Run, tmp_path: Path) -> None:
    desk = up(run, FLOWER_PORT="0")
    port, flower = (desk.environment_of("web")["PAYDESK_PORT"], desk.environment_of("flower")["FLOWER_PORT"])
    assert desk.said.splitlines() == [
        "Paydesk is ready in mock mode: without a Stripe key no money moves.",
        f"  API      http://127.0.0.1:{port}/",
        f"  Contract http://127.0.0.1:{port}/openapi.json",
        f"  Flower   http://127.0.0.1:{flower}/  user paydesk, password in {tmp_path}/.paydesk/flower_password",
        f"  Data     {tmp_path}/.paydesk",
        (f"  Try it   curl http://127.0.0.1:{port}/api/stripe/process-charge -H 'Content-Type: application/json' "
         """-H 'Prefer: wait=10' -d '{"amount": "25.50", "payment_method_id": "pm_card_visa"}'"""),
        "  Stop     Ctrl-C"]
    assert desk.end() == 0
    assert desk.process.stdout is not None
    assert desk.process.stdout.read() == ""


def test_a_lost_store_is_one_sentence_that_says_what_mends_it_and_everything_stays_up(run: Run, tmp_path: Path) -> None:
    (tmp_path / "store.lost").touch()
    desk = run("up", "--port", "0", FLOWER_PORT="0")
    desk.until_said("paydesk reconcile")
    [sentence] = desk.said.splitlines()
    assert "its store lost what was in it" in sentence
    for name in ("web", "flower", "w1", "w2"):
        eventually((desk.folder / f"{name}.json").exists, name)
    assert desk.end() == 0
    assert "restart" not in desk.said


def test_a_test_key_is_named_by_its_first_characters_only(run: Run) -> None:
    key = "sk_test_51" + "AbCdEfGh" * 5
    desk = up(run, STRIPE_SECRET_KEY=key)
    assert "ready in test mode with the key sk_test_51Ab..." in desk.said
    assert key not in desk.said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_stops_web_then_flower_then_workers_then_servers(run: Run, number: signal.Signals) -> None:
    desk = up(run, "--workers", "2")
    children = desk.children()
    assert len(children) == 6
    assert desk.end(number) == 0
    ends = (desk.folder / "ends").read_text().split()
    assert ends[:2] == ["web", "flower"]
    assert sorted(ends[2:]) == ["w1", "w2"]
    assert not any(map(runs, children))
    assert desk.said.endswith("Stopping: web, Flower, workers, servers. Ctrl-C again hurries.\nStopped.\n")


def test_a_second_ctrl_c_does_not_wait_for_a_busy_worker(run: Run, tmp_path: Path) -> None:
    (tmp_path / "w1.stubborn").touch()
    desk = up(run, "--workers", "1")
    desk.process.send_signal(signal.SIGINT)
    eventually(lambda: "flower" in (tmp_path / "ends").read_text() if (tmp_path / "ends").exists() else False)
    assert desk.end(signal.SIGINT) == 0  # within 20 s; a worker may take 35
    assert "worker 1 did not end by itself and was killed.\nStopped.\n" in desk.said


def test_the_children_get_what_they_need_by_environment_and_no_secret_by_argument(run: Run, tmp_path: Path) -> None:
    desk = up(run, "--workers", "1", PAYDESK_WORKER_THREADS="7")
    web, flower = desk.environment_of("web"), desk.environment_of("flower")
    password = (tmp_path / ".paydesk" / "flower_password").read_text()
    assert (web["PAYDESK_DATA_DIR"], web["PAYDESK_WORKER_THREADS"]) == (str(tmp_path / ".paydesk"), "7")
    assert web["PAYDESK_SECRET"] == (tmp_path / ".paydesk" / "secret").read_text().strip()
    assert (flower["FLOWER_USER"], flower["FLOWER_PASSWORD"]) == ("paydesk", password)
    assert flower["FLOWER_ADDRESS"] == LOOPBACK
    assert "FLOWER_PASSWORD" not in web
    secrets = [password, web["PAYDESK_SECRET"], *(urlsplit(web[name]).password for name in ("REDIS_URL", "BROKER_URL"))]
    processes_shown = [*desk.children(), desk.process.pid]
    shown = desk.said + "".join(Path(f"/proc/{pid}/cmdline").read_text() for pid in processes_shown)
    shown += "".join(log.read_text() for log in (tmp_path / ".paydesk" / "logs").iterdir())
    assert not any(secret in shown for secret in secrets if secret)
    assert all(secrets)


def test_a_worker_that_is_killed_comes_back(run: Run) -> None:
    desk = up(run, "--workers", "1")
    os.kill(desk.child("worker"), signal.SIGKILL)
    desk.until_said("worker 1 ended (signal 9); restart 1 in 0.2 s.")
    eventually(lambda: len(desk.children()) == 5, "the worker's return")


def test_a_store_that_is_killed_comes_back_with_its_data_at_its_address(run: Run) -> None:
    desk = up(run, "--workers", "1")
    url = desk.environment_of("web")["REDIS_URL"]
    with redis.Redis.from_url(url) as client:
        client.set("kept", "yes")
        os.kill(int(client.info("server")["process_id"]), signal.SIGKILL)
    desk.until_said("store ended (signal 9); restart 1")
    eventually(lambda: answer(url) == b"yes", "the store's return")


def answer(url: str) -> object:
    """What `kept` holds, None when nobody answers."""
    try:
        with redis.Redis.from_url(url) as client:
            return client.get("kept")
    except redis.RedisError:
        return None


def test_a_second_start_keeps_the_desk_its_data_and_its_passwords(run: Run) -> None:
    first = up(run, "--workers", "1")
    before = first.environment_of("web")
    with redis.Redis.from_url(before["REDIS_URL"]) as client:
        client.set("kept", "yes")
    assert first.end() == 0
    after = up(run, "--workers", "1").environment_of("web")
    assert {name: before[name] for name in ("REDIS_URL", "BROKER_URL", "PAYDESK_SECRET")}.items() <= after.items()
    with redis.Redis.from_url(after["REDIS_URL"]) as client:
        assert client.get("kept") == b"yes"


def test_servers_of_ones_own_are_used_as_they_are(run: Run, tmp_path: Path) -> None:
    served = up(run, "--workers", "1").environment_of("web")["REDIS_URL"]
    desk = run("up", "--port", "0", "--data-dir", "other", folder=tmp_path / "second",
               REDIS_URL=served, BROKER_URL=served)
    desk.until_said("Paydesk is ready")
    assert desk.environment_of("web")["REDIS_URL"] == desk.environment_of("web")["BROKER_URL"] == served
    assert len(desk.children()) == 4
    assert not (tmp_path / "second" / "other" / "store").exists()


def refused(desk: Desk) -> tuple[int, str]:
    assert desk.process.stdout is not None
    code = desk.process.wait(20)
    assert desk.process.stdout.read() == ""
    return code, desk.said


def test_a_taken_port_is_one_sentence(run: Run) -> None:
    with socket.create_server((LOOPBACK, 0)) as listener:
        port = listener.getsockname()[1]
        assert refused(run("up", "--port", str(port))) == (
            1, (f"paydesk: Port {port} is taken by another program: stop that one, or choose another port with "
                f"--port {port + 1}.\n"))


def test_flowers_port_being_taken_only_moves_flower(run: Run) -> None:
    with socket.create_server((LOOPBACK, 0)) as listener:
        taken = str(listener.getsockname()[1])
        assert up(run, "--workers", "1", FLOWER_PORT=taken).environment_of("flower")["FLOWER_PORT"] != taken


def test_a_data_directory_in_use_is_one_sentence(run: Run, tmp_path: Path) -> None:
    first = up(run, "--workers", "1")
    second = run("up", "--port", "0", "--data-dir", str(tmp_path / ".paydesk"), folder=tmp_path / "second")
    assert refused(second) == (
        1, (f"paydesk: {tmp_path}/.paydesk is in use by the desk with process id {first.process.pid}: stop that one, "
            "or choose another directory with --data-dir.\n"))


def test_a_server_of_ones_own_that_does_not_answer_is_one_sentence(run: Run) -> None:
    code, said = refused(run("up", "--port", "0", REDIS_URL=f"redis://:hush@127.0.0.1:{free_port()}/0"))
    assert code == 4
    assert said == ("paydesk: Nothing answers at REDIS_URL (127.0.0.1): start that server, or unset it to use the "
                    "embedded one.\n")


@pytest.mark.parametrize(("environment", "code", "part"), [
    ({"REDIS_URL": "localhost:6379"}, 78, "REDIS_URL must be an address like redis://host:6379/0."),
    ({"STRIPE_SECRET_KEY": "pk_test_x"}, 78, "STRIPE_SECRET_KEY must be"),
    ({"PAYDESK_HOST": "0.0.0.0"}, 78,  # noqa: S104  # the refusal is what is tested
     "PAYDESK_HOST is not a loopback address"),
    ({"PAYDESK_HOST": "192.0.2.1", "PAYDESK_OPEN": "1"}, 1, "this machine has no such address"),
    ({"FLOWER_PASSWORD": "one,two"}, 78, "must not contain a comma"),
    ({"PAYDESK_DATA_DIR": "/proc/no"}, 1, "/proc/no")])
def test_what_cannot_be_is_refused_in_one_sentence(run: Run, environment: dict[str, str], code: int, part: str) -> None:
    found, said = refused(run("up", "--port", "0", **environment))
    assert (found, said.count("\n")) == (code, 1)
    assert said.startswith("paydesk: ")
    assert part in said


def test_wrong_usage_is_2(run: Run) -> None:
    assert refused(run("up", "--port", "many"))[0] == 2


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_ctrl_c_before_it_is_ready_is_an_interruption(run: Run, tmp_path: Path, number: signal.Signals,
                                                      code: int) -> None:
    (tmp_path / "web.json").mkdir()  # the web stub ends at once, again and again
    desk = run("up", "--port", "0", "--workers", "1")
    desk.until_said("web ended")
    assert desk.end(number) == code
    assert desk.said.endswith("Stopped.\n")


def test_what_keeps_ending_before_it_is_ready_is_told(run: Run, tmp_path: Path) -> None:
    (tmp_path / "web.json").mkdir()
    code, said = refused(run("up", "--port", "0", "--workers", "1"))
    assert code == 1
    assert "paydesk: web does not start (exit code 1): IsADirectoryError" in said


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help exists on Linux only")
def test_kill_9_leaves_nothing_and_the_next_start_finds_all(run: Run) -> None:
    desk = up(run, "--workers", "1")
    url = desk.environment_of("web")["REDIS_URL"]
    with redis.Redis.from_url(url) as client:
        client.set("kept", "yes")
    children = desk.children()
    desk.process.kill()
    desk.process.wait()
    eventually(lambda: not any(map(runs, children)), "the children's end")
    again = up(run, "--workers", "1")
    with redis.Redis.from_url(again.environment_of("web")["REDIS_URL"]) as client:
        assert client.get("kept") == b"yes"


@pytest.mark.parametrize("line", [processes.WEB, processes.WORKER, processes.FLOWER])
def test_a_process_line_becomes_arguments_for_this_python(line: str) -> None:
    environment = {"PAYDESK_HOST": "127.0.0.1", "PAYDESK_PORT": "8000", "PAYDESK_WORKER_THREADS": "16",
                   "PAYDESK_WORKER_NAME": "w1"}
    program, *arguments = processes.command(line, environment)
    assert program == sys.executable
    assert len(arguments) == len(shlex.split(line)) - 1
    assert not any("$" in argument for argument in arguments)

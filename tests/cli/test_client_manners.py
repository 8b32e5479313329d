"""What the verbs of a client do when the desk, the terminal or the user is not as hoped."""

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer.main

from cli.main import create_app, run
from cli.servers import free_port
from tests.cli.verbs import ROOT, SECONDS, Done, StubDesk, command, paydesk, serving, surroundings

CHARGE = ("charge", "1.00", "--payment-method", "pm_card_visa")
VERBS = ("up", "charge", "watch", "jobs", "jobs resolve", "stats", "verify", "reconcile", "bench", "drill",
         "log rebuild")
KEY = "pdk_fake_do_not_show"


Run = Callable[..., Done]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """A verb in this process, which costs no start: for what never gets as far as a desk."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")

    def begin(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["paydesk", *arguments])
        return Done(run(), *capsys.readouterr())

    return begin


def job(**changes: object) -> str:
    known: dict[str, Any] = {
        "object": "job", "id": "job_1", "kind": "charge", "status": "succeeded", "mock_mode": False, "book": "test",
        "amount": 1.0, "result": {"payment_intent_id": "pi_1"}, "error": None, "next_attempt_at": None}
    return json.dumps(known | changes)


def test_a_charge_sends_what_it_was_given_and_no_more(tmp_path: Path) -> None:
    stub = StubDesk((202, job()))
    with serving(stub) as url:
        paydesk(tmp_path, url, "charge", "25.50", "--payment-method", "pm_1", "--metadata", "a=b=c",
                "--idempotency-key", "order-1")
        paydesk(tmp_path, f"{url}/desk/", *CHARGE, PAYDESK_API_KEY=KEY)
    first, second = stub.asked
    assert first.body == {"amount": "25.50", "payment_method_id": "pm_1", "metadata": {"a": "b=c"}}
    assert (first.headers["Idempotency-Key"], first.headers.get("Authorization")) == ("order-1", None)
    assert (second.path, second.headers["Authorization"]) == ("/desk/api/stripe/process-charge", f"Bearer {KEY}")
    assert re.fullmatch(r"cli-[0-9a-f-]{36}", second.headers["Idempotency-Key"])


def test_options_go_before_settings(tmp_path: Path) -> None:
    stub = StubDesk((202, job()))
    with serving(stub) as url:
        done = paydesk(tmp_path, "http://127.0.0.1:1", *CHARGE, "--url", url, "--api-key", KEY, PAYDESK_API_KEY="other")
    assert done.code == 0
    assert stub.asked[0].headers["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("verb", [CHARGE, ("watch", "job_1"), ("jobs",), ("stats",)])
def test_without_a_desk_it_is_one_sentence_and_4(tmp_path: Path, verb: tuple[str, ...]) -> None:
    url = f"http://user:hush@127.0.0.1:{free_port()}"
    done = paydesk(tmp_path, url, *verb, PAYDESK_API_KEY=KEY)
    assert (done.code, done.out) == (4, "")
    *before, last = done.err.splitlines()
    assert last == (f"paydesk: No desk answers at {url.replace('user:hush@', '')} (Connection refused): start it with "
                    "`paydesk up`, or say where it is with --url.")
    assert not any(secret in done.err for secret in ("hush", KEY))
    if verb == CHARGE:
        (said,) = before
        assert re.fullmatch(r"Whether it was accepted is not known\. Sent again with --idempotency-key cli-[0-9a-f-]+ "
                            r"it is the same charge\.", said)


def test_ctrl_c_before_the_answer_says_under_which_key_to_ask_again(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with (tmp_path / "err").open("wb") as err:
            asking = subprocess.Popen(command(*CHARGE, "--idempotency-key", "order-9"), cwd=tmp_path,
                                      env=surroundings(url), stdout=subprocess.DEVNULL, stderr=err)
        silent.settimeout(SECONDS)
        connection, _ = silent.accept()
        with connection:
            connection.recv(1)
            asking.send_signal(signal.SIGINT)
            assert asking.wait(SECONDS) == 130
    assert (tmp_path / "err").read_text() == ("\nWhether it was accepted is not known. Sent again with "
                                              "--idempotency-key order-9 it is the same charge.\n")


@pytest.mark.parametrize(("answer", "code", "sentence"), [
    ((200, "<html>"), 4, "is not a desk (status 200)"),
    ((200, "[]"), 4, "is not a desk (status 200)"),
    ((302, "{}"), 1, "The desk refused."),
    ((503, '{"detail": "The store did not answer in time."}'), 4, "The desk cannot do this now: The store did not"),
    ((401, '{"detail": "An API key is needed."}'), 1, "paydesk: An API key is needed."),
    (None, 4, "No desk answers at"), ((500, '{"errors": [7]}'), 1, "The desk refused.")])
def test_a_strange_answer_is_one_sentence(tmp_path: Path, answer: tuple[int, str] | None, code: int,
                                          sentence: str) -> None:
    with serving(StubDesk(answer)) as url:
        done = paydesk(tmp_path, url, "stats")
    assert (done.code, done.out, done.err.count("\n")) == (code, "", 1)
    assert sentence in done.err


def test_a_desk_that_goes_away_during_a_watch_leaves_the_job_and_says_so(tmp_path: Path) -> None:
    with serving(StubDesk((200, job(status="running")), None)) as url:
        done = paydesk(tmp_path, url, "watch", "job_1")
    assert (done.code, done.out) == (4, "")
    assert "Return to it with: paydesk watch job_1\n" in done.err


def test_a_desk_with_too_many_waiters_is_not_asked_without_pause(tmp_path: Path) -> None:
    stub = StubDesk(*[(200, job(status="running"))] * 2, (200, job()))
    with serving(stub) as url:
        done = paydesk(tmp_path, url, "watch", "job_1")
    assert done.code == 0
    assert [asked.path for asked in stub.asked] == ["/api/jobs/job_1", *["/api/jobs/job_1?wait=25"] * 2]
    assert stub.asked[2].at_seconds - stub.asked[1].at_seconds > 0.9
    assert done.err == "running …\n"


@pytest.mark.parametrize(("status", "code"), [("failed", 1), ("canceled", 1), ("parked", 1), ("pending", 1)])
def test_only_success_is_0(tmp_path: Path, status: str, code: int) -> None:
    with serving(StubDesk((200, job(status=status, result=None, error={"code": "poison", "message": "No."})))) as url:
        assert paydesk(tmp_path, url, "watch", "job_1").code == code


def test_nothing_that_a_desk_says_moves_the_cursor(tmp_path: Path) -> None:
    evil = "\x1b[2J\x07[red]x[/red]\u202e\n"
    with serving(StubDesk((200, job(error={"code": evil, "message": evil})))) as url:
        done = paydesk(tmp_path, url, "watch", "job_1")
    assert "\x1b" not in done.out + done.err
    assert "\u202e" not in done.out
    assert "[red]x[/red]" in done.out
    assert done.out.count("\n") == 7


@pytest.mark.parametrize("arguments", [
    ("charge", "1.00"), ("charge", "--payment-method", "pm_1"), (*CHARGE, "--metadata", "plan"),
    (*CHARGE, "--metadata", "a=1", "--metadata", "a=2"), (*CHARGE, "--wait", "5", "--no-wait"),
    (*CHARGE, "--wait", "0"),
    (*CHARGE, "--idempotency-key", "a b"), (*CHARGE, "--idempotency-key", ""), ("stats", "--book", "none"),
    ("jobs", "--limit", "101"), ("jobs", "--status", "done"), ("stats", "--url", "ftp://x"), ("stats", "--url", "x"),
    ("stats", "--url", "http://x:y"), ("stats", "--api-key", "two words"), ("fly",), ()])
def test_wrong_usage_is_2(here: Run, arguments: tuple[str, ...]) -> None:
    done = here(*arguments)
    assert (done.code, bool(done.err)) == (2, True), done


def test_wrong_usage_is_2_for_a_process_too(tmp_path: Path) -> None:
    done = paydesk(tmp_path, "http://127.0.0.1:1", "charge")
    assert (done.code, done.out) == (2, "")


@pytest.mark.parametrize(("name", "value"), [("PAYDESK_URL", "localhost:8000"), ("PAYDESK_API_KEY", "two words")])
def test_a_setting_that_cannot_be_used_is_78(tmp_path: Path, name: str, value: str) -> None:
    done = paydesk(tmp_path, "http://127.0.0.1:1", "stats", **{name: value})
    assert (done.code, done.err.count("\n")) == (78, 1)
    assert done.err.startswith(f"paydesk: {name} must be ")
    assert value not in done.err


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_shows_an_example_that_it_takes(here: Run, verb: str) -> None:
    done = here(*verb.split(), "--help")
    assert done.code == 0
    example = done.out.split("Example:\n")[1].strip()
    assert "\n" not in example
    words = example.split()
    assert words[0] == "paydesk"
    assert verb.split() == words[1:1 + len(verb.split())]
    found: Any = typer.main.get_command(create_app())
    for name in verb.split():
        found = found.commands[name]
    found.make_context(verb, words[1 + len(verb.split()):], resilient_parsing=False)


def test_every_verb_is_among_those() -> None:
    commands: Any = typer.main.get_command(create_app())
    assert {verb.split()[0] for verb in VERBS} == set(commands.commands)


def test_the_version_is_the_projects(tmp_path: Path) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert paydesk(tmp_path, "", "--version") == Done(0, f"paydesk {version}\n", "")


@pytest.mark.parametrize(("environment", "coloured"), [
    ({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_colour_is_for_a_terminal_that_wants_it(tmp_path: Path, environment: dict[str, str], *, coloured: bool) -> None:
    ours, theirs = pty.openpty()
    with serving(StubDesk((200, job()))) as url:
        done = subprocess.run(command("watch", "job_1"), cwd=tmp_path, stdout=theirs, stderr=theirs, check=False,
                              env=surroundings(url, **{"TERM": "xterm", **environment}), timeout=30)
    os.close(theirs)
    said = os.read(ours, 10_000).decode()
    os.close(ours)
    assert done.returncode == 0
    assert ("\x1b[32msucceeded" in said) is coloured
    assert ("\x1b" in said) is coloured
    assert "\r" not in said.replace("\r\n", "\n")

"""charge, watch, jobs and stats at a running desk: data on stdout, everything else on stderr, and the exit code."""

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from shared.redis_calls import ROOT as KEYS
from tests.cli.conftest import eventually
from tests.cli.verbs import Done, command, paydesk, surroundings
from tests.deploy.procfile_desk import ProcfileDesk
from tests.docs.curl import by_reading

JOB_ID = re.compile(r"job_[a-z2-7]{32}")


@contextmanager
def held(desk: ProcfileDesk) -> Iterator[None]:
    """As long as this lasts the desk accepts, and works nothing."""
    with redis.Redis.from_url(desk.redis_url) as client:
        client.set(f"{KEYS}hold", "1")
        try:
            yield
        finally:
            client.delete(f"{KEYS}hold")


def asked(desk: ProcfileDesk, path: str) -> dict[str, Any]:
    return by_reading(f"curl '{desk.url}{path}'", {}).says


def charged(folder: Path, desk: ProcfileDesk, *arguments: str, method: str = "pm_card_visa") -> Done:
    return paydesk(folder, desk.url, "charge", "25.50", "--payment-method", method, *arguments)


def job_of(done: Done) -> str:
    found = JOB_ID.search(done.out + done.err)
    assert found, done
    return found[0]


def test_a_charge_that_succeeds_is_a_calm_table_and_0(mock_desk: ProcfileDesk, tmp_path: Path) -> None:
    done = charged(tmp_path, mock_desk)
    job_id = job_of(done)
    intent = asked(mock_desk, f"/api/jobs/{job_id}")["result"]["payment_intent_id"]
    assert done.out == (f"job             {job_id}\nkind            charge\nstatus          succeeded\n"
                        f"amount          25.50 USD\npayment intent  {intent}\nbook            mock (no money moved)\n")
    assert set(done.err.splitlines()) <= {"queued …", "running …"}
    assert done.code == 0


def test_as_json_it_is_what_the_desk_gave(mock_desk: ProcfileDesk, tmp_path: Path) -> None:
    done = charged(tmp_path, mock_desk, "--json", "--metadata", "plan=premium", "--metadata", "note=a=b",
                   "--email", "customer@example.com", "--description", "Service", "--customer", "cus_1")
    job = json.loads(done.out)
    assert (done.code, done.out.count("\n")) == (0, 1)
    assert job == asked(mock_desk, f"/api/jobs/{job['id']}")


def test_a_declined_charge_is_1_and_says_why(mock_desk: ProcfileDesk, tmp_path: Path) -> None:
    done = charged(tmp_path, mock_desk, method="pm_card_visa_chargeDeclinedInsufficientFunds")
    assert done.code == 1
    assert re.search(r"^status +failed$", done.out, re.MULTILINE)
    assert re.search(r"^error +card_declined: Your card has insufficient funds\.$", done.out, re.MULTILINE)


def test_a_charge_that_its_customer_must_finish_has_not_succeeded(mock_desk: ProcfileDesk, tmp_path: Path) -> None:
    done = charged(tmp_path, mock_desk, method="pm_card_authenticationRequired")
    assert done.code == 1
    assert re.search(r"^status +pending$", done.out, re.MULTILINE)


def test_the_same_key_is_the_same_charge(mock_desk: ProcfileDesk, tmp_path: Path) -> None:
    first, second = (charged(tmp_path, mock_desk, "--idempotency-key", "order-7") for _ in range(2))
    assert job_of(first) == job_of(second)
    assert job_of(charged(tmp_path, mock_desk)) != job_of(first)


def test_without_waiting_it_is_accepted_and_0(mock_desk: ProcfileDesk, tmp_path: Path) -> None:
    with held(mock_desk):
        done = charged(tmp_path, mock_desk, "--no-wait", "--json")
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out)["status"] == "queued"


def test_what_is_not_done_in_time_is_1_and_says_how_to_return(mock_desk: ProcfileDesk, tmp_path: Path) -> None:
    with held(mock_desk):
        done = charged(tmp_path, mock_desk, "--wait", "1")
    assert done.code == 1
    assert done.err == f"queued …\nNot at rest yet. Return to it with: paydesk watch {job_of(done)}\n"
    later = paydesk(tmp_path, mock_desk.url, "watch", job_of(done))
    assert (later.code, job_of(later)) == (0, job_of(done))


@pytest.mark.parametrize("as_json", [False, True])
def test_what_the_desk_refuses_is_1_and_names_the_field(mock_desk: ProcfileDesk, tmp_path: Path, *,
                                                        as_json: bool) -> None:
    done = paydesk(tmp_path, mock_desk.url, "charge", "0.10", "--payment-method", "card",
                   *(["--json"] if as_json else []))
    assert done.code == 1
    assert done.err == ("paydesk: amount: The amount must be at least 0.50. payment_method_id: This id begins with pm_ "
                        "and has up to 64 letters, digits or _ after it.\n")
    assert json.loads(done.out)["code"] == "amount_too_small" if as_json else done.out == ""


def test_watch_tells_each_change_and_ends_with_the_job(mock_desk: ProcfileDesk, tmp_path: Path) -> None:
    with held(mock_desk):
        job_id = job_of(charged(tmp_path, mock_desk, "--no-wait"))
        watching = begun(tmp_path, mock_desk, "watch", job_id)
        eventually(lambda: "queued" in (tmp_path / "err").read_text(), "the watch")
    assert watching.wait(30) == 0
    assert (tmp_path / "err").read_text().startswith("queued …\n")
    assert job_id in (tmp_path / "out").read_text()


def begun(folder: Path, desk: ProcfileDesk, *arguments: str) -> subprocess.Popen[bytes]:
    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        return subprocess.Popen(command(*arguments), cwd=folder, env=surroundings(desk.url, PYTHONUNBUFFERED="1"),
                                stdout=out, stderr=err)


@pytest.mark.parametrize("verb", ["watch", "charge"])
def test_ctrl_c_detaches_and_says_how_to_return(mock_desk: ProcfileDesk, tmp_path: Path, verb: str) -> None:
    with held(mock_desk):
        if verb == "watch":
            watching = begun(tmp_path, mock_desk, verb, job_of(charged(tmp_path, mock_desk, "--no-wait")))
        else:
            watching = begun(tmp_path, mock_desk, verb, "2.50", "--payment-method", "pm_card_visa")
        eventually(lambda: "queued" in (tmp_path / "err").read_text(), "the watch")
        watching.send_signal(signal.SIGINT)
        assert watching.wait(20) == 130
    said = (tmp_path / "err").read_text()
    assert re.fullmatch(r"queued …\n\nDetached; the job goes on\. Return to it with: paydesk watch job_\w+\n", said)
    assert (tmp_path / "out").read_text() == ""
    assert paydesk(tmp_path, mock_desk.url, "watch", JOB_ID.findall(said)[0]).code == 0


def test_watch_of_a_job_that_is_not_there_is_1(mock_desk: ProcfileDesk, tmp_path: Path) -> None:
    for unknown in ("job_" + "a" * 32, "../stripe/stats", "job 1"):
        done = paydesk(tmp_path, mock_desk.url, "watch", unknown)
        assert (done.code, done.out) == (1, ""), unknown
        assert done.err in ("paydesk: There is no job with this id.\n", "paydesk: There is nothing at this address.\n")


def test_jobs_lists_the_newest_and_says_if_there_are_more(mock_desk: ProcfileDesk, tmp_path: Path) -> None:
    ids = [job_of(charged(tmp_path, mock_desk)) for _ in range(2)]
    done = paydesk(tmp_path, mock_desk.url, "jobs", "--kind", "charge", "--status", "succeeded", "--limit", "1")
    header, row = done.out.splitlines()
    assert header.split() == ["job", "created", "kind", "status", "USD", "book", "error"]
    assert row.split()[0] == ids[1]
    assert row.split()[2:] == ["charge", "succeeded", "25.50", "mock"]
    assert (done.code, done.err) == (0, f"There are more: --starting-after {ids[1]}\n")
    further = paydesk(tmp_path, mock_desk.url, "jobs", "--kind", "charge", "--limit", "1", "--starting-after", ids[1],
                      "--json")
    assert [job["id"] for job in json.loads(further.out)["data"]] == [ids[0]]


def test_no_jobs_is_said_on_stderr(mock_desk: ProcfileDesk, tmp_path: Path) -> None:
    assert paydesk(tmp_path, mock_desk.url, "jobs", "--kind", "refund") == Done(0, "", "No jobs.\n")


def test_stats_never_adds_real_money_and_the_mocks(mock_desk: ProcfileDesk, tmp_path: Path) -> None:
    charged(tmp_path, mock_desk)
    done = paydesk(tmp_path, mock_desk.url, "stats")
    cents = asked(mock_desk, "/api/stripe/stats")["books"]["mock"]["processed_cents"]
    lines = done.out.splitlines()
    assert lines[0].split() == ["live", "test", "mock"]
    assert lines[1].split() == ["processed", "USD", "0.00", "0.00", f"{cents // 100}.{cents % 100:02d}"]
    assert re.search(r"^answered by +the mock$", done.out, re.MULTILINE)
    assert (done.code, done.err) == (0, "")


def test_stats_of_one_book_and_as_json(mock_desk: ProcfileDesk, tmp_path: Path) -> None:
    table = paydesk(tmp_path, mock_desk.url, "stats", "--book", "mock")
    assert table.out.splitlines()[0].split() == ["mock"]
    says = json.loads(paydesk(tmp_path, mock_desk.url, "stats", "--book", "mock", "--json").out)
    assert says.keys() == asked(mock_desk, "/api/stripe/stats?book=mock").keys()

"""The Procfile's lines on servers that somebody else runs: the requests of the original system succeed unchanged."""

import json

import pytest

from cli import processes
from tests.cli.conftest import eventually
from tests.deploy.procfile_desk import ProcfileDesk, procfile
from tests.docs.curl import RUNS, WRITTEN_URL, Run

ORIGINAL = {
    "payment-intent": "curl -s '{url}/api/stripe/payment-intent?amount=10.00&email=customer@example.com"
                      "&description=Payment'",
    "create-payment": """curl -s -X POST {url}/api/stripe/create-payment -H 'Content-Type: application/json' -d '{{
     "amount": 25.50, "email": "customer@example.com", "description": "Premium API Access",
     "metadata": {{"plan": "premium"}} }}'""",
    "create-customer": """curl -s -X POST {url}/api/stripe/create-customer -H 'Content-Type: application/json' -d '{{
     "email": "customer@example.com", "name": "John Doe", "phone": "+1234567890",
     "metadata": {{"source": "api"}} }}'""",
    "process-charge": """curl -s -X POST {url}/api/stripe/process-charge -H 'Content-Type: application/json' -d '{{
     "amount": 50.00, "payment_method_id": "pm_123456789", "email": "customer@example.com",
     "description": "Service Payment" }}'""",
    "stats": "curl -s {url}/api/stripe/stats",
}


def test_the_lines_are_those_that_up_runs() -> None:
    assert procfile() == {"web": processes.WEB, "worker": processes.WORKER, "flower": processes.FLOWER}


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS.keys())
@pytest.mark.parametrize("name", ORIGINAL)
def test_the_requests_of_the_original_succeed(mock_desk: ProcfileDesk, run: Run, name: str) -> None:
    answer = run(ORIGINAL[name].format(url=mock_desk.url), {})
    assert answer.status in (200, 202), answer
    if answer.status == 202:
        polled = run(f"curl -s '{mock_desk.url}{answer.says['links']['self']}?wait=20'", {})
        assert (polled.says["status"], polled.says["mock_mode"]) == ("succeeded", True)


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS.keys())
def test_a_payments_status_is_known_by_its_id(mock_desk: ProcfileDesk, run: Run) -> None:
    made = run(ORIGINAL["payment-intent"].format(url=mock_desk.url), {}).says
    assert made["success"] is True
    asked = f"curl -s '{WRITTEN_URL}/api/stripe/payment-status?payment_intent_id={made['payment_intent_id']}'"
    known = run(asked.replace(WRITTEN_URL, mock_desk.url), {})
    assert (known.status, known.says["payment_intent_id"]) == (200, made["payment_intent_id"])


def test_flower_is_there_with_a_password_of_its_own(mock_desk: ProcfileDesk) -> None:
    eventually(lambda: mock_desk.status("/healthcheck", mock_desk.flower_port) == 200, "Flower")
    assert mock_desk.status("/", mock_desk.flower_port) == 401
    assert len((mock_desk.data / "flower_password").read_text()) == 64


def test_the_store_is_seen_as_durable_and_every_check_is_well(mock_desk: ProcfileDesk) -> None:
    checks = RUNS["urllib"](f"curl -s '{mock_desk.url}/readyz?verbose'", {}).says["checks"]
    assert checks == {"store": "ok", "durability": "always", "eviction": "noeviction", "broker": "ok", "workers": 1,
                      "stripe": "no key", "mode": "none"}


def test_nothing_is_written_where_the_image_is_read_only(mock_desk: ProcfileDesk) -> None:
    found = {file.relative_to(mock_desk.app).as_posix() for file in mock_desk.app.rglob("*") if file.is_file()}
    assert found == set(mock_desk.files)


def test_the_processes_say_nothing_about_whom_they_serve(mock_desk: ProcfileDesk) -> None:
    made = RUNS["urllib"](ORIGINAL["create-customer"].format(url=mock_desk.url), {}).says
    log = mock_desk.data / "stripe_payment_log.txt"
    eventually(lambda: log.exists() and f'"job_id":"{made["id"]}","kind":"customer","status":"succeeded"' in
               log.read_text().replace(", ", ",").replace(": ", ":"), "the log's line")
    said = mock_desk.said() + "".join(log.read_text() for log in mock_desk.data.glob("*_log.txt"))
    for private in ("customer@example.com", "John Doe", "1234567890", (mock_desk.data / "secret").read_text()):
        assert json.dumps(private)[1:-1] not in said

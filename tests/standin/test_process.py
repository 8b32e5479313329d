"""The process: what survives it, how it starts, and how it ends."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from standin.client import Standin, StandinFailed
from tests.standin.asking import CHARGE, Asker, request_bytes, send_raw


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_restart_keeps_everything(tmp_path: Path, how: str) -> None:
    db = tmp_path / "standin.sqlite"
    with Standin.start(db) as before:
        ask = Asker(before.base_url)
        first, declined = ask.charge("k"), ask.charge("d", payment_method="pm_card_chargeDeclined")
        before.advance(3600)
        effects = before.effects()
        ask.close()
        getattr(before, how)()
    with Standin.start(db) as after:
        ask = Asker(after.base_url)
        assert after.effects() == effects
        assert ask.charge("k").raw == first.raw
        assert ask.charge("d", payment_method="pm_card_chargeDeclined").raw == declined.raw
        assert ask.get(f"/v1/payment_intents/{first.body['id']}").body == first.body
        after.advance(23 * 3600)
        assert ask.charge("k").body["id"] != first.body["id"]
        ask.close()


def test_a_kill_inside_the_execution_leaves_nothing(tmp_path: Path) -> None:
    db = tmp_path / "standin.sqlite"
    with Standin.start(db) as before:
        before.fault("hang_before")
        before.fault("delay_ms", delay_ms=60_000)
        ask = Asker(before.base_url)
        sockets = [send_raw(ask, request_bytes(CHARGE, "k")) for _ in range(2)]
        while len(before.requests()) < 2:
            pass
        assert ask.charge("k").error["code"] == "idempotency_key_in_use"
        before.kill()
        ask.close()
        for sock in sockets:
            sock.close()
    with Standin.start(db) as after:
        assert after.effects() == []
        ask = Asker(after.base_url)
        assert ask.charge("k").status == 200
        assert len(after.effects("charge")) == 1
        ask.close()


def test_effects_are_readable_from_another_process(standin: Standin, ask: Asker) -> None:
    made = ask.charge("k", **{"metadata[paydesk_job_id]": "job_1"}).body
    connection = sqlite3.connect(f"file:{standin.db}?mode=ro", uri=True)
    try:
        sql = "SELECT key, object_id, kind, amount, status, payment_intent, job_id FROM effects WHERE kind = 'charge'"
        rows = connection.execute(sql).fetchall()
    finally:
        connection.close()
    assert rows == [("k", made["latest_charge"], "charge", 500, "succeeded", made["id"], "job_1")]


def test_a_database_nobody_named_is_removed() -> None:
    with Standin.start() as standin:
        db = Path(str(standin.db))
        assert db.exists()
    assert not db.parent.exists()


def test_sigterm_ends_it_with_requests_in_flight() -> None:
    with Standin.start() as standin:
        standin.fault("hang_after")
        asker = Asker(standin.base_url)
        asker.connection.request("GET", "/v1/balance", None, {"Authorization": "Bearer sk_test_x"})
        while not standin.requests():
            pass
        standin.stop()
        asker.close()
        assert standin.exit_status == 0


def test_it_says_one_line_when_it_listens() -> None:
    command = [sys.executable, "-m", "standin", "--port", "0", "--memory"]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        process.terminate()
        rest, _ = process.communicate(timeout=20)
    assert line.startswith("stand-in ready on http://127.0.0.1:")
    assert (rest, process.returncode) == ("", 0)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "localhost.example"])  # noqa: S104 - it is to be refused
def test_it_listens_on_loopback_only(host: str) -> None:
    command = [sys.executable, "-m", "standin", "--port", "0", "--host", host]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2], timeout=20
    )
    assert done.returncode == 2
    assert "loopback" in done.stderr


def test_a_taken_port_is_an_error(standin: Standin) -> None:
    with pytest.raises(StandinFailed, match="in use"):
        Standin.start(port=int(standin.base_url.rpartition(":")[2]))


def test_memory_answers_the_same_and_plays_no_faults() -> None:
    with Standin.start(memory=True) as standin:
        ask = Asker(standin.base_url)
        made = ask.charge("k", **{"metadata[paydesk_job_id]": "job_1"})
        assert ask.charge("k").error["type"] == "idempotency_error"
        assert ask.charge("k", **{"metadata[paydesk_job_id]": "job_1"}).raw == made.raw
        refund = ask.post("/v1/refunds", {"payment_intent": made.body["id"], "amount": "100"})
        assert refund.status == 200
        declined = ask.charge(payment_method="pm_card_chargeDeclined").error["payment_intent"]["id"]
        listed = ask.get("/v1/payment_intents?limit=1").body
        assert (listed["data"][0]["id"], listed["has_more"]) == (declined, True)
        older = ask.get(f"/v1/payment_intents?starting_after={declined}").body
        assert ([o["id"] for o in older["data"]], older["has_more"]) == ([made.body["id"]], False)
        assert ask.get("/v1/balance").body["pending"][0]["amount"] == 400
        assert [e["kind"] for e in standin.effects(job_id="job_1")] == ["payment_intent", "charge"]
        with pytest.raises(StandinFailed, match="no faults"):
            standin.fault("hang_after")
        ask.close()


def test_the_control_api_refuses_what_it_cannot_read(standin: Standin) -> None:
    refused: list[tuple[str, str, dict[str, object] | None]] = [
        ("POST", "clock", {}),
        ("POST", "clock", {"advance_seconds": -1}),
        ("POST", "settings", {"colour": "red"}),
        ("POST", "settings", {"limits": {"colour": 1}}),
        ("POST", "refuse", {"drop": "some"}),
        ("GET", "nothing", None),
    ]
    for method, name, body in refused:
        with pytest.raises(StandinFailed):
            standin._ask(method, name, body)


def test_latency(standin: Standin, ask: Asker) -> None:
    assert standin.settings(latency_ms=30)["latency_ms"] == 30
    ask.create()
    entry = standin.requests()[0]
    assert entry["finished_at"] - entry["started_at"] >= 0.03


def test_the_control_api_answers_on_the_peer_port_too(standin: Standin, ask: Asker) -> None:
    assert ask.get("/_standin/effects").body == {"effects": []}
    assert standin.control_url != standin.base_url
    control = Asker(standin.control_url)
    assert control.get("/v1/balance").status == 404
    control.close()

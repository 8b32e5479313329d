"""Each fault as the socket shows it, and whether money really moved."""

from __future__ import annotations

import json
from typing import Any

import pytest

from standin.client import Standin, StandinFailed
from tests.standin.asking import CHARGE, Asker, read_to_end, request_bytes, send_raw

CHARGE_BYTES = request_bytes(CHARGE, "k")


def effects_when_answered(standin: Standin) -> int:
    return len(standin.effects("charge"))


def assert_key_is_safe(standin: Standin, ask: Asker) -> None:
    """The same key once more: one charge, whatever came before."""
    assert ask.charge("k").status == 200
    assert len(standin.effects("charge")) == 1


def test_reset_before_read(standin: Standin, ask: Asker) -> None:
    standin.fault("reset_before_read")
    assert read_to_end(send_raw(ask, CHARGE_BYTES)) == (b"", "RST")
    assert standin.requests()[0]["method"] is None
    assert_key_is_safe(standin, ask)


def test_reset_before_read_strikes_a_kept_connection(standin: Standin, ask: Asker) -> None:
    ask.get("/v1/balance")
    standin.fault("reset_before_read")
    with pytest.raises(ConnectionError):
        ask.charge("k")
    assert standin.effects() == []


@pytest.mark.parametrize(
    ("action", "end", "effects"),
    [("die_before_effect", "RST", 0), ("die_after_effect", "RST", 1), ("close_after_effect", "FIN", 1)],
)
def test_no_answer(standin: Standin, ask: Asker, action: str, end: str, effects: int) -> None:
    standin.fault(action)
    assert read_to_end(send_raw(ask, CHARGE_BYTES)) == (b"", end)
    assert effects_when_answered(standin) == effects
    assert [(r["status"], r["fault"]) for r in standin.requests()] == [(None, action)]
    assert_key_is_safe(standin, ask)


@pytest.mark.parametrize(("action", "effects"), [("hang_before", 0), ("hang_after", 1)])
def test_hang(standin: Standin, ask: Asker, action: str, effects: int) -> None:
    standin.fault(action)
    sock = send_raw(ask, CHARGE_BYTES)
    while not standin.requests():
        pass
    sock.setblocking(False)
    with sock, pytest.raises(BlockingIOError):
        sock.recv(1)
    assert effects_when_answered(standin) == effects
    assert_key_is_safe(standin, ask)


@pytest.mark.parametrize(("end", "seen"), [("rst", "RST"), ("fin", "FIN")])
def test_cut_answer(standin: Standin, ask: Asker, end: str, seen: str) -> None:
    standin.fault("cut_answer", end=end)
    got, how = read_to_end(send_raw(ask, CHARGE_BYTES))
    head, _, body = got.partition(b"\r\n\r\n")
    assert (head.startswith(b"HTTP/1.1 200 OK"), how) == (True, seen)
    assert 0 < len(body) < int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
    assert effects_when_answered(standin) == 1
    assert_key_is_safe(standin, ask)


def test_hang_mid_body(standin: Standin, ask: Asker) -> None:
    standin.fault("hang_mid_body")
    sock = send_raw(ask, CHARGE_BYTES)
    got = b""
    while b"\r\n\r\n{" not in got:
        got += sock.recv(65536)
    sock.settimeout(0.05)
    with sock:
        ends: list[str] = []
        while not ends:
            try:
                if not sock.recv(65536):
                    ends.append("over")
            except TimeoutError:
                ends.append("hanging")
    assert ends == ["hanging"]
    assert_key_is_safe(standin, ask)


def test_garbage_comes_after_the_effect(standin: Standin, ask: Asker) -> None:
    standin.fault("garbage")
    told = ask.charge("k")
    assert told.status == 200
    with pytest.raises(ValueError, match="decode"):
        json.loads(told.raw)
    assert_key_is_safe(standin, ask)


@pytest.mark.parametrize(("action", "status"), [("html", 200), ("redirect", 302)])
def test_an_intermediary_answers_without_an_effect(standin: Standin, ask: Asker, action: str, status: int) -> None:
    standin.fault(action)
    told = ask.charge("k")
    assert told.status == status
    assert told.headers["content-type"].startswith("text/html")
    assert "request-id" not in told.headers
    assert standin.effects() == []
    standin.fault(action, effect=True)
    assert ask.charge("k").status == status
    assert_key_is_safe(standin, ask)


def test_oversize(standin: Standin, ask: Asker) -> None:
    standin.fault("oversize")
    told = ask.charge("k")
    assert len(told.raw) > 5_000_000
    assert told.body["status"] == "succeeded"
    assert_key_is_safe(standin, ask)


@pytest.mark.parametrize(
    ("action", "field", "value"), [("wrong_amount", "amount", 501), ("wrong_livemode", "livemode", True)]
)
def test_a_lie(standin: Standin, ask: Asker, action: str, field: str, value: object) -> None:
    standin.fault(action)
    assert ask.charge("k").body[field] == value
    assert ask.charge("k").body[field] != value
    assert [e["amount"] for e in standin.effects("charge")] == [500]


@pytest.mark.parametrize(
    ("action", "status", "header", "value"),
    [
        ("status:503", 503, "stripe-should-retry", "true"),
        ("status:429", 429, "stripe-rate-limited-reason", "endpoint-rate"),
        ("lock_timeout", 429, "stripe-should-retry", "true"),
        ("status:409", 409, "stripe-should-retry", "true"),
        ("status:401", 401, "content-type", "application/json"),
    ],
)
def test_a_refusal(standin: Standin, ask: Asker, action: str, status: int, header: str, value: str) -> None:
    standin.fault(action)
    told = ask.charge("k")
    assert (told.status, told.headers[header]) == (status, value)
    assert ("request-id" in told.headers) is (action != "lock_timeout")
    assert ("stripe-rate-limited-reason" in told.headers) is (action == "status:429")
    assert standin.effects() == []


def test_refuse_closes_the_port_and_accept_opens_it(standin: Standin, ask: Asker) -> None:
    ask.get("/v1/balance")
    standin.refuse()
    with pytest.raises(ConnectionError):
        ask.charge("k")  # the idle connection was reset
    with pytest.raises(ConnectionRefusedError):
        ask.charge("k")
    assert standin.get_settings()["open"] is False
    standin.accept()
    assert_key_is_safe(standin, ask)


def test_refuse_ends_by_itself(standin: Standin, ask: Asker) -> None:
    standin.refuse(0.05)
    while not standin.get_settings()["open"]:
        pass
    assert ask.charge("k").status == 200


def test_faults_strike_what_they_match(standin: Standin, ask: Asker) -> None:
    standin.fault("status:503", method="POST", path_end="/confirm", job_id="job_2")
    standin.fault("status:429", path="/v1/customers", nth=2, times=2)
    standin.fault("status:409", key="k9")
    one = ask.create(**{"metadata[paydesk_job_id]": "job_1"}).body["id"]
    two = ask.create(**{"metadata[paydesk_job_id]": "job_2"}).body["id"]
    confirm = {"payment_method": "pm_card_visa", "return_url": "https://example.com"}
    assert ask.post(f"/v1/payment_intents/{one}/confirm", confirm).status == 200
    assert ask.post(f"/v1/payment_intents/{two}/confirm", confirm).status == 503
    assert ask.post(f"/v1/payment_intents/{two}/confirm", confirm).status == 200
    assert [ask.post("/v1/customers", {}).status for _ in range(4)] == [200, 429, 429, 200]
    assert [ask.create("k9").status, ask.create("k9").status] == [409, 200]
    assert [f["played"] for f in standin.faults()] == [1, 2, 1]
    standin.clear_faults()
    assert standin.faults() == []


def test_a_seed_makes_chance_repeatable(standin: Standin, ask: Asker) -> None:
    runs = []
    for _ in range(2):
        standin.fault("status:503", probability=0.5, seed=7, times=1000)
        runs.append([ask.get("/v1/balance").status for _ in range(40)])
        standin.clear_faults()
    assert runs[0] == runs[1]
    assert set(runs[0]) == {200, 503}


@pytest.mark.parametrize("match", [{"colour": "red"}, {"path": "/v1/customers"}])
def test_a_fault_that_cannot_be_read_is_refused(standin: Standin, match: dict[str, Any]) -> None:
    with pytest.raises(StandinFailed):
        standin.fault("reset_before_read", **match)
    with pytest.raises(StandinFailed):
        standin.fault("no_such_action")
    assert standin.faults() == []


def test_limits_refuse_and_refill_by_the_clock(standin: Standin, ask: Asker) -> None:
    standin.settings(limits={"endpoint_per_second": 2})
    assert [ask.create().status for _ in range(3)] == [200, 200, 429]
    assert ask.post("/v1/customers", {}).status == 200
    standin.advance(1)
    assert ask.create().status == 200
    standin.settings(limits={"global_per_second": 1})
    assert ask.create().status == 200
    told = ask.post("/v1/customers", {})
    assert (told.status, told.headers["stripe-rate-limited-reason"]) == (429, "global-rate")
    standin.settings(limits={})
    assert ask.create().status == 200

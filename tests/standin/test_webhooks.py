"""Webhooks: signed as Stripe signs, at least once, in no order, and with everything that goes wrong on the way."""

from __future__ import annotations

import hashlib
import hmac
import socket
import time
from pathlib import Path
from typing import Any

import pytest
import stripe

from standin.client import Standin, StandinFailed
from tests.standin.asking import Asker
from tests.standin.listening import Heard, Listener, listening

SECRET, OTHER = "whsec_one", "whsec_two"
INTENT_EVENTS = ["payment_intent.created", "charge.succeeded", "payment_intent.succeeded"]


def verified(heard: Heard, secret: str = SECRET) -> stripe.Event:
    """Let the SDK read it."""
    return stripe.Webhook.construct_event(heard.raw, heard.signature, secret)  # type: ignore[no-any-return]  # the SDK leaves it untyped


def test_the_sdk_takes_our_signature(standin: Standin, ask: Asker, ear: Listener) -> None:
    standin.webhooks.listen(ear.url, SECRET)
    made = ask.create("k").body
    standin.webhooks.settle()
    (heard,) = ear.heard
    event = verified(heard)
    assert (event.type, event.data.object["id"], event.pending_webhooks) == ("payment_intent.created", made["id"], 1)
    assert heard.content_type == "application/json; charset=utf-8"
    assert abs(heard.signed_at - time.time()) < 30
    mac = hmac.new(SECRET.encode(), f"{heard.signed_at}.".encode() + heard.raw, hashlib.sha256).hexdigest()
    assert heard.signature == f"t={heard.signed_at},v1={mac}"
    assert ask.get(f"/v1/events/{event.id}").body["pending_webhooks"] == 0
    with pytest.raises(stripe.SignatureVerificationError):
        verified(heard, OTHER)


def test_two_secrets_make_two_signatures(standin: Standin, ask: Asker, ear: Listener) -> None:
    standin.webhooks.listen(ear.url, SECRET, OTHER)
    ask.create()
    standin.webhooks.settle()
    (heard,) = ear.heard
    assert heard.signature.count("v1=") == 2
    assert verified(heard, SECRET).id == verified(heard, OTHER).id


@pytest.mark.parametrize(("age", "taken"), [(295, True), (301, False), (-301, True)])
def test_an_old_timestamp(standin: Standin, ask: Asker, ear: Listener, age: float, taken: bool) -> None:
    """The SDK looks at the past only; what lies in the future is for the desk to refuse."""
    standin.webhooks.listen(ear.url, SECRET)
    standin.webhooks.fault(age_seconds=age)
    ask.create()
    standin.webhooks.settle()
    (heard,) = ear.heard
    assert abs(time.time() - age - heard.signed_at) < 30
    if taken:
        assert verified(heard).type == "payment_intent.created"
    else:
        with pytest.raises(stripe.SignatureVerificationError, match="outside the tolerance"):
            verified(heard)


def test_a_moved_clock_does_not_make_signatures_of_the_future(standin: Standin, ask: Asker, ear: Listener) -> None:
    standin.advance(100_000)
    standin.webhooks.listen(ear.url, SECRET)
    ask.create()
    standin.webhooks.settle()
    assert abs(ear.heard[0].signed_at - time.time()) < 30


def test_a_forged_one_is_followed_by_the_real_one(standin: Standin, ask: Asker, ear: Listener) -> None:
    standin.webhooks.listen(ear.url, SECRET, retry_seconds=[0])
    standin.webhooks.fault(forged=True)
    ear.answers = [400]
    ask.create()
    standin.webhooks.settle()
    forged, real = ear.heard
    with pytest.raises(stripe.SignatureVerificationError):
        verified(forged)
    assert verified(real).id == forged.event["id"]
    assert [(d["forged"], d["status"], d["attempt"]) for d in standin.webhooks.deliveries()] == [
        (True, 400, 1),
        (False, 200, 2),
    ]


def test_only_the_types_asked_for(standin: Standin, ask: Asker, ear: Listener) -> None:
    standin.webhooks.listen(ear.url, SECRET, types=["payment_intent.succeeded"])
    ask.charge()
    standin.webhooks.settle()
    assert ear.types() == ["payment_intent.succeeded"]


def test_every_endpoint_gets_its_own(standin: Standin, ask: Asker, ear: Listener) -> None:
    with listening() as second:
        kept = standin.webhooks.listen(ear.url, SECRET)
        gone = standin.webhooks.listen(second.url, OTHER)
        assert "whsec" not in str(kept)
        ask.create()
        standin.webhooks.settle()
        standin.webhooks.unlisten(gone["id"])
        ask.create()
        standin.webhooks.settle()
        assert (len(ear.heard), len(second.heard)) == (2, 1)
        assert ear.heard[0].event["pending_webhooks"] + second.heard[0].event["pending_webhooks"] in {3, 4}
    assert [e["id"] for e in standin.webhooks.state()["endpoints"]] == [kept["id"]]
    standin.webhooks.unlisten()
    assert standin.webhooks.state()["endpoints"] == []


@pytest.mark.parametrize("status", [400, 500, 302])
def test_what_is_not_taken_comes_again_by_the_clock(standin: Standin, ask: Asker, ear: Listener, status: int) -> None:
    standin.webhooks.listen(ear.url, SECRET, retry_seconds=[60, 3600])
    ear.answers = [status, status]
    ask.create()
    standin.webhooks.settle()
    assert (len(ear.heard), standin.webhooks.state()["later"]) == (1, 1)
    standin.advance(60)
    standin.webhooks.settle()
    assert len(ear.heard) == 2
    standin.advance(3599)
    standin.webhooks.settle()
    assert len(ear.heard) == 2
    standin.advance(1)
    standin.webhooks.settle()
    assert len(set(ear.ids())) == 1
    assert [(d["attempt"], d["status"]) for d in standin.webhooks.deliveries()] == [(1, status), (2, status), (3, 200)]
    assert ask.get("/v1/events").body["data"][0]["pending_webhooks"] == 0


def test_it_is_given_up_in_the_end(standin: Standin, ask: Asker, ear: Listener) -> None:
    standin.webhooks.listen(ear.url, SECRET, retry_seconds=[0, 0])
    ear.answers = [503] * 9
    ask.create()
    standin.webhooks.settle()
    state = standin.webhooks.state()
    assert (len(ear.heard), state["due"], state["later"]) == (3, 0, 0)
    assert ask.get("/v1/events").body["data"][0]["pending_webhooks"] == 1


def test_nobody_there_is_tried_again(standin: Standin, ask: Asker) -> None:
    with listening() as ear:
        url = ear.url
    standin.webhooks.listen(url, SECRET)
    assert ask.create().status == 200
    standin.webhooks.settle()
    (tried,) = standin.webhooks.deliveries()
    assert (tried["status"], tried["error"], standin.webhooks.state()["later"]) == (None, "ConnectionRefusedError", 1)


def test_copies(standin: Standin, ask: Asker, ear: Listener) -> None:
    standin.webhooks.listen(ear.url, SECRET)
    standin.webhooks.fault(types=["payment_intent.succeeded"], copies=3)
    ask.charge()
    standin.webhooks.settle()
    assert sorted(ear.types()) == sorted([*INTENT_EVENTS, *["payment_intent.succeeded"] * 2])
    assert len(set(ear.ids())) == 3
    assert ask.get("/v1/events?type=payment_intent.succeeded").body["data"][0]["pending_webhooks"] == 0


def test_a_lost_one_is_in_the_list(standin: Standin, ask: Asker, ear: Listener) -> None:
    standin.webhooks.listen(ear.url, SECRET)
    standin.webhooks.fault(types=["payment_intent.succeeded"], lost=True)
    ask.charge()
    standin.webhooks.settle()
    assert "payment_intent.succeeded" not in ear.types()
    (lost,) = standin.webhooks.deliveries("payment_intent.succeeded")
    assert (lost["lost"], lost["status"]) == (True, None)
    listed = ask.get("/v1/events?type=payment_intent.succeeded").body["data"]
    assert [event["id"] for event in listed] == [lost["event"]]
    standin.webhooks.resend(lost["event"])
    standin.webhooks.settle()
    assert ear.ids().count(lost["event"]) == 1


def test_a_late_one(standin: Standin, ask: Asker, ear: Listener) -> None:
    standin.webhooks.listen(ear.url, SECRET)
    standin.webhooks.fault(types=["charge.succeeded"], delay_seconds=30)
    ask.charge()
    standin.webhooks.settle()
    assert "charge.succeeded" not in ear.types()
    standin.advance(30)
    standin.webhooks.settle()
    assert ear.types()[-1] == "charge.succeeded"


@pytest.mark.parametrize("order", ["as_made", "reversed", "shuffled"])
def test_held_ones_come_in_the_order_wished(standin: Standin, ask: Asker, ear: Listener, order: str) -> None:
    standin.webhooks.listen(ear.url, SECRET)
    standin.webhooks.hold()
    for _ in range(3):
        ask.charge()
    standin.webhooks.settle()
    assert ear.heard == []
    made = [event["id"] for event in ask.get("/v1/events?limit=100").body["data"]][::-1]
    assert standin.webhooks.release(order, seed=7) == 9
    standin.webhooks.settle()
    if order == "as_made":
        assert ear.ids() == made
    elif order == "reversed":
        assert ear.ids() == made[::-1]
    else:
        assert ear.ids() not in (made, made[::-1])
        assert sorted(ear.ids()) == sorted(made)
    ask.create()
    standin.webhooks.settle()
    assert len(ear.heard) == 10


def test_a_seed_makes_an_order_repeatable(standin: Standin, ask: Asker, ear: Listener) -> None:
    standin.webhooks.listen(ear.url, SECRET)
    orders = []
    for _ in range(2):
        standin.webhooks.hold()
        for place in range(8):
            ask.create(description=str(place))
        standin.webhooks.settle()
        standin.webhooks.release("shuffled", seed=3)
        standin.webhooks.settle()
        orders.append([heard.event["data"]["object"]["description"] for heard in ear.heard])
        ear.heard.clear()
    assert orders[0] == orders[1]


def test_what_is_held_can_be_lost(standin: Standin, ask: Asker, ear: Listener) -> None:
    standin.webhooks.listen(ear.url, SECRET)
    standin.webhooks.hold()
    ask.charge()
    assert standin.webhooks.drop() == 3
    ask.create()
    assert standin.webhooks.release() == 1
    standin.webhooks.settle()
    assert (ear.types(), len(ask.get("/v1/events").body["data"])) == (["payment_intent.created"], 4)


def test_twins_are_both_delivered(standin: Standin, ask: Asker, ear: Listener) -> None:
    standin.webhooks.listen(ear.url, SECRET)
    ask.create()
    standin.webhooks.settle()
    standin.webhooks.twin(ear.heard[0].event["id"])
    standin.webhooks.settle()
    one, two = ear.heard
    assert one.event["id"] != two.event["id"]
    assert one.event["data"] == two.event["data"]


def test_faults_count_and_clear(standin: Standin, ask: Asker, ear: Listener) -> None:
    standin.webhooks.listen(ear.url, SECRET)
    standin.webhooks.fault(types=["payment_intent.created"], nth=2, times=2, lost=True)
    for _ in range(4):
        ask.create()
        standin.webhooks.settle()
    assert len(ear.heard) == 2
    (fault,) = standin.webhooks.faults()
    assert (fault["matched"], fault["played"]) == (4, 2)
    standin.webhooks.clear_faults()
    assert standin.webhooks.faults() == []


def test_a_seed_makes_losses_repeatable(standin: Standin, ask: Asker, ear: Listener) -> None:
    standin.webhooks.listen(ear.url, SECRET)
    runs = []
    for _ in range(2):
        standin.webhooks.fault(lost=True, probability=0.5, seed=5, times=100)
        for _ in range(12):
            ask.create()
            standin.webhooks.settle()
        runs.append([d["lost"] for d in standin.webhooks.deliveries()[-12:]])
        standin.webhooks.clear_faults()
    assert runs[0] == runs[1]
    assert set(runs[0]) == {True, False}


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/",
        "http://192.0.2.1/",
        "http://example.com/",
        "http://127.0.0.1.example.com/",
        "http://user@127.0.0.1/",
        "http://[::1]/",
        "http:///hook",
        "ftp://127.0.0.1/",
        "http://127.0.0.1/a b",
        "",
    ],
)
def test_nothing_but_loopback_is_ever_called(standin: Standin, url: str) -> None:
    with pytest.raises(StandinFailed):
        standin.webhooks.listen(url, SECRET)
    assert standin.webhooks.state()["endpoints"] == []


def test_what_cannot_be_read_is_refused(standin: Standin, ask: Asker) -> None:
    url = "http://127.0.0.1:9/"
    refused: list[tuple[str, dict[str, Any]]] = [
        ("webhooks", {"url": url}),
        ("webhooks", {"url": url, "secrets": []}),
        ("webhooks", {"url": url, "secret": 7}),
        ("webhooks", {"url": url, "secret": "whsec_x", "types": "all"}),
        ("webhooks", {"url": url, "secret": "whsec_x", "types": ["payment_intent.suceeded"]}),
        ("webhooks", {"url": url, "secret": "whsec_x", "colour": "red"}),
        ("webhooks/faults", {"faults": [{"types": ["charge.paid"]}]}),
        ("webhooks/faults", {"faults": [{"colour": "red"}]}),
        ("webhooks/faults", {"faults": [{"copies": 0}]}),
        ("webhooks/faults", {"faults": [7]}),
        ("webhooks/release", {"order": "best"}),
        ("events/resend", {"event": "evt_none"}),
        ("events/twin", {}),
    ]
    for name, body in refused:
        with pytest.raises(StandinFailed):
            standin._ask("POST", name, body)
    assert standin._ask("POST", "webhooks", {"url": url, "secret": "whsec_x"})["secrets"] == 1


def test_a_slow_listener_delays_no_request(standin: Standin, ask: Asker) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        standin.webhooks.listen(f"http://127.0.0.1:{mute.getsockname()[1]}/", SECRET)
        began = time.monotonic()
        assert [ask.create().status for _ in range(20)] == [200] * 20
        assert time.monotonic() - began < 10  # one unanswered delivery alone would take ten
        assert standin.webhooks.state()["under_way"] == 20


def test_a_kill_loses_no_delivery(tmp_path: Path) -> None:
    db = tmp_path / "standin.sqlite"
    with listening() as ear, Standin.start(db) as before:
        before.webhooks.listen(ear.url, SECRET)
        before.webhooks.hold()
        ask = Asker(before.base_url)
        ask.charge()
        ask.close()
        before.kill()
        assert ear.heard == []
        with Standin.start(db) as after:
            after.webhooks.settle()
            assert sorted(ear.types()) == sorted(INTENT_EVENTS)
            assert {verified(heard).livemode for heard in ear.heard} == {False}
        ear.heard.clear()
        with Standin.start(db) as later:
            later.webhooks.settle()
            assert ear.heard == []


def test_reset_forgets_webhooks(standin: Standin, ask: Asker, ear: Listener) -> None:
    standin.webhooks.listen(ear.url, SECRET)
    standin.webhooks.hold()
    ask.create()
    standin.reset()
    state = standin.webhooks.state()
    assert state == {"hold": False, "held": 0, "due": 0, "later": 0, "under_way": 0, "endpoints": []}
    ask.create()
    standin.webhooks.settle()
    assert (ear.heard, standin.webhooks.deliveries()) == ([], [])

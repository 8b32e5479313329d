"""One key, one execution: replays, conflicts, and the day after."""

from __future__ import annotations

import threading

import pytest

from standin.client import Standin
from tests.standin.asking import CHARGE, Asker, Told

OTHER = "sk_test_" + "y" * 8


def test_the_same_key_replays_the_first_answer(standin: Standin, ask: Asker) -> None:
    first, again = ask.charge("k"), ask.charge("k")
    assert again.raw == first.raw
    assert first.status == again.status == 200
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["original-request"] == first.headers["request-id"] != again.headers["request-id"]
    assert first.headers["idempotency-key"] == "k"
    assert len(standin.effects("charge")) == 1
    assert [r["replayed"] for r in standin.requests()] == [False, True]


def test_the_order_of_parameters_does_not_matter(standin: Standin, ask: Asker) -> None:
    ask.charge("k")
    told = ask.post("/v1/payment_intents", dict(reversed(CHARGE.items())), "k")
    assert told.headers["idempotent-replayed"] == "true"


@pytest.mark.parametrize(
    ("path", "more"), [("/v1/payment_intents", {"amount": "501"}), ("/v1/customers", {})], ids=["params", "path"]
)
def test_another_request_under_the_key_is_refused(
    standin: Standin, ask: Asker, path: str, more: dict[str, str]
) -> None:
    ask.charge("k")
    told = ask.post(path, {**CHARGE, **more}, "k")
    assert (told.status, told.error["type"]) == (400, "idempotency_error")
    assert len(standin.effects("charge")) == 1


def test_a_key_in_use_is_409_and_then_free_to_replay(standin: Standin, ask: Asker) -> None:
    standin.fault("delay_ms", delay_ms=700)
    slow: list[Told] = []
    other = Asker(standin.base_url)
    thread = threading.Thread(target=lambda: slow.append(other.charge("k")))
    thread.start()
    while not standin.requests():
        pass
    told = ask.charge("k")
    assert (told.status, told.error["code"]) == (409, "idempotency_key_in_use")
    assert told.headers["stripe-should-retry"] == "true"
    thread.join()
    other.close()
    assert ask.charge("k").raw == slow[0].raw
    assert len(standin.effects("charge")) == 1


def test_a_decline_is_kept(standin: Standin, ask: Asker) -> None:
    declined = ask.charge("k", payment_method="pm_card_chargeDeclined")
    again = ask.charge("k", payment_method="pm_card_chargeDeclined")
    assert (declined.status, again.status, again.raw) == (402, 402, declined.raw)
    assert again.headers["idempotent-replayed"] == "true"


@pytest.mark.parametrize(("action", "effects"), [("status:500_before", 0), ("status:500_after", 1)])
def test_a_500_is_kept(standin: Standin, ask: Asker, action: str, effects: int) -> None:
    standin.fault(action)
    first, again = ask.charge("k"), ask.charge("k")
    assert (first.status, again.status, again.raw) == (500, 500, first.raw)
    assert again.headers["stripe-should-retry"] == "false"
    assert len(standin.effects("charge")) == effects


@pytest.mark.parametrize("action", ["status:401", "status:409", "status:429", "status:503", "lock_timeout"])
def test_what_never_began_is_not_kept(standin: Standin, ask: Asker, action: str) -> None:
    standin.fault(action)
    assert ask.charge("k").status >= 400
    told = ask.charge("k")
    assert told.status == 200
    assert "idempotent-replayed" not in told.headers


def test_a_validation_failure_is_not_kept(standin: Standin, ask: Asker) -> None:
    assert ask.charge("k", amount="49").status == 400
    assert ask.charge("k").status == 200


def test_what_began_and_was_refused_is_kept(standin: Standin, ask: Asker) -> None:
    for _ in range(2):
        told = ask.charge("k", payment_method="pm_missing_1")
        assert (told.status, told.error["code"], told.error["param"]) == (400, "resource_missing", "payment_method")
    assert told.headers["idempotent-replayed"] == "true"
    assert standin.effects() == []


def test_keys_belong_to_one_account(standin: Standin, ask: Asker) -> None:
    ask.charge("k")
    assert ask.post("/v1/payment_intents", CHARGE, "k", key=OTHER).status == 200
    assert len({e["account"] for e in standin.effects("charge")}) == 2


def test_after_a_day_the_key_executes_anew(standin: Standin, ask: Asker) -> None:
    first = ask.charge("k").body["id"]
    standin.advance(24 * 3600 - 60)
    assert ask.charge("k").body["id"] == first
    standin.advance(60)
    assert ask.charge("k").body["id"] != first
    assert len(standin.effects("charge")) == 2


def test_a_key_has_at_most_255_characters(standin: Standin, ask: Asker) -> None:
    assert ask.charge("k" * 255).status == 200
    assert ask.charge("k" * 256).status == 400

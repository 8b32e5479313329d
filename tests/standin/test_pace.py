"""How long answers take, how fast requests came, what came, and the advice to send again."""

from __future__ import annotations

import random
import statistics
import threading

import pytest

from standin.client import Standin, StandinFailed
from standin.latency import Latency, Spread
from standin.rates import Rates
from tests.standin.asking import KEY, Asker

INTENTS = "POST /v1/payment_intents"


def test_a_spread_has_its_percentiles() -> None:
    dice = random.Random(1)  # noqa: S311 - to be repeatable
    drawn = sorted(Spread(100, 400).draw(dice) for _ in range(20_000))
    assert statistics.median(drawn) == pytest.approx(100, rel=0.05)
    assert drawn[19_000] == pytest.approx(400, rel=0.05)


def test_the_same_seed_draws_the_same_whatever_else_is_asked() -> None:
    given = {"seed": 7, "default": {"p50_ms": 10, "p95_ms": 20}, "endpoints": {"a": {"p50_ms": 1, "p95_ms": 1}}}
    alone, among = Latency(), Latency()
    for latency in (alone, among):
        latency.set(given)
    first = [alone.draw_ms("b") for _ in range(5)]
    second = [(among.draw_ms("c"), among.draw_ms("b"))[1] for _ in range(5)]
    assert first == second
    assert alone.draw_ms("a") == 1
    alone.set({})
    assert alone.draw_ms("b") == 0


def test_latency_of_one_endpoint(standin: Standin, ask: Asker) -> None:
    spread = {"p50_ms": 40, "p95_ms": 40}
    told = standin.settings(latency={"endpoints": {INTENTS: spread}})
    assert told["latency"] == {"seed": 0, "default": None, "endpoints": {INTENTS: {"p50_ms": 40.0, "p95_ms": 40.0}}}
    ask.create()
    ask.get("/v1/balance")
    slow, quick = (entry["finished_at"] - entry["started_at"] for entry in standin.requests())
    assert slow >= 0.04 > quick
    assert standin.settings(latency={})["latency"]["endpoints"] == {}


@pytest.mark.parametrize(
    "latency", [{"colour": 1}, {"default": {"p50_ms": 0, "p95_ms": 1}}, {"default": {"p50_ms": 2, "p95_ms": 1}}]
)
def test_a_latency_that_cannot_be_read(standin: Standin, latency: dict[str, object]) -> None:
    with pytest.raises(StandinFailed):
        standin.settings(latency=latency)


def test_rates_count_what_came_and_what_happened(standin: Standin, ask: Asker) -> None:
    for _ in range(3):
        ask.charge()
    ask.get("/v1/payment_intents/pi_none")
    ask.get("/v1/nothing")
    standin.fault("status:429")
    ask.charge()
    rates = standin.rates()
    assert rates["window_ms"] == 100
    counted = {name: sum(n for _, n in found["windows"]) for name, found in rates["endpoints"].items()}
    assert counted == {INTENTS: 4, "GET /v1/payment_intents/{id}": 1, "unknown": 1}
    assert 1 <= rates["endpoints"][INTENTS]["peak_per_second"] <= 4
    assert sum(n for _, n in rates["effects_per_second"]) == 6
    assert (rates["in_flight"], rates["max_in_flight"]) == (0, 1)
    standin.reset()
    assert standin.rates()["endpoints"] == {}


def test_the_most_in_flight(standin: Standin, ask: Asker) -> None:
    standin.settings(latency_ms=300)
    asks = [Asker(standin.base_url) for _ in range(5)]
    threads = [threading.Thread(target=one.create) for one in asks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in asks:
        one.close()
    assert standin.rates()["max_in_flight"] == 5


def test_the_worst_second_may_begin_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = Rates()
    for moment, times in [(10.0, 2), (10.6, 5), (11.5, 6), (11.65, 1), (13.0, 3)]:
        monkeypatch.setattr("standin.rates.time.time", lambda moment=moment: moment)
        for _ in range(times):
            with rates.counted("a"):
                pass
    found = rates.describe()["endpoints"]["a"]
    assert found["windows"][0] == [10_000, 2]
    assert found["peak_per_second"] == 11


def test_what_came_is_captured_only_when_asked_for(standin: Standin, ask: Asker) -> None:
    ask.create("k")
    assert standin.requests()[0]["sent"] is None
    standin.settings(capture=True)
    ask.create("k", description="ä")
    ask.get("/v1/payment_intents?limit=3")
    posted, got = (entry["sent"] for entry in standin.requests()[1:])
    assert posted["body"] == "amount=500&currency=usd&description=%C3%A4"
    assert posted["headers"]["idempotency-key"] == "k"
    assert got["query"] == "limit=3"
    assert KEY not in str(standin.requests())


@pytest.mark.parametrize(
    ("action", "advice"),
    [
        ("status:409", "true"),
        ("lock_timeout", "true"),
        ("status:503", "true"),
        ("status:429", None),
        ("status:401", None),
        ("status:500_before", "false"),
        ("status:500_after", "false"),
    ],
)
def test_should_retry(standin: Standin, ask: Asker, action: str, advice: str | None) -> None:
    """A kept 500 would only be replayed, so Stripe advises against sending again (SDK, `_http_client.py`)."""
    standin.fault(action)
    told = ask.charge("k")
    assert told.headers.get("stripe-should-retry") == advice
    if advice == "false":
        assert ask.charge("k").headers["stripe-should-retry"] == "false"

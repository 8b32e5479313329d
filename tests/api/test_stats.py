"""The statistics: the shape of the contract, and sums that are the books'."""

import re

import pytest

from api.stats import success_rate
from shared.circuit import Circuit
from shared.settings import Fallback, Settings
from tests.api.front import STATS, Front, serving

pytestmark = pytest.mark.anyio

NO_JOBS = {"queued": 0, "running": 0, "retrying": 0, "unknown": 0, "pending": 0, "parked": 0}
NOTHING = {"processed_cents": 0, "refunded_cents": 0, "succeeded": 0, "failed": 0}


async def test_an_empty_desk(front: Front) -> None:
    stats = (await front.client.get(STATS)).json()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", stats.pop("as_of"))
    assert stats == {
        "total_processed_usd": 0.0, "successful_payments": 0, "failed_payments": 0, "success_rate": 0.0,
        "stripe_account": None, "mock_mode": True, "real_processed_usd": 0.0, "mock_processed_usd": 0.0,
        "refunded_usd": 0.0, "net_usd": 0.0, "books": {"live": NOTHING, "test": NOTHING, "mock": NOTHING},
        "jobs": NO_JOBS}


async def test_the_books_are_told_in_dollars(front: Front) -> None:
    for amount in ("25.50", "0.70"):
        await front.worker.succeed((await front.charge({"amount": amount, "payment_method_id": "pm_x"})).json()["id"])
    await front.worker.fail((await front.charge()).json()["id"], "card_declined")
    await front.charge()
    stats = (await front.client.get(STATS)).json()
    assert stats["books"]["mock"] == {"processed_cents": 2620, "refunded_cents": 0, "succeeded": 2, "failed": 1}
    assert (stats["total_processed_usd"], stats["mock_processed_usd"], stats["real_processed_usd"]) == (26.2, 26.2, 0.0)
    assert (stats["successful_payments"], stats["failed_payments"], stats["success_rate"]) == (2, 1, 66.7)
    assert stats["jobs"] == NO_JOBS | {"queued": 1}


async def test_real_and_mock_stand_apart(settings: Settings, with_key: Settings) -> None:
    async with serving(settings) as front:
        await front.worker.succeed((await front.charge()).json()["id"])
    async with serving(with_key) as real:
        await real.worker.succeed((await real.charge({"amount": 25.5, "payment_method_id": "pm_x"})).json()["id"])
        stats = (await real.client.get(STATS)).json()
        assert stats["total_processed_usd"] == 75.5
        assert (stats["real_processed_usd"], stats["mock_processed_usd"], stats["net_usd"]) == (25.5, 50.0, 25.5)
        assert (stats["successful_payments"], stats["success_rate"]) == (2, 100.0)
        assert stats["stripe_account"] == "sk_test_..."
        alone = (await real.client.get(STATS, params={"book": "mock"})).json()
        assert alone.keys() == stats.keys()
        assert (alone["total_processed_usd"], alone["real_processed_usd"], alone["net_usd"]) == (50.0, 0.0, 50.0)
        assert list(alone["books"]) == ["mock"]
        alone = (await real.client.get(STATS, params={"book": "test"})).json()
        assert (alone["total_processed_usd"], alone["real_processed_usd"]) == (25.5, 25.5)
        assert alone["mock_processed_usd"] == 0.0


@pytest.mark.parametrize("fallback", Fallback)
async def test_mock_mode_is_what_an_answer_now_would_be(with_key: Settings, fallback: Fallback) -> None:
    async with serving(with_key.model_copy(update={"stripe_fallback": fallback})) as real:
        assert (await real.client.get(STATS)).json()["mock_mode"] is False
        circuit = Circuit(real.worker.store._calls)
        await circuit.beat("w1", threads=4)
        await circuit.failed("w1")
        assert (await real.client.get(STATS)).json()["mock_mode"] is (fallback is Fallback.MOCK)


@pytest.mark.parametrize("query", ["book=", "book=all", "bok=mock"])
async def test_a_malformed_book(front: Front, query: str) -> None:
    assert (await front.client.get(f"{STATS}?{query}")).status_code == 422


@pytest.mark.parametrize(("succeeded", "failed", "rate"), [
    (0, 0, 0.0), (1, 0, 100.0), (0, 1, 0.0), (2, 1, 66.7), (1, 2, 33.3), (1, 7, 12.5), (1, 15, 6.3)])
def test_the_rate_is_rounded_from_whole_numbers(succeeded: int, failed: int, rate: float) -> None:
    assert success_rate(succeeded, failed) == rate

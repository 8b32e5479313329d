"""Answers of Stripe that cannot be: never booked and never a job's end; a human looks, or it is asked again."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from shared.jobs import Kind, Status
from shared.settings import STRIPE_API_VERSION
from tests.shared.till import Till, new, waiting
from tests.worker.conftest import Line, Peer
from tests.worker.desks import make_desk
from worker.attempt import attempt
from worker.desk import Desk
from worker.stripe_processor import StripeProcessor

pytestmark = pytest.mark.anyio

INTENT: dict[str, Any] = {
    "id": "pi_a", "object": "payment_intent", "status": "succeeded", "amount": 5000, "amount_received": 5000,
    "currency": "usd", "livemode": False, "client_secret": "pi_a_secret_x", "metadata": {"paydesk_job_id": "job_a"}}

FAULTS: dict[str, dict[str, Any]] = {
    "received_beyond_all_numbers": {"amount_received": 10**20}, "received_nothing": {"amount_received": 0},
    "received_more": {"amount_received": 4_999_999}, "received_less": {"amount_received": 4999},
    "received_below_zero": {"amount_received": -5000}, "other_currency": {"currency": "jpy"},
    "all_beyond_all_numbers": {"amount": 10**20, "amount_received": 10**20},
    "other_amount": {"amount": 4999, "amount_received": 4999}}


class Answering:
    """A desk whose Stripe gives one answer to everything."""

    def __init__(self, till: Till, base_url: str) -> None:
        self.status, self.body = 200, dict[str, Any]()
        self.processor = StripeProcessor(api_key="sk_test_fake", api_base=base_url, api_version=STRIPE_API_VERSION)
        self.desk: Desk = make_desk(till, self.processor)

    async def play(self, line: Line) -> None:
        while True:
            await line.request()
            await line.answer(self.status, json.dumps(self.body).encode(), "Request-Id: req_1")


@pytest.fixture
async def stripe(till: Till, peer: Peer) -> AsyncIterator[Answering]:
    async def play(line: Line) -> None:
        await made.play(line)

    made = Answering(till, await peer.play(play))
    yield made
    await made.processor.close()


async def nothing_is_booked(till: Till) -> bool:
    totals = await till.ledger.totals()
    return (await till.entries() == [] and await till.ledger.differences() == []
            and all((each.processed_cents, each.succeeded) == (0, 0) for each in totals.values()))


@pytest.mark.parametrize("fault", FAULTS)
async def test_an_impossible_answer_to_a_charge_is_never_booked(till: Till, stripe: Answering, fault: str) -> None:
    stripe.body = INTENT | FAULTS[fault]
    await attempt(stripe.desk, await till.started(), has_slot=True)
    job = await till.job()
    assert job.status in (Status.PARKED, Status.UNKNOWN)
    assert job.doubts == 1
    assert await nothing_is_booked(till)


@pytest.mark.parametrize("fault", FAULTS)
async def test_an_impossible_answer_to_the_look_at_a_charge_is_never_booked(till: Till, stripe: Answering,
                                                                          fault: str) -> None:
    stripe.body = INTENT | FAULTS[fault]
    await till.record(waiting(await till.started()))
    await attempt(stripe.desk, await till.claimed(), has_slot=True)
    assert (await till.job()).status in (Status.PARKED, Status.PENDING)
    assert await nothing_is_booked(till)


@pytest.mark.parametrize("fault", FAULTS)
async def test_an_impossible_answer_to_who_asks_is_neither_booked_nor_believed(till: Till, stripe: Answering,
                                                                             fault: str) -> None:
    await till.record(waiting(await till.started()))
    await till.accept(new("job_look", kind=Kind.STATUS_REFRESH))
    await till.calls.call("HSET", "{pd}:job:job_look", "request", json.dumps({"payment_intent_id": "pi_a"}))
    stripe.body = INTENT | FAULTS[fault]
    await attempt(stripe.desk, await till.claimed("job_look"), has_slot=True)
    assert (await till.job("job_look")).status is Status.FAILED
    assert await till.calls.call("HGET", "{pd}:payment:pi_a", "status") == "requires_action"
    assert await nothing_is_booked(till)


async def test_the_right_answer_after_an_impossible_one_is_booked_once(till: Till, stripe: Answering) -> None:
    stripe.body = INTENT | FAULTS["received_beyond_all_numbers"]
    await attempt(stripe.desk, await till.started(), has_slot=True)
    await till.put("job_a", next_ms=0)
    stripe.body = INTENT
    await attempt(stripe.desk, await till.claimed(), has_slot=True)
    assert (await till.job()).status is Status.SUCCEEDED
    assert [entry["cents"] for entry in await till.entries()] == ["5000"]
    assert await till.ledger.differences() == []


@pytest.mark.parametrize("fault", [{"metadata": {"paydesk_job_id": "job_x"}}, {"metadata": {}}, {"livemode": True},
                                   {"currency": "jpy"}, {"amount": 4999}])
async def test_a_decline_of_another_payment_parks(till: Till, stripe: Answering, fault: dict[str, Any]) -> None:
    unpaid = {**INTENT, "status": "requires_payment_method", "amount_received": 0}
    stripe.status = 402
    stripe.body = {"error": {"type": "card_error", "code": "card_declined", "message": "No.",
                             "payment_intent": {**unpaid, **fault}}}
    await attempt(stripe.desk, await till.started(), has_slot=True)
    job = await till.job()
    assert job.error is not None
    assert (job.status, job.error["code"]) == (Status.PARKED, "unexpected_answer")
    assert await till.calls.call("EXISTS", "{pd}:payment:pi_a") == 0

"""One suite that the mock and Stripe (played by the stand-in) both pass: the mock is a twin, not a second opinion."""

import dataclasses
from collections.abc import AsyncIterator, Iterator

import pytest

from shared.jobs import Job
from shared.requests import CustomerRequest, Request
from shared.results import Customer, Payment
from shared.settings import STRIPE_API_VERSION
from standin.client import Standin
from tests.worker.conftest import MakeJob, charge, intent
from worker.mock_processor import AUTHENTICATION_REQUIRED, DECLINES, MockProcessor
from worker.processor import Declined, Processor, Settled
from worker.stripe_processor import StripeProcessor

pytestmark = pytest.mark.anyio

CARD = "pm_card_visa"


@pytest.fixture(scope="module")
def standin() -> Iterator[Standin]:
    with Standin.start() as running:
        yield running


@pytest.fixture(params=["mock", "stripe"])
async def processor(request: pytest.FixtureRequest, anyio_backend: str) -> AsyncIterator[Processor]:
    made: Processor
    if request.param == "mock":
        made = MockProcessor()
    else:
        standin: Standin = request.getfixturevalue("standin")
        standin.reset()
        made = StripeProcessor(api_key="sk_test_fake", api_base=standin.base_url, api_version=STRIPE_API_VERSION)
    yield made
    await made.close()


async def settled(processor: Processor, job: Job) -> tuple[Payment, str | None]:
    outcome = await processor.send(job)
    assert isinstance(outcome, Settled)
    assert isinstance(outcome.made, Payment)
    return outcome.made, outcome.client_secret


async def test_an_intent_waits_for_its_customer(processor: Processor, make_job: MakeJob) -> None:
    request = intent("25.50", email="a@example.com", description="x", metadata={"order": "7"})
    made, secret = await settled(processor, make_job(request))
    assert made == Payment(id=made.id, status="requires_payment_method", amount_cents=2550, received_cents=0,
                           currency="usd", livemode=False, job_id="job_a1")
    assert secret is not None
    assert secret.startswith(f"{made.id}_secret_")


async def test_a_charge_takes_the_money(processor: Processor, make_job: MakeJob) -> None:
    made, _ = await settled(processor, make_job(charge(CARD, email="a@example.com", metadata={"order": "7"})))
    assert made == Payment(id=made.id, status="succeeded", amount_cents=5000, received_cents=5000, currency="usd",
                           livemode=False, job_id="job_a1")


@pytest.mark.parametrize("payment_method_id", sorted(DECLINES))
async def test_named_declines(processor: Processor, make_job: MakeJob, payment_method_id: str) -> None:
    job, expected = make_job(charge(payment_method_id)), DECLINES[payment_method_id]
    outcome = await processor.send(job)
    assert isinstance(outcome, Declined)
    assert (outcome.code, outcome.decline_code, outcome.message) == dataclasses.astuple(expected)
    assert outcome.payment is not None
    assert outcome.payment == Payment(id=outcome.payment.id, status="requires_payment_method", amount_cents=5000,
                                      received_cents=0, currency="usd", livemode=False, job_id="job_a1")
    again = await processor.send(job)
    assert isinstance(again, Declined)
    assert dataclasses.replace(again, request_id=None) == dataclasses.replace(outcome, request_id=None)


async def test_a_card_that_asks_for_its_holder_waits(processor: Processor, make_job: MakeJob) -> None:
    made, secret = await settled(processor, make_job(charge(AUTHENTICATION_REQUIRED)))
    assert (made.status, made.received_cents) == ("requires_action", 0)
    assert secret is not None


async def test_a_customer(processor: Processor, make_job: MakeJob) -> None:
    request = CustomerRequest(email="a@example.com", name="Zoë", phone="+491234567", metadata={"crm": "1"})
    outcome = await processor.send(make_job(request))
    assert isinstance(outcome, Settled)
    assert outcome.made == Customer(id=outcome.made.id, email="a@example.com", name="Zoë", livemode=False,
                                    job_id="job_a1")
    assert outcome.client_secret is None
    nameless = await processor.send(make_job(CustomerRequest(email="b@example.com"), "job_a2"))
    assert isinstance(nameless, Settled)
    assert isinstance(nameless.made, Customer)
    assert nameless.made.name is None


@pytest.mark.parametrize("request_", [intent("1"), charge(CARD),
                                      CustomerRequest(email="a@example.com")])
async def test_the_same_job_again_gives_the_same_object(
        processor: Processor, make_job: MakeJob, request_: Request) -> None:
    first = await processor.send(make_job(request_))
    assert await processor.send(make_job(request_, status="unknown", attempts="2")) == first
    other = await processor.send(make_job(request_, "job_a2"))
    assert isinstance(first, Settled)
    assert isinstance(other, Settled)
    assert other.made.id != first.made.id


@pytest.mark.parametrize("payment_method_id", [CARD, AUTHENTICATION_REQUIRED])
async def test_looking_sees_what_was_made_and_changes_nothing(
        processor: Processor, make_job: MakeJob, payment_method_id: str) -> None:
    request = charge(payment_method_id)
    made, _ = await settled(processor, make_job(request))
    for _ in range(2):
        looked = await processor.look(make_job(request, status="pending", stripe_id=made.id))
        assert isinstance(looked, Settled)
        assert looked.made == made


async def test_closing_twice_is_no_harm(processor: Processor, make_job: MakeJob) -> None:
    await settled(processor, make_job(charge(CARD)))
    await processor.close()
    await processor.close()

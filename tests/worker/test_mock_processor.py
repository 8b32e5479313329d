"""What is the mock's alone; what it shares with Stripe is in test_processor_contract.py."""

import dataclasses

import pytest

from shared.ids import Ids
from shared.jobs import Kind
from shared.requests import CustomerRequest
from shared.results import Payment
from shared.stripe_params import mock_payment_job
from tests.worker.conftest import MakeJob, charge, intent, stored
from worker.mock_processor import DECLINES, MockProcessor
from worker.processor import Declined, Refused, Settled

pytestmark = pytest.mark.anyio


async def test_ids_are_those_of_the_job_and_say_that_they_are_of_the_mock(make_job: MakeJob) -> None:
    paid = await MockProcessor().send(make_job(charge("pm_card_visa")))
    customer = await MockProcessor().send(make_job(CustomerRequest(email="a@example.com")))
    assert isinstance(paid, Settled)
    assert isinstance(customer, Settled)
    assert (paid.made.id, customer.made.id) == ("pi_mock_a1", "cus_mock_a1")
    assert paid.client_secret is not None
    assert paid.client_secret.startswith("pi_mock_a1_secret_")
    assert not paid.made.livemode


@pytest.mark.parametrize("payment_method_id", ["pm_1AnyThing", "pm_card_mastercard", "pm_chargeDeclined"])
async def test_any_other_payment_method_succeeds(make_job: MakeJob, payment_method_id: str) -> None:
    done = await MockProcessor().send(make_job(charge(payment_method_id)))
    assert isinstance(done, Settled)
    assert isinstance(done.made, Payment)
    assert (done.made.status, done.made.received_cents) == ("succeeded", 5000)


async def test_the_simulated_customer_pays_an_intent_in_full(make_job: MakeJob) -> None:
    job = make_job(intent("10.01"))
    made = await MockProcessor().send(job)
    assert isinstance(made, Settled)
    new = mock_payment_job(Ids("secret"), intent=job, payment_intent_id=made.made.id)
    pay = stored(new)
    paid = await MockProcessor().send(pay)
    assert paid == Settled(Payment(id="pi_mock_a1", status="succeeded", amount_cents=1001, received_cents=1001,
                                   currency="usd", livemode=False, job_id="job_a1"))
    assert await MockProcessor().send(pay) == paid


@pytest.mark.parametrize("request_", [{}, {"payment_intent_id": "pi_mock_a1"},
                                      {"payment_intent_id": "pi_mock_a1", "amount_cents": True}])
async def test_a_payment_without_its_amount_is_never_invented(make_job: MakeJob, request_: dict[str, object]) -> None:
    job = dataclasses.replace(make_job(intent("1")), kind=Kind.STATUS_REFRESH, request=request_)
    outcome = await MockProcessor().send(job)
    assert isinstance(outcome, Refused)
    assert outcome.code == "resource_missing"


async def test_a_declined_charge_stands_without_money(make_job: MakeJob) -> None:
    job = make_job(charge("pm_card_chargeDeclined"))
    outcome = await MockProcessor().send(job)
    assert isinstance(outcome, Declined)
    looked = await MockProcessor().look(job)
    assert isinstance(looked, Settled)
    assert looked.made == outcome.payment


async def test_a_kind_that_the_mock_does_not_do_is_refused(make_job: MakeJob) -> None:
    refund = dataclasses.replace(make_job(CustomerRequest(email="a@example.com")), kind=Kind.REFUND)
    assert isinstance(await MockProcessor().send(refund), Refused)
    assert isinstance(await MockProcessor().look(refund), Refused)


async def test_all_declines_are_accepted_as_payment_methods(make_job: MakeJob) -> None:
    for name in DECLINES:
        assert isinstance(await MockProcessor().send(make_job(charge(name))),
                          Declined)

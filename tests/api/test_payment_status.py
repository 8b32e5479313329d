"""How a payment stands: told from the record or asked of Stripe once, credited once, never invented."""

import asyncio
import itertools

import httpx2
import pytest

from api.payment_status import _Asked
from shared.jobs import LOCAL_CALLER, NewJob, Status
from shared.redis_calls import ROOT
from shared.settings import Settings
from shared.stripe_params import JOB_METADATA_KEY, status_refresh_job
from standin.client import Standin
from tests.api.at_stripe import STATUS, AtStripe, at_stripe
from tests.api.front import CHARGES, PAYMENTS, Front, job_id_of, serving
from worker.attempt import attempt

pytestmark = pytest.mark.anyio

TO_AUTHENTICATE = {"payment_method_id": "pm_card_authenticationRequired"}


async def test_a_payment_seen_a_moment_ago_is_told_from_the_record(stripe: AtStripe) -> None:
    job = job_id_of(await stripe.front.client.post(PAYMENTS, json={"amount": 25.50}))
    await stripe.works()
    told = (await stripe.ask(job)).json()
    made = told.pop("payment_intent_id")
    assert told.pop("as_of").endswith("Z")
    assert told == {"success": True, "status": "requires_payment_method", "amount": 25.5, "amount_received": 0.0,
                    "currency": "usd"}
    assert (await stripe.ask(made)).json()["payment_intent_id"] == made
    assert stripe.reads() == 0


async def test_an_older_record_is_asked_of_stripe_once_however_many_ask(stripe: AtStripe) -> None:
    made = await stripe.created()
    await stripe.early_in_a_window()
    responses = await stripe.asked(made, times=20)
    assert {response.status_code for response in responses} == {200}
    assert len({response.text for response in responses}) == 1
    assert stripe.reads() == 1
    assert "stale" not in (await stripe.ask(made)).json()
    assert stripe.reads() == 1


async def test_who_asks_while_an_earlier_windows_job_waits_for_its_turn_waits_with_it(stripe: AtStripe) -> None:
    made = await stripe.created()
    seconds, _ = await stripe.calls.call("TIME")
    earlier = _look(stripe, made, window=int(seconds) // 10 - 1)
    await stripe.front.desk.store.accept(earlier, delay_ms=5000, deadline_seconds=10)
    ticket = await stripe.ask(made, Prefer="wait=0")
    assert (ticket.status_code, job_id_of(ticket)) == (202, earlier.id)
    assert (await stripe.told(made))["status"] == "requires_payment_method"
    assert stripe.reads() == 1


@pytest.mark.parametrize("polls", [1, 12])
async def test_an_intent_paid_in_a_browser_is_revenue_once(stripe: AtStripe, polls: int) -> None:
    made = await stripe.created()
    await stripe.early_in_a_window()
    stripe.standin.pay(made)
    responses = await stripe.asked(made, times=polls)
    assert {(response.json()["status"], response.json()["amount_received"]) for response in responses} == {
        ("succeeded", 25.5)}
    await stripe.age(made)
    assert (await stripe.ask(made)).json()["status"] == "succeeded"
    assert await stripe.revenue() == [(made, 2550)]
    assert stripe.reads() == 1, "what is final is never asked again"
    stats = (await stripe.front.client.get("/api/stripe/stats")).json()
    assert (stats["real_processed_usd"], stats["successful_payments"]) == (25.5, 1)


@pytest.mark.parametrize("order", list(itertools.permutations(("charge", "look 1", "look 2"))))
async def test_a_paid_charge_is_revenue_once_whoever_sees_it_first(stripe: AtStripe, order: tuple[str, ...]) -> None:
    made = await stripe.created(CHARGES, **TO_AUTHENTICATE)
    stripe.standin.pay(made)
    (charge,) = await stripe.calls.call("ZRANGE", f"{ROOT}jobs:pending", 0, -1)
    await stripe.calls.call("HSET", f"{ROOT}job:{charge}", "next_ms", 0)  # when it is looked at again: now
    jobs = {"charge": charge}
    for number in (1, 2):
        look = _look(stripe, made, window=number)
        await stripe.front.desk.store.accept(look, delay_ms=0, deadline_seconds=10)
        jobs[f"look {number}"] = look.id
    for name in order:
        await _work(stripe, jobs[name])
    assert await stripe.revenue() == [(made, 2550)]
    job = await stripe.front.desk.store.get(charge)
    assert job is not None
    assert (job.status, job.contradicted_by) == (Status.SUCCEEDED, None)


@pytest.mark.parametrize("metadata", [{}, {JOB_METADATA_KEY: "job_" + "a" * 32}])
async def test_a_payment_of_another_desk_is_told_and_never_booked(stripe: AtStripe, metadata: dict[str, str]) -> None:
    made = await _made_elsewhere(stripe, metadata)
    stripe.standin.pay(made)
    told = await stripe.told(made)
    assert (told["status"], told["amount_received"]) == ("succeeded", 7.0)
    assert await stripe.revenue() == []


async def test_what_stripe_does_not_know_is_404(stripe: AtStripe) -> None:
    responses = await stripe.asked("pi_nobody", times=3)
    assert [(response.status_code, response.json()["code"]) for response in responses] == [
        (404, "resource_missing")] * 3
    assert stripe.reads() == 1


async def test_a_payment_that_another_key_made_is_told_as_it_was_last_seen(stripe: AtStripe) -> None:
    made = await stripe.created()
    stripe.standin.reset()  # for this Stripe it never was
    told = await stripe.told(made)
    assert (told["stale"], told["status"]) == (True, "requires_payment_method")


async def test_out_of_reach_what_was_seen_is_stale_and_what_was_not_is_503(stripe: AtStripe) -> None:
    made = await stripe.created()
    await stripe.cut_off()
    told = await stripe.ask(made)
    assert told.json()["stale"] is True
    unseen = await stripe.ask("pi_unseen")
    assert (unseen.status_code, unseen.json()["code"]) == (503, "stripe_unavailable")
    assert stripe.reads() == 0


@pytest.mark.parametrize("fault", ["status:500_before", "status:503", "status:429", "garbage"])
async def test_when_stripe_does_not_tell_the_last_seen_is_stale(stripe: AtStripe, fault: str) -> None:
    made = await stripe.created()
    stripe.standin.fault(fault, method="GET", times=9)
    await stripe.early_in_a_window()
    told = await stripe.told(made)
    assert told["stale"] is True
    assert (await stripe.ask(made)).json()["stale"] is True
    assert stripe.reads() == 1, "nor is Stripe asked again in this window"
    unseen = (await stripe.asked("pi_unseen"))[0]
    assert (unseen.status_code, unseen.json()["code"]) == (503, "stripe_unavailable")


async def test_a_refused_key_is_told_and_ends_the_job(stripe: AtStripe) -> None:
    made = await stripe.created()
    stripe.standin.fault("status:401", method="GET", times=9)
    assert (await stripe.told(made))["stale"] is True
    unseen = (await stripe.asked("pi_unseen"))[0]
    assert (unseen.status_code, unseen.json()["code"]) == (502, "stripe_auth_failed")


async def test_without_a_key_the_mocks_payments_are_current_and_real_ones_stale(
        stripe: AtStripe, settings: Settings) -> None:
    made = await stripe.created()
    paid = await stripe.created()
    stripe.standin.pay(paid)
    await stripe.told(paid)
    async with serving(settings) as keyless:
        assert (await _status(keyless, made))["stale"] is True
        assert "stale" not in await _status(keyless, paid), "nothing more can happen to it"
        assert (await _status(keyless, "pi_unseen"))["code"] == "stripe_unavailable"
        assert (await _status(keyless, "pi_mock_nobody"))["code"] == "not_found"


async def test_a_mock_payment_is_told_by_the_mock_and_never_stale(settings: Settings, standin: Standin) -> None:
    async with at_stripe(settings, standin) as mock:
        made = await mock.created()
        response = await mock.ask(made)
        assert response.headers["paydesk-mode"] == "mock"
        told = response.json()
        assert (told["status"], told["mock_mode"], "stale" in told) == ("requires_payment_method", True, False)
        await mock.works()  # the simulated customer pays
        assert (await mock.ask(made)).json()["status"] == "succeeded"
        assert await mock.revenue() == [(made, 2550)]
        assert mock.standin.requests() == []


async def test_by_its_job_a_payment_is_told_once_it_is_made(stripe: AtStripe) -> None:
    job = job_id_of(await stripe.front.charge())
    (response,) = await stripe.asked(job)
    assert (response.status_code, response.json()["status"]) == (200, "succeeded")
    made = response.json()["payment_intent_id"]
    assert response.headers["vary"] == "Prefer"
    assert (await stripe.ask(made)).json() == response.json()


async def test_a_job_without_a_payment(stripe: AtStripe) -> None:
    client = stripe.front.client
    customer = job_id_of(await client.post("/api/stripe/create-customer", json={"email": "customer@example.com"}))
    unfinished = await stripe.ask(customer, Prefer="wait=0")
    assert unfinished.status_code == 202
    assert unfinished.headers["location"] == f"/api/jobs/{customer}"
    await stripe.works()
    assert (await stripe.ask(customer)).json()["code"] == "not_found"
    assert (await stripe.ask("job_" + "a" * 32)).status_code == 404
    declined = job_id_of(await stripe.front.charge({"amount": 50, "payment_method_id": "pm_card_chargeDeclined"}))
    await stripe.works()
    assert (await stripe.ask(declined)).json()["status"] == "requires_payment_method"


@pytest.mark.parametrize(("given", "code"), [
    (None, "missing_field"), ("", "id_format"), ("pi_", "id_format"), ("cus_1", "id_format"),
    ("pi_a/../b", "id_format"),
    ("pi_" + "a" * 65, "id_format"), ("pi_é", "id_format"), ("pi_1_secret_abc", "secret_refused")])
async def test_what_is_no_id_is_refused(real: Front, given: str | None, code: str) -> None:
    response = await real.client.get(STATUS, params={} if given is None else {"payment_intent_id": given})
    assert (response.status_code, response.json()["code"]) == (422, code)
    assert response.json()["errors"][0]["pointer"] == "/payment_intent_id"
    if given and len(given) > 4:
        assert given not in response.text


async def test_who_waits_in_vain_gets_the_job_that_asks(stripe: AtStripe) -> None:
    ticket = await stripe.ask(await stripe.created(), Prefer="wait=1")
    assert (ticket.status_code, ticket.json()["kind"], ticket.headers["retry-after"]) == (202, "status_refresh", "1")
    await stripe.works()
    result = (await stripe.front.client.get(ticket.headers["location"])).json()["result"]
    assert (result["status"], result["amount_received"]) == ("requires_payment_method", 0.0)


async def test_the_payments_job_and_the_look_share_one_wait(stripe: AtStripe) -> None:
    job_id = job_id_of(await stripe.front.charge())
    asking = asyncio.create_task(stripe.ask(job_id, Prefer="wait=1"))
    await stripe.front.until_waiting()
    assert (await asking).json()["id"] == job_id

    loop = asyncio.get_running_loop()
    asked = _Asked(job_id, preferred_seconds=5, until=loop.time() + 5)
    for_the_job = asked.seconds_left
    await asyncio.sleep(0)
    for_the_look = asked.seconds_left
    assert for_the_look < for_the_job <= 5, "the second wait has what the first left"
    assert _Asked(job_id, preferred_seconds=5, until=loop.time()).seconds_left == 0


def _look(desk: AtStripe, made: str, *, window: int) -> NewJob:
    settings = desk.front.desk.settings
    return status_refresh_job(desk.front.desk.ids, payment_intent_id=made, window=window, caller=LOCAL_CALLER,
                              settings=settings)


async def _work(desk: AtStripe, job_id: str) -> None:
    await attempt(desk.worker, await desk.front.worker.claim(job_id), has_slot=True)


async def _made_elsewhere(desk: AtStripe, metadata: dict[str, str]) -> str:
    """An intent of seven dollars that the same account has and this desk never made."""
    key = desk.front.desk.settings.stripe_secret_key
    assert key is not None
    form = {"amount": "700", "currency": "usd", **{f"metadata[{name}]": text for name, text in metadata.items()}}
    async with httpx2.AsyncClient(base_url=desk.standin.base_url) as other:
        response = await other.post("/v1/payment_intents", data=form,
                                    headers={"Authorization": f"Bearer {key.get_secret_value()}"})
    made: str = response.json()["id"]
    return made


async def _status(front: Front, given: str) -> dict[str, object]:
    found: dict[str, object] = (await front.client.get(STATUS, params={"payment_intent_id": given})).json()
    return found

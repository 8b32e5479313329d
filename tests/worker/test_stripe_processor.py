"""Every answer of Stripe, and of what is not Stripe, becomes the right outcome, and tells nobody anything private."""

import asyncio
import dataclasses
import json
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import parse_qsl

import pytest
import stripe

from shared.ids import Ids
from shared.jobs import Job, Kind
from shared.requests import CustomerRequest
from shared.results import Payment
from shared.settings import STRIPE_API_VERSION
from standin.client import Standin
from tests.worker.conftest import Line, MakeJob, Peer, charge, intent
from worker.processor import Declined, Mismatch, NotSent, Outcome, Refused, Settled, Throttled, Unknown
from worker.stripe_http import StripeHTTP
from worker.stripe_processor import AUTH_FAILED, CALL_SECONDS, StripeProcessor

pytestmark = pytest.mark.anyio

KEY = "sk_test_fake"
REQUEST_ID = "Request-Id: req_1"
INTENT: dict[str, Any] = {
    "id": "pi_1", "object": "payment_intent", "status": "succeeded", "amount": 5000, "amount_received": 5000,
    "currency": "usd", "livemode": False, "client_secret": "pi_1_secret_x", "metadata": {"paydesk_job_id": "job_a1"}}
MADE = Payment(id="pi_1", status="succeeded", amount_cents=5000, received_cents=5000, currency="usd", livemode=False,
               job_id="job_a1")
UNPAID = {**INTENT, "status": "requires_payment_method", "amount_received": 0}


class Desk:
    """A processor whose Stripe answers what the test says."""

    def __init__(self, peer: Peer, processor: StripeProcessor, job: Job) -> None:
        self.peer, self.processor, self.job = peer, processor, job
        self.answer: tuple[int, bytes, tuple[str, ...]] = (200, b"", ())

    async def play(self, line: Line) -> None:
        while True:
            await line.request()
            status, body, headers = self.answer
            await line.answer(status, body, *headers)

    async def told(self, status: int, body: object, *headers: str, job: Job | None = None) -> Outcome:
        """What the job's answer becomes; a body that is not bytes goes out as JSON."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.answer = (status, raw, headers)
        return await self.processor.send(job or self.job)

    async def refused(self, status: int, headers: tuple[str, ...] = (REQUEST_ID,), **error: Any) -> Outcome:
        return await self.told(status, {"error": {"type": "invalid_request_error", **error}}, *headers)


async def answering(peer: Peer, make_job: MakeJob) -> Desk:
    async def play(line: Line) -> None:
        await made.play(line)

    job = make_job(charge("pm_card_visa", metadata={"order": "7"}))
    made = Desk(peer, at(await peer.play(play)), job)
    return made


def at(base_url: str, **more: Any) -> StripeProcessor:
    return StripeProcessor(api_key=KEY, api_base=base_url, api_version=STRIPE_API_VERSION, **more)


@pytest.fixture
async def desk(peer: Peer, make_job: MakeJob) -> AsyncIterator[Desk]:
    made = await answering(peer, make_job)
    yield made
    await made.processor.close()


# --- what is sent ---


def parts(request: bytes) -> tuple[str, dict[str, str], dict[str, str]]:
    head, _, body = request.decode().partition("\r\n\r\n")
    line, *fields = head.split("\r\n")
    return line, {name.lower(): value for name, value in (f.split(": ", 1) for f in fields)}, dict(parse_qsl(body))


async def test_a_charge_sends_its_frozen_parameters_under_its_own_key(desk: Desk) -> None:
    await desk.told(200, INTENT)
    await desk.told(200, INTENT)
    line, headers, body = parts(desk.peer.heard[0])
    assert line == "POST /v1/payment_intents HTTP/1.1"
    assert headers["idempotency-key"] == "job_a1:charge"
    assert headers["stripe-version"] == STRIPE_API_VERSION
    assert headers["authorization"] == f"Bearer {KEY}"
    assert "x-stripe-client-telemetry" not in headers
    assert "telemetry_id" not in headers["x-stripe-client-user-agent"]
    assert body == {"amount": "5000", "currency": "usd", "confirm": "true", "payment_method": "pm_card_visa",
                    "automatic_payment_methods[enabled]": "true", "metadata[order]": "7",
                    "automatic_payment_methods[allow_redirects]": "never", "metadata[paydesk_job_id]": "job_a1",
                    "metadata[paydesk_desk]": Ids("a secret").desk(), "metadata[paydesk_kind]": "charge"}
    assert desk.peer.heard[0] == desk.peer.heard[1]


async def test_the_version_frozen_with_the_job_is_the_one_sent(desk: Desk) -> None:
    await desk.told(200, INTENT, job=dataclasses.replace(desk.job, api_version="2020-08-27"))
    assert parts(desk.peer.heard[0])[1]["stripe-version"] == "2020-08-27"


async def test_a_status_refresh_reads_and_sends_no_key(desk: Desk) -> None:
    job = dataclasses.replace(desk.job, kind=Kind.STATUS_REFRESH, request={"payment_intent_id": "pi_1"}, params={})
    assert await desk.told(200, INTENT, job=job) == Settled(MADE, "pi_1_secret_x")
    line, headers, _ = parts(desk.peer.heard[0])
    assert line == "GET /v1/payment_intents/pi_1 HTTP/1.1"
    assert "idempotency-key" not in headers


async def test_looking_takes_no_other_object(desk: Desk) -> None:
    desk.answer = (200, json.dumps(INTENT).encode(), (REQUEST_ID,))
    assert await desk.processor.look(dataclasses.replace(desk.job, stripe_id="pi_1")) == Settled(MADE, "pi_1_secret_x")
    other = await desk.processor.look(dataclasses.replace(desk.job, stripe_id="pi_2"))
    assert isinstance(other, Unknown)


@pytest.mark.parametrize("stripe_id", [None, "", "pi_", "cus_1", "pi_mock_a1", "pi_1/../../x", "pi_1?expand=a",
                                       "pi_1\n"])
async def test_what_is_no_intent_of_stripes_is_never_asked_for(desk: Desk, stripe_id: str | None) -> None:
    outcome = await desk.processor.look(dataclasses.replace(desk.job, stripe_id=stripe_id))
    assert isinstance(outcome, Refused)
    assert (outcome.code, outcome.http_status) == ("resource_missing", 404)
    assert desk.peer.connections == 0


async def test_a_mock_customer_is_never_sent(desk: Desk) -> None:
    mixed = dataclasses.replace(desk.job, params={**desk.job.params, "customer": "cus_mock_a1"})
    outcome = await desk.processor.send(mixed)
    assert isinstance(outcome, Refused)
    assert outcome.code == "mock_object"
    assert desk.peer.connections == 0


async def test_a_kind_that_the_desk_does_not_send_is_refused(desk: Desk) -> None:
    assert isinstance(await desk.processor.send(dataclasses.replace(desk.job, kind=Kind.REFUND)), Refused)
    assert desk.peer.connections == 0


# --- successes, read strictly ---


async def test_a_payment(desk: Desk) -> None:
    assert await desk.told(200, INTENT, REQUEST_ID) == Settled(MADE, "pi_1_secret_x")
    assert await desk.told(200, {**INTENT, "metadata": {}}, REQUEST_ID) == Settled(
        dataclasses.replace(MADE, job_id=None), "pi_1_secret_x")
    assert await desk.told(200, {**INTENT, "status": "a_new_one"}, REQUEST_ID) == Settled(
        dataclasses.replace(MADE, status="a_new_one"), "pi_1_secret_x")


@pytest.mark.parametrize("change", [
    {"id": 1}, {"id": "ch_1"}, {"id": None}, {"object": "charge"}, {"status": None}, {"status": "\ud800"},
    {"amount": 5000.0},
    {"amount": "5000"}, {"amount": True}, {"amount_received": None}, {"currency": 1}, {"livemode": 0},
    {"livemode": "false"}, {"metadata": ["a"]}, {"metadata": {"paydesk_job_id": 1}}, {"client_secret": {}}])
async def test_a_payment_that_lacks_a_part_is_unknown(desk: Desk, change: dict[str, object]) -> None:
    outcome = await desk.told(200, {**INTENT, **change}, REQUEST_ID)
    assert isinstance(outcome, Unknown)
    assert (outcome.request_id, outcome.answered) == ("req_1", True)


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"3", b"{", b"<html>Welcome</html>", b"\xff\xfe", b"NaN",
                                  b"[" * 100_000, b'{"amount":' + b"9" * 5000 + b"}"])
@pytest.mark.parametrize("status", [200, 201, 302, 400, 401, 402, 404, 429, 500, 502])
async def test_what_is_not_stripes_is_unknown_at_any_status(desk: Desk, status: int, body: bytes) -> None:
    outcome = await desk.told(status, body)
    assert isinstance(outcome, Unknown)
    assert not outcome.answered


async def test_a_customer_that_lacks_a_part_is_unknown(desk: Desk, make_job: MakeJob) -> None:
    customer = {"id": "cus_1", "object": "customer", "email": "a@example.com", "name": None, "livemode": False,
                "metadata": {"paydesk_job_id": "job_a1"}}
    job = make_job(CustomerRequest(email="a@example.com"))
    assert isinstance(await desk.told(200, customer, job=job), Settled)
    for change in ({"id": "pi_1"}, {"object": "payment_intent"}, {"livemode": None}, {"email": 1}):
        assert isinstance(await desk.told(200, {**customer, **change}, job=job), Unknown)
    assert isinstance(await desk.told(200, INTENT, job=job), Unknown)


# --- refusals ---


@pytest.mark.parametrize("body", [{}, {"error": None}, {"error": "Bad gateway"}, {"error": "invalid_client"},
                                  {"error": ["x"]}, {"message": "Forbidden"}, [], "no"])
@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 429, 500])
async def test_json_that_is_not_in_stripes_shape_is_unknown(desk: Desk, status: int, body: object) -> None:
    assert isinstance(await desk.told(status, body), Unknown)
    assert isinstance(await desk.told(status, body, REQUEST_ID), Unknown)


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 429, 500])
async def test_stripes_shape_without_a_request_id_is_an_intermediary(desk: Desk, status: int) -> None:
    outcome = await desk.refused(status, headers=(), message="No.")
    assert isinstance(outcome, Unknown)
    assert not outcome.answered


async def test_400_and_404_are_stripes_own_code(desk: Desk) -> None:
    assert await desk.refused(400, code="amount_too_small", message="Too small.") == Refused(
        "amount_too_small", "Too small.", 400, "req_1")
    assert await desk.refused(404, code="resource_missing", message="No such customer") == Refused(
        "resource_missing", "No such customer", 404, "req_1")
    assert await desk.refused(400) == Refused("stripe_refused", "Stripe refused the request.", 400, "req_1")
    assert await desk.refused(400, code="<b>", message=["x"]) == Refused(
        "stripe_refused", "Stripe refused the request.", 400, "req_1")


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_key_is_said_without_the_key(desk: Desk, status: int) -> None:
    outcome = await desk.refused(status, message=f"Invalid API Key provided: {KEY}", code="api_key_expired")
    assert isinstance(outcome, Refused)
    assert outcome.about_the_key
    assert (outcome.code, outcome.message) == (AUTH_FAILED, "Stripe refused the desk's API key.")


@pytest.mark.parametrize(("said", "passed_on"), [
    ("Invalid API Key provided: sk_test_****fake", "Invalid API Key provided: [removed]"),
    ("Invalid email address: jo.doe+x@example.com", "Invalid email address: [removed]"),
    ("Bad secret pi_3ab_secret_x9Y here", "Bad secret [removed] here"),
    ("Not this number: 4242 4242 4242 4242.", "Not this number: [removed]."),
    ("Call +1 (555) 010-9999 now", "Call [removed] now"),
    ("Amount must be no more than $999,999.99", "Amount must be no more than $999,999.99"),
    ("half a character \ud800", "half a character ?"), ("x" * 5000, "x" * 300)])
async def test_a_message_is_scrubbed(desk: Desk, said: str, passed_on: str) -> None:
    for status in (400, 402):
        outcome = await desk.refused(status, message=said, code="a_code")
        assert isinstance(outcome, Refused | Declined)
        assert outcome.message == passed_on


async def test_the_key_with_other_parameters_is_a_mismatch(desk: Desk) -> None:
    assert await desk.refused(400, type="idempotency_error", message="Keys …") == Mismatch("req_1")


async def test_limiters_and_locks_throttle(desk: Desk) -> None:
    assert await desk.refused(429, code="rate_limit") == Throttled("req_1")
    assert await desk.refused(429) == Throttled("req_1")
    assert await desk.refused(400, code="rate_limit") == Throttled("req_1")
    assert await desk.refused(429, headers=(), code="lock_timeout") == Throttled(None)
    assert await desk.refused(400, headers=(), code="lock_timeout") == Throttled(None)


@pytest.mark.parametrize("status", [300, 302, 307, 405, 409, 410, 413, 422, 424, 500, 502, 503, 504])
async def test_every_other_answer_of_stripe_is_unknown_and_says_that_stripe_is_there(desk: Desk, status: int) -> None:
    outcome = await desk.refused(status, message="x", code="idempotency_key_in_use")
    assert isinstance(outcome, Unknown)
    assert outcome == Unknown(f"status_{status}", "req_1", answered=True)


async def test_a_request_id_that_is_none_is_not_passed_on(desk: Desk) -> None:
    assert isinstance(await desk.refused(400, headers=("Request-Id: <script>",)), Unknown)


# --- declines ---


async def declined(desk: Desk, **error: Any) -> Outcome:
    card: dict[str, Any] = {"type": "card_error", "code": "card_declined", "message": "Your card was declined."}
    return await desk.refused(402, **{**card, **error})


async def test_a_decline_with_its_payment(desk: Desk) -> None:
    outcome = await declined(desk, decline_code="lost_card", payment_intent=UNPAID)
    unpaid = dataclasses.replace(MADE, status="requires_payment_method", received_cents=0)
    assert outcome == Declined("card_declined", "Your card was declined.", "lost_card", "req_1", unpaid)
    assert "secret" not in repr(outcome)


async def test_a_decline_may_lack_everything_but_its_status(desk: Desk) -> None:
    assert await declined(desk, code=None, message=None) == Declined(
        "card_declined", "Stripe refused the request.", None, "req_1", None)


async def test_a_decline_of_what_has_money_or_cannot_be_read_is_unknown(desk: Desk) -> None:
    assert isinstance(await declined(desk, payment_intent=INTENT), Unknown)
    broken_ones: tuple[object, ...] = ({**UNPAID, "amount": None}, "pi_1", [])
    for broken in broken_ones:
        assert isinstance(await declined(desk, payment_intent=broken), Unknown)


# --- no answer ---


async def test_only_proof_makes_it_not_sent(desk: Desk, peer: Peer) -> None:
    away = at("https://stripe.invalid")
    assert isinstance(await away.send(desk.job), NotSent)
    assert isinstance(await away.look(dataclasses.replace(desk.job, stripe_id="pi_1")), NotSent)
    await away.close()

    async def dropping(line: Line) -> None:
        await line.request()
        line.reset()

    dropped = at(await peer.play(dropping))
    assert isinstance(await dropped.send(desk.job), Unknown)
    await dropped.close()


async def test_a_call_ends_at_its_deadline_whatever_the_client_does(desk: Desk, peer: Peer) -> None:
    async def silent(line: Line) -> None:
        await line.request()
        await line.silence()

    slow = at(await peer.play(silent), call_seconds=0.2)
    assert await slow.send(desk.job) == Unknown("timeout")
    await slow.close()
    impatient = at(peer.base_url, http=StripeHTTP(total_seconds=0.2))
    assert await impatient.send(desk.job) == Unknown("timeout")
    await impatient.close()
    assert CALL_SECONDS < 35


async def test_cancelling_ends_a_call(desk: Desk, peer: Peer) -> None:
    arrived = asyncio.Event()

    async def silent(line: Line) -> None:
        await line.request()
        arrived.set()
        await line.silence()

    processor = at(await peer.play(silent))
    call = asyncio.create_task(processor.send(desk.job))
    await arrived.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await processor.close()


async def test_nothing_private_is_logged_or_shown(
        peer: Peer, make_job: MakeJob, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(stripe._util, "STRIPE_LOG", "debug")  # as if the environment had asked for it
    desk = await answering(peer, make_job)
    job = make_job(intent("1", email="private@example.com"))
    said = {"type": "x", "message": f"{KEY} private@example.com", "payment_intent": UNPAID}
    outcomes = [await desk.told(status, {"error": said}, REQUEST_ID, job=job) for status in (400, 401, 402, 429, 500)]
    outcomes += [await desk.told(200, {**INTENT, "amount": "private@example.com"}, REQUEST_ID, job=job),
                 await desk.told(200, b"<html>private@example.com", job=job)]
    written = capfd.readouterr()
    for private in (KEY, "private@example.com", "secret_x"):
        assert private not in repr(outcomes) + repr(desk.processor) + caplog.text + written.out + written.err
    assert not stripe.enable_telemetry
    await desk.processor.close()


# --- against the stand-in: what came back, and what really happened ---


@pytest.fixture(scope="module")
def standin() -> Iterator[Standin]:
    with Standin.start() as running:
        yield running


@pytest.mark.parametrize(("fault", "outcome", "charged"), [
    ("close_after_effect", Unknown, 1), ("cut_answer", Unknown, 1), ("garbage", Unknown, 1), ("html", Unknown, 0),
    ("lock_timeout", Throttled, 0), ("oversize", Unknown, 1), ("redirect", Unknown, 0),
    ("reset_before_read", Unknown, 0), ("status:401", Refused, 0), ("status:409", Unknown, 0),
    ("status:429", Throttled, 0), ("status:500_after", Unknown, 1), ("status:500_before", Unknown, 0),
    ("status:503", Unknown, 0)])
async def test_whatever_strikes_the_first_attempt_there_is_one_charge_in_the_end(
        standin: Standin, make_job: MakeJob, fault: str, outcome: type[Outcome], charged: int) -> None:
    standin.reset()
    standin.fault(fault)
    processor = at(standin.base_url)
    job = make_job(charge("pm_card_visa"))
    assert isinstance(await processor.send(job), outcome)
    assert len(standin.effects("charge")) == charged
    again = await processor.send(job)
    assert isinstance(again, Unknown if fault.startswith("status:500") else Settled)  # a 500 is replayed for its key
    assert len(standin.effects("charge")) == (0 if fault == "status:500_before" else 1)
    await processor.close()


async def test_other_parameters_under_the_same_key_are_a_mismatch(standin: Standin, make_job: MakeJob) -> None:
    standin.reset()
    processor = at(standin.base_url)
    assert isinstance(await processor.send(make_job(intent("1"))), Settled)
    assert isinstance(await processor.send(make_job(intent("2"))), Mismatch)
    await processor.close()


async def test_the_customer_who_pays_is_seen(standin: Standin, make_job: MakeJob) -> None:
    standin.reset()
    processor = at(standin.base_url)
    request = intent("1")
    made = await processor.send(make_job(request))
    assert isinstance(made, Settled)
    standin.pay(made.made.id)
    looked = await processor.look(make_job(request, stripe_id=made.made.id))
    assert isinstance(looked, Settled)
    assert isinstance(looked.made, Payment)
    assert (looked.made.status, looked.made.received_cents, looked.made.job_id) == ("succeeded", 100, "job_a1")
    await processor.close()

"""Submitting: what is answered with and without waiting, once per Idempotency-Key, and where hints go."""

import asyncio
import json

import pytest
import redis

from cli.servers import EmbeddedServer
from shared.jobs import Status
from shared.settings import Settings
from tests.api.front import CHARGE, CHARGES, CUSTOMERS, INTENT, PAYMENTS, Front, job_id_of, raced, serving

pytestmark = pytest.mark.anyio

JOB_KEYS = ["object", "id", "kind", "status", "final", "certainty", "mock_mode", "book", "attempts", "amount",
            "currency", "reference", "batch_id", "result", "error", "next_attempt_at", "retry_of", "settles",
            "settlement", "contradicted_by", "created_at", "updated_at", "finished_at", "links"]
CUSTOMER = {"email": "customer@example.com", "name": "John Doe", "phone": "+1234567890", "metadata": {"source": "api"}}
PAYMENT = {"amount": 25.50, "email": "customer@example.com", "description": "Premium", "metadata": {"plan": "premium"}}


@pytest.mark.parametrize(("path", "body", "kind", "amount"), [
    (CHARGES, CHARGE, "charge", 50.0), (PAYMENTS, PAYMENT, "payment_intent", 25.5),
    (CUSTOMERS, CUSTOMER, "customer", None)])
async def test_a_submission_is_a_job(front: Front, path: str, body: object, kind: str, amount: float | None) -> None:
    response = await front.client.post(path, json=body)
    assert response.status_code == 202
    job = response.json()
    assert list(job) == JOB_KEYS
    assert (job["kind"], job["status"], job["amount"], job["final"]) == (kind, "queued", amount, False)
    assert response.headers["location"] == job["links"]["self"] == f"/api/jobs/{job['id']}"
    assert response.headers["retry-after"] == "1"
    assert "preference-applied" not in response.headers
    assert (await front.client.get(job["links"]["self"])).json() == job


@pytest.mark.parametrize(("path", "body", "expected"), [
    (CHARGES, CHARGE, {"amount": 50.0, "currency": "usd", "status": "succeeded"}),
    (PAYMENTS, PAYMENT, {"amount": 25.5, "currency": "usd", "status": "requires_payment_method"}),
    (CUSTOMERS, CUSTOMER, {"email": "customer@example.com", "name": "John Doe"})])
async def test_who_waits_gets_the_result(front: Front, path: str, body: object, expected: dict[str, object]) -> None:
    key = {"Idempotency-Key": "k1"}
    job_id = (await front.client.post(path, json=body, headers=key)).json()["id"]
    await front.worker.succeed(job_id)
    response = await front.client.post(path, json=body, headers=key | {"Prefer": "wait=5"})
    assert response.status_code == 200
    result = response.json()
    assert result.items() >= {"success": True, "mock_mode": True, "fallback_reason": "no_api_key", **expected}.items()
    assert ("client_secret" in result) == (path == PAYMENTS)
    assert response.headers["paydesk-mode"] == "mock"
    assert response.headers["preference-applied"] == "wait=5"
    assert "Prefer" in response.headers["vary"]
    assert job_id_of(response) == job_id


async def test_the_result_comes_while_one_waits(front: Front) -> None:
    waiting = asyncio.create_task(front.charge(Prefer="wait=20", **{"Idempotency-Key": "k"}))
    await raced(waiting, front)
    job_id = (await front.charge(**{"Idempotency-Key": "k"})).json()["id"]
    await front.worker.succeed(job_id)
    async with asyncio.timeout(15):  # less than it would wait if nobody woke it
        assert (await waiting).json()["status"] == "succeeded"


async def test_a_pending_charge_is_a_result(front: Front) -> None:
    job_id = (await front.charge(**{"Idempotency-Key": "k"})).json()["id"]
    await front.worker.succeed(job_id, status="requires_action", rests=Status.PENDING)
    response = await front.charge(Prefer="wait=5", **{"Idempotency-Key": "k"})
    assert response.status_code == 200
    assert response.json()["status"] == "requires_action"
    assert response.json()["client_secret"]


@pytest.mark.parametrize(("code", "decline_code", "status"), [
    ("card_declined", "insufficient_funds", 402), ("expired_card", None, 402), ("a_code_of_tomorrow", "generic", 402),
    ("resource_missing", None, 404), ("stripe_auth_failed", None, 502), ("never_reached_stripe", None, 409),
    ("parameter_invalid_empty", None, 422), ("email_invalid", None, 422)])
async def test_a_failure_is_a_problem(front: Front, code: str, decline_code: str | None, status: int) -> None:
    job_id = (await front.charge(**{"Idempotency-Key": "k"})).json()["id"]
    await front.worker.fail(job_id, code, decline_code, stripe_id="pi_1")
    response = await front.charge(Prefer="wait=5", **{"Idempotency-Key": "k"})
    assert response.status_code == status
    problem = response.json()
    assert problem.items() >= {"code": code, "job_id": job_id, "decline_code": decline_code,
                               "payment_intent_id": "pi_1", "detail": "The sentence about it."}.items()
    assert job_id_of(response) == job_id
    assert response.headers["preference-applied"] == "wait=5"
    assert (await front.charge(**{"Idempotency-Key": "k"})).status_code == 202  # not asked to wait: the job


async def test_canceled_is_a_conflict_and_parked_is_a_ticket(front: Front) -> None:
    canceled = (await front.charge(**{"Idempotency-Key": "canceled"})).json()["id"]
    parked = (await front.charge(**{"Idempotency-Key": "parked"})).json()["id"]
    await front.worker.cancel(canceled)
    await front.worker.park(parked)
    response = await front.charge(Prefer="wait=5", **{"Idempotency-Key": "canceled"})
    assert (response.status_code, response.json()["code"]) == (409, "canceled")
    response = await front.charge(Prefer="wait=5", **{"Idempotency-Key": "parked"})
    assert (response.status_code, response.json()["status"]) == (202, "parked")


async def test_a_wait_without_an_end_is_a_ticket(front: Front) -> None:
    response = await front.charge(Prefer="wait=0")
    assert (response.status_code, response.json()["status"]) == (202, "queued")
    assert response.headers["preference-applied"] == "wait=0"


async def test_the_get_waits_by_itself(front: Front) -> None:
    query = {"amount": "10.00", "email": "customer@example.com", "description": "Payment"}
    waiting = asyncio.create_task(front.client.get(INTENT, params=query, headers={"Idempotency-Key": "k"}))
    await raced(waiting, front)
    response = await front.client.get(INTENT, params=query, headers={"Idempotency-Key": "k", "Prefer": "wait=0"})
    assert response.status_code == 202
    await front.worker.succeed(response.json()["id"])
    result = await waiting
    assert result.status_code == 200
    assert result.json()["client_secret"].startswith(result.json()["payment_intent_id"])
    assert "preference-applied" not in result.headers


@pytest.mark.parametrize("header", ["Sec-Purpose", "Purpose"])
async def test_a_prefetch_makes_nothing(front: Front, header: str) -> None:
    response = await front.client.get(INTENT, params={"amount": "10.00"}, headers={header: "prefetch;prerender"})
    assert (response.status_code, response.json()["code"]) == (400, "prefetch_refused")
    assert (await front.client.head(INTENT, params={"amount": "10.00"})).status_code == 405
    assert (await front.client.get("/api/jobs")).json()["data"] == []


async def test_a_hundred_at_once_are_one_job(front: Front) -> None:
    responses = await asyncio.gather(*(front.charge(**{"Idempotency-Key": "k"}) for _ in range(100)))
    assert {response.status_code for response in responses} == {202}
    assert len({response.json()["id"] for response in responses}) == 1
    assert sum("idempotent-replayed" not in response.headers for response in responses) == 1
    assert len((await front.client.get("/api/jobs")).json()["data"]) == 1


async def test_a_key_means_one_request(front: Front) -> None:
    first = await front.charge({"amount": "50", "payment_method_id": "pm_card_visa"}, **{"Idempotency-Key": "k"})
    again = await front.charge({"payment_method_id": "pm_card_visa", "amount": 50.00, "currency": "usd"},
                               **{"Idempotency-Key": '"k"'})
    assert again.json() == first.json()
    assert again.headers["idempotent-replayed"] == "true"
    other = await front.charge({**CHARGE, "amount": 51}, **{"Idempotency-Key": "k"})
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    elsewhere = await front.client.post(PAYMENTS, json={"amount": 50}, headers={"Idempotency-Key": "k"})
    assert elsewhere.status_code == 202
    assert elsewhere.json()["id"] != first.json()["id"]


async def test_without_a_key_each_is_its_own(front: Front) -> None:
    assert (await front.charge()).json()["id"] != (await front.charge()).json()["id"]


@pytest.mark.parametrize("field", [{"payment_method_id": "pm_mock_1"}, {"customer_id": "cus_mock_1"}])
async def test_a_mock_object_is_never_sent_to_stripe(real: Front, field: dict[str, str]) -> None:
    response = await real.charge(CHARGE | field)
    assert (response.status_code, response.json()["code"]) == (409, "mock_object")
    assert response.json()["errors"][0]["pointer"] == f"/{next(iter(field))}"
    assert (await real.client.get("/api/jobs")).json()["data"] == []


async def test_the_mock_takes_its_own_objects(front: Front) -> None:
    assert (await front.charge(CHARGE | {"customer_id": "cus_mock_1"})).status_code == 202


async def test_one_hint_for_one_job(settings: Settings, broker: EmbeddedServer) -> None:
    async with serving(settings) as front:
        first = await front.charge(**{"Idempotency-Key": "k"})
        await front.charge(**{"Idempotency-Key": "k"})
    with redis.Redis.from_url(broker.url) as client:
        (hint,) = client.lrange("q:interactive", 0, -1)
    assert json.loads(hint)["headers"]["task"] == "paydesk.charge"
    assert first.json()["id"] in json.loads(hint)["headers"]["argsrepr"]


async def test_a_backlog_is_left_to_the_feeder(settings: Settings, broker: EmbeddedServer) -> None:
    with redis.Redis.from_url(broker.url) as client:
        client.lpush("q:interactive", *["{}"] * 200)
        async with serving(settings) as front:
            while front.desk.hints.has_room:
                await asyncio.sleep(0)
            job = (await front.charge()).json()
            score = await front.desk.calls.call("ZSCORE", "{pd}:due:interactive", job["id"])
            created = await front.desk.calls.call("ZSCORE", "{pd}:jobs", job["id"])
        assert float(score) == float(created)
        assert client.llen("q:interactive") == 200

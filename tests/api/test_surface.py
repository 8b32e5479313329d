"""What holds for every address: CORS, HEAD, methods, request ids, health, and an answer to what nobody foresaw."""

import asyncio

import pytest

from shared import failpoints
from shared.circuit import Circuit
from shared.settings import Settings
from tests.api.front import CHARGES, INTENT, STATS, Front, serving

pytestmark = pytest.mark.anyio

PREFLIGHT = {"Origin": "https://shop.example", "Access-Control-Request-Method": "POST",
             "Access-Control-Request-Headers": "content-type, idempotency-key, prefer, authorization, x-api-key, "
                                               "x-request-id"}


async def test_a_preflight(front: Front) -> None:
    response = await front.preflight(CHARGES, PREFLIGHT)
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in response.headers
    assert "POST" in response.headers["access-control-allow-methods"]
    assert response.headers["access-control-allow-headers"] == \
        "Authorization, X-API-Key, Content-Type, Idempotency-Key, Prefer, X-Request-ID"


async def test_an_answer_to_another_origin(front: Front) -> None:
    for response in (await front.charge(Origin="https://shop.example"), await front.charge({}, Origin="null")):
        assert response.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in response.headers
        assert response.headers["access-control-expose-headers"] == \
            "Location, Retry-After, X-Request-ID, Preference-Applied, Idempotent-Replayed, Paydesk-Mode"


@pytest.mark.parametrize(("origin", "allowed"), [
    ("https://ok.example", True), ("https://ok.example.evil", False), ("null", False), ("http://ok.example", False)])
async def test_named_origins(settings: Settings, origin: str, allowed: bool) -> None:
    async with serving(settings.model_copy(update={"cors_origins": ["https://ok.example"]})) as front:
        preflight = await front.preflight(CHARGES, PREFLIGHT | {"Origin": origin})
        assert preflight.status_code == 200
        for response in (preflight, await front.charge(Origin=origin)):
            assert response.headers.get("access-control-allow-origin") == (origin if allowed else None)
            assert "Origin" in response.headers["vary"]


async def test_an_error_nobody_foresaw_is_told_to_other_origins_too(settings: Settings) -> None:
    try:
        async with serving(settings.model_copy(update={"failpoints": "accept.before=raise"})) as front:
            response = await front.charge(Origin="https://shop.example")
            assert (response.status_code, response.json()["code"]) == (503, "internal")
            assert response.headers["access-control-allow-origin"] == "*"
            assert (await front.charge()).status_code == 202
    finally:
        failpoints.arm("")


@pytest.mark.parametrize("point", ["accept.before", "accept.after", "hint.before", "hint.after", "answer.before"])
async def test_the_failpoints_of_a_submission(settings: Settings, point: str) -> None:
    try:
        async with serving(settings.model_copy(update={"failpoints": f"{point}=raise"})) as front:
            assert (await front.charge(**{"Idempotency-Key": "k"})).json()["code"] == "internal"
            again = await front.charge(**{"Idempotency-Key": "k"})
            assert again.headers.get("idempotent-replayed") == (None if point == "accept.before" else "true")
            assert len((await front.client.get("/api/jobs")).json()["data"]) == 1
    finally:
        failpoints.arm("")


@pytest.mark.parametrize("path", ["/livez", "/api/jobs", STATS, "/openapi.json"])
async def test_head_is_get(front: Front, path: str) -> None:
    head, got = await front.client.head(path), await front.client.get(path)
    assert (head.status_code, head.headers["content-type"]) == (got.status_code, got.headers["content-type"])
    assert head.headers["content-length"] == got.headers["content-length"]


async def test_head_of_a_job(front: Front) -> None:
    path = (await front.charge()).headers["location"]
    assert (await front.client.head(path)).status_code == 200
    assert (await front.client.head("/api/jobs/job_1")).status_code == 404


@pytest.mark.parametrize(("method", "path", "allow"), [
    ("HEAD", INTENT, "GET"), ("POST", INTENT, "GET"), ("GET", CHARGES, "POST"), ("HEAD", CHARGES, "POST"),
    ("PUT", "/api/jobs", "GET, HEAD"), ("DELETE", "/livez", "GET, HEAD"), ("OPTIONS", CHARGES, "POST")])
async def test_other_methods(front: Front, method: str, path: str, allow: str) -> None:
    response = await front.client.request(method, path)
    assert (response.status_code, response.headers["allow"]) == (405, allow)


@pytest.mark.parametrize("path", [
    CHARGES + "/", "/api/jobs/", STATS + "/", "/livez/", "/", "/docs", "/redoc", "/api", "//livez"])
async def test_nothing_there(front: Front, path: str) -> None:
    for method in ("GET", "POST"):
        response = await front.client.request(method, f"http://desk{path}")
        assert (response.status_code, response.json()["code"]) == (404, "not_found")
        assert "location" not in response.headers


async def test_request_ids(front: Front) -> None:
    assert (await front.client.get("/livez", headers={"X-Request-ID": "abc-1~!"})).headers["x-request-id"] == "abc-1~!"
    made = {(await front.client.get("/livez", headers=[(b"x-request-id", given)])).headers["x-request-id"]
            for given in (b"", b"a b", b"x" * 129, b"\xe9", b"a\tb")}
    assert len(made) == 5
    assert all(name.startswith("req_") for name in made)


async def test_an_empty_body_is_no_reason_to_hang(front: Front) -> None:
    async with asyncio.timeout(20):
        assert (await front.client.post(CHARGES, headers={"Content-Type": "application/json"})).status_code == 400


async def test_ready_once_a_worker_beats(front: Front) -> None:
    response = await front.client.get("/readyz")
    assert (response.status_code, response.json()["code"]) == (503, "not_ready")
    assert "checks" not in response.json()
    await Circuit(front.worker.store._calls).beat("w1", threads=4)
    assert (await front.client.get("/readyz")).json() == {"status": "ready"}
    response = await front.client.get("/readyz?verbose")
    assert response.json() == {"status": "ready", "checks": {
        "store": "ok", "durability": "always", "eviction": "noeviction", "broker": "ok", "workers": 1,
        "stripe": "no key", "mode": "none"}}


async def test_ready_while_stripe_is_away(real: Front) -> None:
    circuit = Circuit(real.worker.store._calls)
    await circuit.beat("w1", threads=4)
    assert (await real.client.get("/readyz?verbose")).json()["checks"]["stripe"] == "reachable"
    await circuit.failed("w1")
    response = await real.client.get("/readyz?verbose")
    assert (response.status_code, response.json()["checks"]["stripe"]) == (200, "unreachable")

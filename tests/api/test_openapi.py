"""/openapi.json: a whole document whose examples work as they stand."""

import json
import re
from typing import Any

import pytest

from tests.api.front import Front

pytestmark = pytest.mark.anyio

METHODS = {"get", "post"}


async def _document(front: Front) -> dict[str, Any]:
    response = await front.client.get("/openapi.json")
    assert response.headers["content-type"] == "application/json"
    found: dict[str, Any] = response.json()
    return found


async def test_the_operations(front: Front) -> None:
    document = await _document(front)
    assert document["openapi"].startswith("3.1")
    operations = {(method, path): operation for path, methods in document["paths"].items()
                  for method, operation in methods.items()}
    assert {method for method, _ in operations} == METHODS
    names = [operation["operationId"] for operation in operations.values()]
    assert sorted(names) == sorted({"process_charge", "create_payment", "create_customer", "payment_intent", "get_job",
                                    "list_jobs", "ask_again", "get_stats", "payment_status", "livez", "readyz"})
    for operation in operations.values():
        assert operation["summary"]
        assert operation["description"]
        assert "default" not in operation["responses"]
        for status, declared in operation["responses"].items():
            media_type = "application/json" if int(status) < 400 else "application/problem+json"
            assert list(declared["content"]) == [media_type]
            assert declared["content"][media_type]["schema"]
            assert declared["description"]
    for (method, path), operation in operations.items():
        named = set(re.findall(r"\{(\w+)\}", path))
        assert named == {item["name"] for item in operation.get("parameters", []) if item["in"] == "path"}
        assert ("requestBody" in operation) == (method == "post" and not path.endswith("/ask-again"))


async def test_every_reference_leads_somewhere(front: Front) -> None:
    document = await _document(front)
    named = set(re.findall(r'"\$ref": "#/components/schemas/(\w+)"', json.dumps(document)))
    schemas = document["components"]["schemas"]
    assert named == set(schemas)
    assert "amount" in schemas["ChargeRequest"]["properties"]
    assert "amount_cents" not in json.dumps(schemas)


async def test_the_examples_of_bodies_are_accepted(front: Front) -> None:
    document = await _document(front)
    tried = 0
    for path, methods in document["paths"].items():
        for example in methods.get("post", {}).get("requestBody", {}).get("content", {}).get(
                "application/json", {}).get("examples", {}).values():
            assert (await front.client.post(path, json=example["value"])).status_code == 202
            tried += 1
    assert tried >= 5


async def test_the_examples_of_parameters_are_accepted(front: Front) -> None:
    document = await _document(front)
    job_id = (await front.charge()).json()["id"]
    for path, methods in document["paths"].items():
        if "get" not in methods:
            continue
        parameters = methods["get"].get("parameters", [])
        query = {item["name"]: item["schema"]["examples"][0] for item in parameters
                 if item["in"] == "query" and "examples" in item["schema"]}
        if path == "/api/stripe/payment-status":  # what it asks for is nobody's until it is made
            query["payment_intent_id"] = job_id
        response = await front.client.get(path.format(job_id=job_id), headers={"Prefer": "wait=0"},
                                          params=query | ({"wait": 0} if "wait" in query else {}))
        assert response.status_code in (200, 202) or path == "/readyz"

"""Flower beside a working desk: every job's task by its kind, one line of what became of it, and nobody's data."""

from pathlib import Path
from typing import Any

import httpx2
import pytest

from cli import processes
from cli.servers import LOOPBACK, free_port
from shared.broker import task_name
from shared.jobs import Kind, Status
from tests.e2e.http_desk import CHARGES, CUSTOMERS, PAYMENT_STATUS, PAYMENTS, http_desk, job_of
from tests.faults.desk_processes import KEY, ROOT_FOLDER

pytestmark = pytest.mark.anyio

USER, PASSWORD = "paydesk", "a password of the tests"
PERSONAL = ("customer@example.com", "John", "Doe", "+12345678901", "Service Payment", "pm_card", "_secret_", "premium",
            KEY, PASSWORD)
BODY = {"amount": 25.50, "email": "customer@example.com", "description": "Service Payment",
        "metadata": {"plan": "premium"}}


async def test_flower_shows_each_jobs_task_and_nothing_personal(tmp_path: Path) -> None:
    port = free_port()
    async with http_desk(tmp_path) as (desk, client):
        desk.start(processes.FLOWER, "flower", FLOWER_ADDRESS=LOOPBACK, FLOWER_PORT=str(port), FLOWER_USER=USER,
                   FLOWER_PASSWORD=PASSWORD, FLOWER_CONF=str(ROOT_FOLDER / "flowerconfig.py"))
        async with httpx2.AsyncClient(base_url=f"http://{LOOPBACK}:{port}", auth=(USER, PASSWORD),
                                      timeout=20) as flower:
            async def hears() -> bool:
                try:
                    return bool((await flower.get("/api/workers?refresh=1")).json())
                except httpx2.TransportError:
                    return False

            await desk.until(hears, 30, "Flower hearing the worker")
            jobs = {}
            for kind, path, body, end in (
                    (Kind.CHARGE, CHARGES, BODY | {"payment_method_id": "pm_card_visa"}, Status.SUCCEEDED),
                    (Kind.CHARGE, CHARGES, BODY | {"payment_method_id": "pm_card_chargeDeclined"}, Status.FAILED),
                    (Kind.PAYMENT_INTENT, PAYMENTS, BODY, Status.SUCCEEDED),
                    (Kind.CUSTOMER, CUSTOMERS, {"email": "customer@example.com", "name": "John Doe",
                                                "phone": "+12345678901"}, Status.SUCCEEDED)):
                job_id = job_of(await client.post(path, json=body))
                jobs[job_id] = kind, end
                await desk.came_to(client, job_id, end)
            looked = await client.get(PAYMENT_STATUS, params={"payment_intent_id": "pi_nobody"})
            assert looked.status_code == 404
            looking = looked.json()["job_id"]
            jobs[looking] = Kind.STATUS_REFRESH, Status.FAILED

            async def tasks() -> dict[str, dict[str, Any]]:
                """The tasks that have ended, by the one job that each names."""
                shown = (await flower.get("/api/tasks", params={"limit": 100})).json().values()
                ended = {job_id: task for task in shown for job_id in jobs
                         if job_id in task["args"] and task["state"] == "SUCCESS"}
                return ended if len(ended) == len(jobs) else {}

            seen = await desk.until(tasks, 20, "every job's task in Flower")
            for job_id, (kind, end) in jobs.items():
                assert seen[job_id]["name"] == task_name(kind)
                assert seen[job_id]["args"] == f"[['{job_id}']]"
                assert seen[job_id]["result"].strip("'").startswith(f"{job_id} {end}")
            addresses = ["/api/tasks", "/api/workers", "/workers", "/tasks",
                         *(f"/task/{task['uuid']}" for task in seen.values())]
            pages = [await flower.get(address) for address in addresses]
            assert {page.status_code for page in pages} == {200}
            everything = "".join(page.text for page in pages) + (tmp_path / "flower.log").read_text()
            assert not [text for text in PERSONAL if text in everything]
            stranger = await flower.get("/api/tasks", auth=(USER, "another"))
            assert stranger.status_code == 401

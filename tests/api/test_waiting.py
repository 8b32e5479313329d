"""Waiting: what Prefer means, and that no end of a job is missed."""

import asyncio
import dataclasses
import random
import time
from typing import Any

import pytest

from api import waiting
from api.waiting import preferred_wait
from cli.servers import EmbeddedServer
from shared.jobs import NewJob
from shared.store import CHANGED_CHANNEL, Accepted, JobStore
from tests.api.front import CHARGE, Front, raced

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(("headers", "seconds"), [
    ([], None), (["wait=5"], 5), (["wait=0"], 0), (["wait=30"], 30), (["wait=31"], 30), (["wait=" + "9" * 5000], 30),
    (["WAIT=5"], 5), (["respond-async, wait=5"], 5), (["respond-async", "wait=5"], 5), (["wait=5, wait=9"], 5),
    (['wait="5"'], 5), (["wait = 5"], 5), (["wait=5; foo=bar"], 5), (['foo="a, wait=9", wait=5'], 5), ([" wait=5 "], 5),
    (["wait"], None), (["wait="], None), (["wait=x"], None), (["wait=-1"], None), (["wait=1.5"], None),
    (["wait=5s"], None), (["wait=x, wait=5"], None), (["waiting=5"], None), (['"wait=5"'], None),
    (["wait=\u0663"], None),
    ([",,,"], None), (["wait=5=6"], None), (['wait="5'], None), (["handling=lenient;wait=5"], None)])
def test_preferences(headers: list[str], seconds: int | None) -> None:
    assert preferred_wait(headers) == seconds


def test_a_hostile_preference_costs_little() -> None:
    began = time.process_time()
    for hostile in ('"' * 20_000, 'a="\\' * 5_000, "wait= " * 5_000 + ";", "," * 20_000, "wait=" + " " * 20_000 + "x"):
        preferred_wait([hostile])
    assert time.process_time() - began < 10  # what backtracks takes minutes


async def test_a_malformed_preference_is_ignored(front: Front) -> None:
    response = await front.charge(Prefer="wait=soon")
    assert response.status_code == 202
    assert "preference-applied" not in response.headers


async def test_a_server_that_stops_answers_who_waits(front: Front) -> None:
    task = asyncio.create_task(front.charge(Prefer="wait=30"))
    await raced(task, front)
    task.cancel()
    assert (await task).status_code == 202


async def test_all_who_wait_for_one_job_are_woken(front: Front) -> None:
    key = {"Idempotency-Key": "k"}
    tasks = [asyncio.create_task(front.charge(Prefer="wait=20", **key)) for _ in range(20)]
    await front.until_waiting(20)
    await front.worker.succeed((await front.charge(**key)).json()["id"])
    async with asyncio.timeout(15):
        responses = await asyncio.gather(*tasks)
    assert {response.status_code for response in responses} == {200}
    assert (front.desk.waiters._count, front.desk.waiters._events) == (0, {})


async def test_a_restart_of_the_store_loses_no_wake_up(front: Front, store: EmbeddedServer) -> None:
    path = (await front.charge()).headers["location"]
    task = asyncio.create_task(front.client.get(path, params={"wait": "30"}))
    await raced(task, front)
    await asyncio.to_thread(store.kill)
    await asyncio.to_thread(store.start)
    await front.worker.succeed(path.rpartition("/")[2])
    async with asyncio.timeout(20):
        assert (await task).json()["status"] == "succeeded"


async def test_a_subscription_that_was_killed_is_made_anew(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "_SILENCE_SECONDS", 0.05)  # a length of time, not a path of code
    await front.desk.waiters.listening()
    await front.desk.calls.call("CLIENT KILL", "TYPE", "pubsub")
    while front.desk.waiters._listening.is_set():
        await asyncio.sleep(0)
    async with asyncio.timeout(20):
        await front.desk.waiters.listening()
    path = (await front.charge()).headers["location"]
    task = asyncio.create_task(front.client.get(path, params={"wait": "30"}))
    await raced(task, front)
    await front.worker.succeed(path.rpartition("/")[2])
    async with asyncio.timeout(15):
        assert (await task).json()["final"]


async def test_too_many_waiters_are_answered_at_once(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "MOST_WAITERS", 0)
    async with asyncio.timeout(20):
        assert (await front.charge(Prefer="wait=30")).status_code == 202


async def test_every_order_of_accept_end_and_wait(front: Front) -> None:
    """Jobs that end at a random moment around their submission: each client gets its result."""
    await front.desk.waiters.listening()
    chance = random.Random(7)  # noqa: S311  # it shuffles, the same way each time

    async def one(number: int) -> Any:
        key = {"Idempotency-Key": str(number)}
        job_id = front.desk.ids.job("local", "/api/stripe/process-charge", str(number))
        task = asyncio.create_task(front.client.post("/api/stripe/process-charge", json=CHARGE,
                                                     headers=key | {"Prefer": "wait=30"}))
        while await front.worker.store.get(job_id) is None:
            pass
        for _ in range(chance.randrange(20)):
            await asyncio.sleep(0)
        await front.worker.succeed(job_id)
        return await task

    async with asyncio.timeout(25):  # less than one of them would wait if nobody woke it
        responses = await asyncio.gather(*(one(number) for number in range(50)))
    assert {response.status_code for response in responses} == {200}


class SlowToTell(JobStore):
    """Tells that it has accepted a job only when that has ended, as over a slow line."""

    ended: asyncio.Event

    async def accept(self, new: NewJob, *, delay_ms: int, deadline_seconds: float) -> Accepted:
        accepted = await super().accept(new, delay_ms=delay_ms, deadline_seconds=deadline_seconds)
        await self.ended.wait()
        return accepted


async def test_a_job_that_ends_before_its_client_is_told_of_it_wakes_the_client(front: Front) -> None:
    store = SlowToTell(front.desk.calls)
    store.ended = asyncio.Event()
    front.app.state.desk = desk = dataclasses.replace(front.desk, store=store)
    await desk.waiters.listening()
    job_id = desk.ids.job("local", "/api/stripe/process-charge", "k")
    task = asyncio.create_task(front.charge(Prefer="wait=30", **{"Idempotency-Key": "k"}))
    async with asyncio.timeout(15):
        while await front.worker.store.get(job_id) is None:
            pass
        await front.worker.succeed(job_id)
        with desk.waiters.watch("job_after") as after:  # what is told later has come: so has the end of the first
            await desk.calls.call("PUBLISH", CHANGED_CHANNEL, "job_after")
            await after._event.wait()
        store.ended.set()
        assert (await task).status_code == 200

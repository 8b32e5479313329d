"""Stripe out of reach, and Stripe asked too often: what clients feel of the one, and what Stripe feels of the other."""

import asyncio
import contextlib
import math
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import aiohttp

from bench.figure import Figure
from bench.running import LOOPBACK, RunningDesk, free_port, running_desk
from shared.payments import FRESH_MS
from standin.client import Standin

CHARGE = {"amount": "50.00", "payment_method_id": "pm_card_visa"}
FAKE_KEY = "sk_test_bench"
CHARGES_PER_SECOND = 50
POLLS_PER_SECOND = 1_000
INTENTS = 100
END_SECONDS = 120.0

Ask = Callable[[aiohttp.ClientSession], Awaitable[None]]


def black_holed(folder: Path, seconds: float) -> list[Figure]:
    """The front door while a network swallows what is sent to Stripe, beside the same while Stripe answers."""
    port = free_port()
    settings = {"STRIPE_SECRET_KEY": FAKE_KEY, "STRIPE_API_BASE": f"http://{LOOPBACK}:{port}",
                "STRIPE_RATE_PER_SECOND": "1000"}
    with contextlib.ExitStack() as stripe, running_desk(folder / "black-hole", settings=settings) as desk:
        standin = stripe.enter_context(Standin.start(port=port, memory=True))
        usual = asyncio.run(_at_pace(CHARGES_PER_SECOND, seconds, _charge(desk)))
        standin.stop()
        with swallowing(port):
            swallowed = asyncio.run(_at_pace(CHARGES_PER_SECOND, seconds, _charge(desk)))
        stripe.enter_context(Standin.start(port=port, memory=True))
        ended = asyncio.run(_ended(desk, len(usual) + len(swallowed)))
    return [Figure("front door while Stripe answers, p99", _p99_ms(usual), "ms"),
            Figure("front door while packets are swallowed, p99", _p99_ms(swallowed), "ms"),
            Figure("swallowed packets add, p99", _p99_ms(swallowed) - _p99_ms(usual), "ms", 50),
            Figure("charges without an end afterwards", len(usual) + len(swallowed) - ended, "", 0)]


def polled(folder: Path, seconds: float) -> list[Figure]:
    """Many who ask how a hundred payments stand: how often Stripe is asked in a freshness window."""
    with Standin.start() as stripe, running_desk(
            folder / "polled", settings={"STRIPE_SECRET_KEY": FAKE_KEY, "STRIPE_API_BASE": stripe.base_url}) as desk:
        times = asyncio.run(_poll_intents(desk, seconds))
        windows = Counter(int(request["started_at"] * 1000 // FRESH_MS) for request in stripe.requests()
                          if request["method"] == "GET")
    return [Figure(f"answers to polls of {INTENTS} payments", len(times) / seconds, "/s"),
            Figure("how a payment stands, p99", _p99_ms(times), "ms"),
            Figure("Stripe asked in a freshness window, at most", max(windows.values(), default=0), "", INTENTS)]


@contextlib.contextmanager
def swallowing(port: int = 0) -> Iterator[int]:
    """A port whose connections never come about: its queue is full, so the kernel drops what asks for another."""
    with contextlib.ExitStack() as plugs:
        listener = plugs.enter_context(socket.socket())
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((LOOPBACK, port))
        listener.listen(0)
        address = listener.getsockname()
        with contextlib.suppress(TimeoutError):
            while True:
                plug = plugs.enter_context(socket.socket())
                plug.settimeout(0.3)
                plug.connect(address)
        taken: int = address[1]
        yield taken


async def _at_pace(per_second: float, seconds: float, ask: Ask) -> list[float]:
    """How long each of so many a second took, begun at their times whether or not those before have ended."""
    loop = asyncio.get_running_loop()
    connector = aiohttp.TCPConnector(limit=200)
    async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as asking:
        begun, tasks = loop.time(), list[asyncio.Task[float]]()
        for number in range(int(per_second * seconds)):
            await asyncio.sleep(begun + number / per_second - loop.time())
            tasks.append(asking.create_task(_timed(session, ask)))
    return [task.result() for task in tasks]


async def _timed(session: aiohttp.ClientSession, ask: Ask) -> float:
    start = time.perf_counter()
    await ask(session)
    return time.perf_counter() - start


def _charge(desk: RunningDesk) -> Ask:
    async def charge(session: aiohttp.ClientSession) -> None:
        async with session.post(f"{desk.url}/api/stripe/process-charge", json=CHARGE) as answer:
            await _read(answer, 202)

    return charge


async def _poll_intents(desk: RunningDesk, seconds: float) -> list[float]:
    async with aiohttp.ClientSession() as session:
        made = [await _intent(session, desk) for _ in range(INTENTS)]
    turns = cycle(made)

    async def poll(session: aiohttp.ClientSession) -> None:
        async with session.get(f"{desk.url}/api/stripe/payment-status",
                               params={"payment_intent_id": next(turns)}) as answer:
            await _read(answer, 200)

    return await _at_pace(POLLS_PER_SECOND, seconds, poll)


async def _intent(session: aiohttp.ClientSession, desk: RunningDesk) -> str:
    async with session.post(f"{desk.url}/api/stripe/create-payment", json={"amount": "25.50"},
                            headers={"Prefer": "wait=20"}) as answer:
        made: str = (await _read(answer, 200))["payment_intent_id"]
        return made


async def _ended(desk: RunningDesk, expected: int) -> int:
    """How many charges have ended, once all have or the time is over."""
    deadline = time.monotonic() + END_SECONDS
    async with aiohttp.ClientSession() as session:
        while True:
            async with session.get(f"{desk.url}/api/stripe/stats") as answer:
                stats = await _read(answer, 200)
            ended: int = stats["successful_payments"] + stats["failed_payments"]
            if ended >= expected or time.monotonic() > deadline:
                return ended
            await asyncio.sleep(0.2)


async def _read(answer: aiohttp.ClientResponse, status: int) -> Any:
    if answer.status != status:
        raise RuntimeError(f"{answer.status} {(await answer.text())[:200]}")
    return await answer.json()


def _p99_ms(seconds: list[float]) -> float:
    return sorted(seconds)[math.ceil(0.99 * len(seconds)) - 1] * 1000

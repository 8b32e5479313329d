"""What one charge costs: start-up, waiting for a result, the mock, and what the store is asked."""

import asyncio
import shutil
import statistics
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
from redis.asyncio.client import Monitor

from bench.figure import Figure
from bench.running import CHECKOUT, RunningDesk, running_desk
from shared.circuit import Circuit
from shared.epoch import Epoch
from shared.ids import Ids, token
from shared.jobs import LOCAL_CALLER, Lane
from shared.redis_calls import RedisCalls
from shared.requests import ChargeRequest
from shared.settings import Settings
from shared.store import JobStore
from shared.stripe_params import new_job
from standin.client import Standin
from worker.loop import work
from worker.main import create_desk

CHARGE = {"amount": "50.00", "payment_method_id": "pm_card_visa"}
FAKE_KEY = "sk_test_bench"
WINDOW = 20

_OPENING = ("AUTH", "HELLO", "SELECT", "CLIENT SETINFO")
"""What opening a connection sends, once for thousands of charges."""


def p50_ms(seconds: list[float]) -> float:
    """The median in milliseconds."""
    return statistics.median(seconds) * 1000


def from_nothing(folder: Path) -> list[Figure]:
    """Start-up of a copy of the checkout that has no environment yet, again with one, and the stop of an idle desk."""
    copy = folder / "checkout"
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=CHECKOUT,
                            capture_output=True, check=True).stdout.decode().split("\0")
    for name in filter(None, listed):
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (CHECKOUT / name).is_file():
            shutil.copy2(CHECKOUT / name, target)
    with running_desk(folder / "first", checkout=copy) as desk:
        first = desk.ready_seconds
    with running_desk(folder / "first", checkout=copy) as desk:
        second, stop = desk.ready_seconds, desk.stop()
    return [Figure("from nothing to ready (warm package cache)", first, "s", 60),
            Figure("second start to ready", second, "s", 5), Figure("stop of an idle desk", stop, "s", 10)]


def waiting_through_stripe(folder: Path, rounds: int) -> list[Figure]:
    """A charge with `Prefer: wait` through the stand-in, next to the same call made at the stand-in, in turns."""
    with Standin.start(memory=True) as stripe, running_desk(
            folder / "stripe", settings={"STRIPE_SECRET_KEY": FAKE_KEY, "STRIPE_API_BASE": stripe.base_url,
                                         "STRIPE_RATE_PER_SECOND": "10000"}) as desk:
        bare, through = asyncio.run(_in_turns(_at_the_standin(stripe.base_url), _at_the_desk(desk), rounds))
    return [Figure("the stand-in alone, p50", p50_ms(bare), "ms"),
            Figure("Prefer: wait through the desk, p50", p50_ms(through), "ms"),
            Figure("the desk adds, p50", p50_ms(through) - p50_ms(bare), "ms", 25)]


def without_network(folder: Path, name: str, base: str, rounds: int) -> list[Figure]:
    """The first mock answer of a desk that cannot reach Stripe, and the median once its circuit is open."""
    with running_desk(folder / name, settings={"STRIPE_SECRET_KEY": FAKE_KEY, "STRIPE_API_BASE": base}) as desk:
        first, *later = asyncio.run(_times(_at_the_desk(desk), rounds + 1))
    return [Figure(f"{name}: first mock answer", first * 1000, "ms", 2000),
            Figure(f"{name}: mock with the circuit open, p50", p50_ms(later), "ms", 100)]


async def store_cost(store_url: str, charges: int) -> list[Figure]:
    """Round trips and commands that the store receives for single charges and for windows of 20, counted by the server.

    Calls that leave together share a round trip; each is counted as one, so round trips are at most the calls.
    """
    with Standin.start(memory=True) as stripe:
        settings = Settings.load(stripe_secret_key=FAKE_KEY, stripe_api_base=stripe.base_url, secret="bench",  # noqa: S106  # a name for this run's ids, no secret
                                 stripe_rate_per_second=10_000)
        calls = RedisCalls.connect(store_url, deadline_seconds=5)
        store, desk = JobStore(calls), create_desk(settings, calls, Circuit(calls), worker="bench")
        ids = Ids(settings.instance_secret())
        await Epoch(calls, ids).check()

        async def charge(lane: Lane, count: int) -> None:
            new = [new_job(ChargeRequest.model_validate(CHARGE), job_id=ids.job(LOCAL_CALLER, "/bench", None),
                           caller=LOCAL_CALLER, ids=ids, settings=settings) for _ in range(count)]
            await asyncio.gather(*(store.accept(each, delay_ms=60_000, deadline_seconds=5) for each in new))
            await work(desk, lane, [each.id for each in new])

        await charge(Lane.INTERACTIVE, 1)  # the scripts are loaded by this one
        single = await _commands(calls, lambda: _each(charges, lambda: charge(Lane.INTERACTIVE, 1)))
        window = await _commands(calls, lambda: _each(charges // WINDOW, lambda: charge(Lane.BULK, WINDOW)))
        if desk.stripe is not None:
            await desk.stripe.close()
        await calls.close()
    return [Figure("round trips to the store, single charge", single / charges, "", 4),
            Figure(f"commands at the store per charge, window of {WINDOW}",
                   window / (charges // WINDOW * WINDOW), "", 3)]


async def _each(times: int, do: Callable[[], Awaitable[None]]) -> None:
    for _ in range(times):
        await do()


async def _commands(calls: RedisCalls, do: Callable[[], Awaitable[None]]) -> int:
    """What the server received while `do` ran, as its MONITOR shows it: clients' calls, none of those in a script."""
    end = token()
    async with calls.redis.monitor() as monitor:
        counting = asyncio.create_task(_count_until(monitor, end))
        await do()
        await calls.call("ECHO", end)
        return await counting


async def _count_until(monitor: Monitor, end: str) -> int:
    count = 0
    async for command in monitor.listen():
        if end in command["command"]:
            return count
        count += command["client_type"] != "lua" and not command["command"].startswith(_OPENING)
    raise RuntimeError("the server ended its MONITOR")


def _at_the_desk(desk: RunningDesk) -> Callable[[aiohttp.ClientSession], Awaitable[None]]:
    async def charge(session: aiohttp.ClientSession) -> None:
        async with session.post(f"{desk.url}/api/stripe/process-charge", json=CHARGE,
                                headers={"Prefer": "wait=20"}) as answer:
            body = await answer.read()
            if answer.status != 200:
                raise RuntimeError(f"{answer.status} {body.decode()[:200]}")

    return charge


def _at_the_standin(base: str) -> Callable[[aiohttp.ClientSession], Awaitable[None]]:
    async def charge(session: aiohttp.ClientSession) -> None:
        form = {"amount": "5000", "currency": "usd", "confirm": "true", "payment_method": "pm_card_visa",
                "automatic_payment_methods[enabled]": "true", "automatic_payment_methods[allow_redirects]": "never"}
        async with session.post(f"{base}/v1/payment_intents", data=form,
                                headers={"Authorization": f"Bearer {FAKE_KEY}"}) as answer:
            await answer.read()
            if answer.status != 200:
                raise RuntimeError(f"{answer.status} from the stand-in")

    return charge


async def _times(charge: Callable[[aiohttp.ClientSession], Awaitable[None]], rounds: int) -> list[float]:
    async with aiohttp.ClientSession() as session:
        return [await _time(charge, session) for _ in range(rounds)]


async def _in_turns(one: Callable[[aiohttp.ClientSession], Awaitable[None]],
                    other: Callable[[aiohttp.ClientSession], Awaitable[None]],
                    rounds: int) -> tuple[list[float], list[float]]:
    """Both, alternating, so that what else the machine does falls on both alike. The first of each only warms up."""
    async with aiohttp.ClientSession() as session:
        pairs = [(await _time(one, session), await _time(other, session)) for _ in range(rounds + 1)][1:]
    return [first for first, _ in pairs], [second for _, second in pairs]


async def _time(charge: Callable[[aiohttp.ClientSession], Awaitable[None]], session: aiohttp.ClientSession) -> float:
    start = time.perf_counter()
    await charge(session)
    return time.perf_counter() - start

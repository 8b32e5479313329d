"""A clock that was put back: stamps that lie ahead say nothing any more, and everything goes on."""

import dataclasses

import pytest

from shared.jobs import Book
from shared.payments import FRESH_MS, KnownPayment
from shared.redis_calls import ROOT
from tests.shared.till import Till

pytestmark = pytest.mark.anyio

HOUR_MS = 3_600_000


async def ahead(till: Till) -> int:
    """A moment of the clock before it was put back."""
    return await till.now_ms() + HOUR_MS


async def test_slots_that_lie_absurdly_far_ahead_hold_nobody_up(till: Till) -> None:
    await till.calls.call("SET", f"{ROOT}budget:test", f"{await ahead(till)}.000")
    for n in range(3):
        granted, wait_ms, _ = await till.calls.script("reserve", "test", 20, 5, 1, 80)
        assert (granted, wait_ms) == (1, 0), f"slot {n}"


async def test_what_was_really_reserved_ahead_is_kept(till: Till) -> None:
    granted, _, _ = await till.calls.script("reserve", "test", 20, 5, 10_000, 30_000)
    assert granted > 600
    assert (await till.calls.script("reserve", "test", 20, 5, 1, 80))[0] == 0


async def test_a_failure_ahead_does_not_keep_the_circuit_open(till: Till) -> None:
    await till.circuit.beat("w1", threads=1)
    await till.calls.call("HSET", f"{ROOT}circuit", "failed:w1", await ahead(till))
    reach = await till.circuit.look()
    assert (reach.open, reach.failing_workers) == (False, 0)


async def test_an_answer_ahead_does_not_keep_the_circuit_closed(till: Till) -> None:
    await till.calls.call("HSET", f"{ROOT}circuit", "answered_ms", await ahead(till))
    await till.open_circuit()
    assert (await till.circuit.look()).open


async def test_a_heartbeat_ahead_is_no_worker_until_its_next_one(till: Till) -> None:
    await till.calls.call("ZADD", f"{ROOT}workers", await ahead(till), "gone", await ahead(till), "w1")
    assert (await till.circuit.look()).fresh_workers == 0
    assert (await till.circuit.beat("w1", threads=1)).fresh_workers == 1


async def test_a_suspicion_ahead_is_none(till: Till) -> None:
    await till.circuit.beat("w1", threads=1)
    await till.calls.call("HSET", f"{ROOT}circuit", "answered_ms", await till.now_ms() - 1)
    await till.calls.call("HSET", f"{ROOT}circuit", "suspected_ms", await ahead(till))
    assert not (await till.circuit.look()).suspected


def test_a_payment_that_was_seen_ahead_is_not_current() -> None:
    seen = KnownPayment(id="pi_a", status="processing", amount_cents=5000, received_cents=0, currency="usd",
                        book=Book.TEST, as_of_ms=HOUR_MS, now_ms=HOUR_MS)
    assert seen.is_current
    assert dataclasses.replace(seen, now_ms=HOUR_MS + FRESH_MS - 1).is_current
    assert not dataclasses.replace(seen, now_ms=HOUR_MS + FRESH_MS).is_current
    assert not dataclasses.replace(seen, now_ms=0).is_current

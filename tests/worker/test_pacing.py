"""Pacing: no more calls than the budget allows, exactly, over all who reserve."""

import asyncio

import pytest

from shared.jobs import Lane, Mode
from shared.redis_calls import ROOT
from tests.shared.till import Till
from worker.pacing import AHEAD_MS, BURST, Pacing, Slots

pytestmark = pytest.mark.anyio

RATE = 20.0
INTERVAL_MS = 1000 / RATE


async def exact_ms(till: Till) -> float:
    seconds, micros = await till.calls.call("TIME")
    return int(seconds) * 1000 + int(micros) / 1000


async def reserve(till: Till, *, wanted: int, ahead_ms: int, rate: float = RATE) -> tuple[int, int, int]:
    granted, first_ms, apart_us = await till.calls.script("reserve", "test", rate, BURST, wanted, ahead_ms)
    return granted, first_ms, apart_us


async def test_the_nth_slot_comes_exactly_after_n_intervals_less_the_burst(till: Till) -> None:
    began, first_after = await exact_ms(till), 0.0
    for n in range(200):
        before = await exact_ms(till)
        granted, wait_ms, apart_us = await reserve(till, wanted=1, ahead_ms=60_000)
        after = await exact_ms(till)
        first_after = first_after or after
        assert (granted, apart_us) == (1, 50_000)
        due = max(0, n - (BURST - 1)) * INTERVAL_MS
        assert after + wait_ms >= began + due - 0.01, "a slot came early"
        assert before + wait_ms <= first_after + due + 1 or wait_ms == 0, "a slot came late"


async def test_many_slots_at_once_are_the_same_as_one_by_one(till: Till) -> None:
    assert (await reserve(till, wanted=50, ahead_ms=60_000))[0] == 50
    arrival = float(await till.calls.call("GET", f"{ROOT}budget:test"))
    now = await exact_ms(till)
    assert 49 * INTERVAL_MS - 1000 < arrival - now <= 50 * INTERVAL_MS


async def test_over_any_stretch_no_more_slots_are_given_than_the_budget_allows(till: Till) -> None:
    rate, began, slots = 500.0, await exact_ms(till), list[float]()
    while (now := await exact_ms(till)) < began + 300:
        granted, wait_ms, apart_us = await reserve(till, wanted=7, ahead_ms=5, rate=rate)
        slots += [now + wait_ms + n * apart_us / 1000 for n in range(granted)]
    stretch = max(slots) - began
    assert len(slots) <= stretch * rate / 1000 + BURST + 1
    assert len(slots) > BURST


async def test_after_a_pause_only_the_burst_is_saved_up(till: Till) -> None:
    await till.calls.call("SET", f"{ROOT}budget:test", "1000.000")
    granted, wait_ms, _ = await reserve(till, wanted=100, ahead_ms=0, rate=0.1)
    assert (granted, wait_ms) == (BURST, 0)
    granted, wait_ms, _ = await reserve(till, wanted=1, ahead_ms=0, rate=0.1)
    assert granted == 0
    assert 0 < wait_ms <= 10_000


async def test_nothing_refused_costs_anything(till: Till) -> None:
    await reserve(till, wanted=BURST, ahead_ms=0, rate=0.1)
    before = await till.calls.call("GET", f"{ROOT}budget:test")
    for _ in range(10):
        assert (await reserve(till, wanted=5, ahead_ms=0, rate=0.1))[0] == 0
    assert await till.calls.call("GET", f"{ROOT}budget:test") == before


async def test_bulk_reserves_at_most_80_ms_ahead_and_interactive_as_far_as_its_lane_may(till: Till) -> None:
    ahead_ms = AHEAD_MS[Lane.INTERACTIVE]
    assert AHEAD_MS[Lane.BULK] == 80
    assert ahead_ms >= 2000
    pacing = Pacing(till.calls, mode=Mode.TEST, calls_per_second=RATE)
    began = await exact_ms(till)
    assert (await pacing.reserve(Lane.BULK, 1000)).granted == BURST + 1
    interactive = await pacing.reserve(Lane.INTERACTIVE, 1000)
    refused = await pacing.reserve(Lane.BULK, 1)
    passed_ms = await exact_ms(till) - began
    most = ahead_ms / INTERVAL_MS
    assert most - 3 <= interactive.granted <= most + passed_ms / INTERVAL_MS
    assert refused.granted == 0
    assert ahead_ms - passed_ms - 1 <= refused.first_in_seconds * 1000 <= ahead_ms + INTERVAL_MS + 1


async def test_an_interactive_job_waits_for_no_more_than_what_bulk_may_hold(till: Till) -> None:
    pacing = Pacing(till.calls, mode=Mode.TEST, calls_per_second=RATE)
    while (await pacing.reserve(Lane.BULK, 100)).granted:
        pass
    slots = await pacing.reserve(Lane.INTERACTIVE, 1)
    assert slots.granted == 1
    assert slots.first_in_seconds <= (80 + INTERVAL_MS) / 1000 + 0.001


async def test_two_who_reserve_share_one_budget(till: Till) -> None:
    pacings = [Pacing(till.calls, mode=Mode.TEST, calls_per_second=RATE) for _ in range(2)]
    began = await exact_ms(till)
    slots = await asyncio.gather(*(pacing.reserve(Lane.INTERACTIVE, 1) for pacing in pacings * 20))
    assert {slot.granted for slot in slots} == {1}
    assert await till.calls.call("KEYS", f"{ROOT}budget:*") == [f"{ROOT}budget:test"]
    arrival = float(await till.calls.call("GET", f"{ROOT}budget:test"))
    assert 0 <= arrival - began - 40 * INTERVAL_MS <= await exact_ms(till) - began


async def test_each_mode_has_a_budget_of_its_own(till: Till) -> None:
    await Pacing(till.calls, mode=Mode.TEST, calls_per_second=RATE).reserve(Lane.INTERACTIVE, 1000)
    live = await Pacing(till.calls, mode=Mode.LIVE, calls_per_second=RATE).reserve(Lane.BULK, 1)
    assert live == Slots(1, 0.0, INTERVAL_MS / 1000)


async def test_a_budget_leaves_one_small_value_behind_however_much_is_reserved(till: Till) -> None:
    for _ in range(20):
        await reserve(till, wanted=3, ahead_ms=60_000)
    assert await till.calls.call("KEYS", f"{ROOT}budget:*") == [f"{ROOT}budget:test"]
    assert await till.calls.call("STRLEN", f"{ROOT}budget:test") < 32

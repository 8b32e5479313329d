"""Feeder: due jobs to Celery, never more than its list may hold, and no fuss when somebody is away."""

import math
from collections.abc import Sequence

import pytest
from redis.exceptions import ResponseError

from cli.servers import free_port
from shared.broker import LEAST_GRACE_MS, MOST_GRACE_MS, Backlog, Hinter, create_celery, grace_ms, hints_cap
from shared.epoch import Epoch
from shared.errors import StoreFull
from shared.ids import Ids
from shared.jobs import Lane
from shared.redis_calls import RedisCalls
from tests.shared.till import Till, new
from worker.feeder import Feeder
from worker.progress import Progress
from worker.reachability import Reachability

pytestmark = pytest.mark.anyio

THREADS = 4


class Heard(Hinter):
    """A hinter that publishes nothing and keeps what it was told."""

    def __init__(self) -> None:
        super().__init__(create_celery("memory://"))
        self.hints: list[tuple[str, Lane, list[str]]] = []

    def hint(self, kind: str, lane: Lane, job_ids: Sequence[str]) -> bool:
        self.hints.append((kind, lane, list(job_ids)))
        return True


async def there() -> None:
    """Stripe is in reach."""


def make_feeder(till: Till, hinter: Hinter, broker: RedisCalls | None = None, *,
                backlog: Backlog | None = None) -> Feeder:
    return Feeder(epoch=Epoch(till.calls, Ids("a secret")), store=till.store, hinter=hinter, threads=THREADS,
                  backlog=backlog or Backlog(broker or till.calls), calls_per_second=20, progress=Progress(THREADS),
                  reachability=Reachability(till.circuit, "w1", there))


async def waiting_hints(till: Till, lane: Lane, count: int) -> None:
    """So many hints wait in Celery's list."""
    await till.calls.call("RPUSH", f"q:{lane}", *("hint" for _ in range(count)))


def away() -> RedisCalls:
    """A server that nobody can reach."""
    return RedisCalls.connect(f"redis://127.0.0.1:{free_port()}/0", deadline_seconds=1)


async def test_what_is_due_is_hinted_by_its_kind_and_lane_one_job_a_hint(till: Till) -> None:
    hinter = Heard()
    await till.accept(new("job_a"))
    await till.accept(new("job_b", lane=Lane.BULK))
    await till.accept(new("job_c"), delay_ms=60_000)
    assert await make_feeder(till, hinter).tick() == 2
    assert hinter.hints == [("charge", Lane.INTERACTIVE, ["job_a"]), ("charge", Lane.BULK, ["job_b"])]


async def test_a_job_is_hinted_once_in_its_grace(till: Till) -> None:
    feeder = make_feeder(till, Heard())
    await till.accept(new())
    before = await till.now_ms()
    assert [await feeder.tick() for _ in range(3)] == [1, 0, 0]
    due = await till.due_ms()
    assert due is not None
    assert due >= before + LEAST_GRACE_MS[Lane.INTERACTIVE]


@pytest.mark.parametrize("lane", Lane)
async def test_no_more_is_handed_out_than_the_list_may_hold(till: Till, lane: Lane) -> None:
    for n in range(20):
        await till.accept(new(f"job_{n}", lane=lane))
    await waiting_hints(till, lane, 3)
    feeder = make_feeder(till, Heard())
    assert await feeder.tick() == hints_cap(THREADS) - 3
    await waiting_hints(till, lane, hints_cap(THREADS) - 3)
    assert await feeder.tick() == 0


async def test_a_full_list_of_one_lane_does_not_hold_up_the_other(till: Till) -> None:
    await waiting_hints(till, Lane.BULK, 100)
    await till.accept(new("job_a", lane=Lane.BULK))
    await till.accept(new("job_b"))
    hinter = Heard()
    assert await make_feeder(till, hinter).tick() == 1
    assert hinter.hints == [("charge", Lane.INTERACTIVE, ["job_b"])]


async def test_the_cap_counts_the_threads_of_all_workers(till: Till) -> None:
    await till.circuit.beat("w2", threads=16)
    for n in range(60):
        await till.accept(new(f"job_{n}"))
    assert await make_feeder(till, Heard()).tick() == hints_cap(THREADS + 16)


async def test_with_the_broker_away_what_is_due_stays_due_and_the_worker_is_fresh(till: Till) -> None:
    broker, hinter = away(), Heard()
    await till.accept(new())
    due = await till.due_ms()
    assert await make_feeder(till, hinter, broker).tick() == 0
    assert (hinter.hints, await till.due_ms()) == ([], due)
    assert (await till.circuit.look()).fresh_workers == 1
    await broker.close()


async def test_with_the_store_away_a_tick_ends_quietly_and_the_next_goes_on(till: Till) -> None:
    gone, hinter = away(), Heard()
    lost = Feeder(epoch=Epoch(gone, Ids("a secret")), store=Till(gone).store, backlog=Backlog(till.calls),
                  hinter=hinter, threads=THREADS, reachability=Reachability(Till(gone).circuit, "w1", there),
                  progress=Progress(THREADS), calls_per_second=20)
    assert [await lost.tick() for _ in range(2)] == [0, 0]
    assert hinter.hints == []
    await gone.close()
    await till.accept(new())
    assert await make_feeder(till, hinter).tick() == 1


async def test_a_lease_that_ended_is_found_by_a_tick(till: Till) -> None:
    await till.started(lease_ms=1)
    await till.lapse()
    assert await make_feeder(till, Heard()).tick() == 1
    assert (await till.job()).crashes == 1


@pytest.mark.parametrize("threads", [1, 4, 64, 1024])
@pytest.mark.parametrize("calls_per_second", [1.0, 20.0, 10_000.0, math.inf])
async def test_the_grace_is_longer_than_a_hint_waits_in_a_working_desk_but_half_a_minute_at_most(
        threads: int, calls_per_second: float) -> None:
    for lane in Lane:
        grace = grace_ms(lane, threads=threads, calls_per_second=calls_per_second)
        assert LEAST_GRACE_MS[lane] <= grace <= MOST_GRACE_MS
        assert grace >= min(MOST_GRACE_MS, 1000 * (hints_cap(threads) + threads) / calls_per_second)


class Fails(Backlog):
    """Fails once, in a way that nobody thought of."""

    def __init__(self, broker: RedisCalls, failure: Exception) -> None:
        super().__init__(broker)
        self._failure: Exception | None = failure

    async def waiting(self, lane: Lane) -> int:
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        return await super().waiting(lane)


@pytest.mark.parametrize("failure", [ResponseError("WRONGTYPE"), RuntimeError("x"), KeyError("x"), OSError("x"),
                                     TimeoutError(), StoreFull("full")])
async def test_whatever_fails_in_a_tick_the_next_goes_on(till: Till, failure: Exception) -> None:
    feeder = make_feeder(till, Heard(), backlog=Fails(till.calls, failure))
    await till.accept(new())
    assert [await feeder.tick() for _ in range(2)] == [0, 1]


async def test_a_store_of_another_desk_is_fed_from_never(till: Till) -> None:
    await Epoch(till.calls, Ids("another")).check()
    await till.accept(new())
    due, hinter = await till.due_ms(), Heard()
    feeder = make_feeder(till, hinter)
    assert [await feeder.tick() for _ in range(2)] == [0, 0]
    assert (hinter.hints, await till.due_ms()) == ([], due)
    assert (await till.circuit.look()).fresh_workers == 0


async def test_a_full_store_that_is_nobodys_is_fed_from_once_it_is_ours(till: Till) -> None:
    feeder = make_feeder(till, Heard())
    await till.accept(new())
    before = (await till.calls.call("CONFIG GET", "maxmemory"))["maxmemory"]
    await till.calls.call("CONFIG SET", "maxmemory", 1)
    try:
        assert await feeder.tick() == 0
    finally:
        await till.calls.call("CONFIG SET", "maxmemory", before)
    assert await feeder.tick() == 1

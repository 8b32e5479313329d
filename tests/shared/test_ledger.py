"""The books: recounted right while money moves, and any difference found."""

import asyncio
from pathlib import Path

import pytest

from cli.servers import STORE, EmbeddedServer
from shared.errors import StoreUnavailable
from shared.jobs import Book, Job, Mode
from shared.ledger import COUNTS_AS, Difference, EntryKind, Ledger, Totals
from shared.redis_calls import ROOT, RedisCalls
from tests.shared.till import Till, declined, mocked, new, succeeded

pytestmark = pytest.mark.anyio

WRITERS = 8
JOBS_EACH = 25


def moved(job: Job, kind: EntryKind, cents: int) -> dict[str, str]:
    """An entry of a kind for a job's payment."""
    counting = COUNTS_AS[kind]
    entry = {"object": f"x_{job.id}", "kind": kind, "cents": str(cents), "currency": "usd", "book": "test",
             "account": job.account, "payment": f"pi_{job.id}", "job": job.id, "column": counting.column}
    return entry | ({"counter": counting.counter} if counting.counter else {})


async def with_every_kind(till: Till) -> None:
    """One entry of each kind in the test book, and one in the mock's."""
    for n, kind in enumerate(EntryKind):
        job = await till.started(new(f"job_{n}"))
        cents = 5000 if kind is EntryKind.CAPTURED else 100 if kind in PUTS_BACK else -200
        await till.record(succeeded(job, entries=[moved(job, kind, cents)]))
    await till.accept(new("job_m", mode=Mode.NONE))
    [job] = await till.claim("job_m", mode=Mode.NONE, account="")
    await till.record(mocked(job))
    await till.record(declined(await till.started(new("job_f"))))


PUTS_BACK = (EntryKind.REFUND_FAILED, EntryKind.DISPUTE_REINSTATED)


async def test_an_empty_desk_adds_up(till: Till) -> None:
    assert await till.ledger.differences() == []
    assert await till.ledger.totals() == {book: Totals() for book in Book}


async def test_each_kind_counts_in_its_column(till: Till) -> None:
    await with_every_kind(till)
    totals = await till.ledger.totals()
    assert totals[Book.TEST] == Totals(processed_cents=5000, refunded_cents=100, disputed_cents=100,
                                       reversed_cents=200, succeeded=0, failed=1)
    assert totals[Book.TEST].net_cents == 4600
    assert totals[Book.MOCK] == Totals(processed_cents=5000, succeeded=1)
    assert await till.ledger.differences() == []


@pytest.mark.parametrize("column", ["processed_cents", "refunded_cents", "disputed_cents", "reversed_cents",
                                    "succeeded", "reversals", "entries"])
@pytest.mark.parametrize("by", [1, -1])
async def test_a_planted_difference_is_found_in_its_column(till: Till, column: str, by: int) -> None:
    await with_every_kind(till)
    right = int(await till.calls.call("HGET", f"{ROOT}totals:test", column))
    await till.calls.call("HINCRBY", f"{ROOT}totals:test", column, by)
    assert await till.ledger.differences() == [
        Difference(f"totals of the test book: {column}", str(right + by), str(right))]


async def test_money_in_a_book_without_entries_is_found(till: Till) -> None:
    await till.calls.call("HINCRBY", f"{ROOT}totals:live", "processed_cents", 1)
    assert await till.ledger.differences() == [
        Difference("totals of the live book: processed_cents", "1", "0")]


async def test_a_lost_entry_is_found(till: Till) -> None:
    await with_every_kind(till)
    first, *_ = [number async for number, _ in till.ledger.entries()]
    await till.calls.call("XDEL", f"{ROOT}ledger", first)
    assert {found.where.rpartition(" ")[2] for found in await till.ledger.differences()} == {
        "processed_cents", "succeeded", "entries"}


@pytest.mark.parametrize("book", ["test", "mock"])
async def test_lost_totals_are_found(till: Till, book: str) -> None:
    await with_every_kind(till)
    await till.calls.call("DEL", f"{ROOT}totals:{book}")
    assert f"totals of the {book} book: entries" in [found.where for found in await till.ledger.differences()]


async def test_an_entry_planted_twice_is_found_with_its_number(till: Till) -> None:
    await till.record(succeeded(await till.started()))
    [entry] = await till.entries()
    again = await till.calls.call("XADD", f"{ROOT}ledger", "*", *(part for pair in entry.items() for part in pair))
    await till.calls.call("HINCRBY", f"{ROOT}totals:test", "processed_cents", 5000)
    await till.calls.call("HINCRBY", f"{ROOT}totals:test", "succeeded", 1)
    await till.calls.call("HINCRBY", f"{ROOT}totals:test", "entries", 1)
    await till.calls.call("HSET", f"{ROOT}totals:test", "last_entry", again)
    assert await till.ledger.differences() == [
        Difference(f"ledger entry {again}", "pi_a:captured again", "once")]


async def test_entries_come_in_order_over_more_than_one_page(till: Till) -> None:
    added = await asyncio.gather(*(till.calls.call("XADD", f"{ROOT}ledger", "*", "n", n) for n in range(4500)))
    read = [(number, int(entry["n"])) async for number, entry in till.ledger.entries()]
    assert {number: n for n, number in enumerate(added)} == dict(read)
    assert [number for number, _ in read] == sorted(added, key=lambda number: [int(part) for part in number.split("-")])


async def test_recounting_while_money_moves_raises_no_false_alarm(till: Till) -> None:
    async def write(writer: int) -> None:
        for n in range(JOBS_EACH):
            job = await till.started(new(f"job_{writer}_{n}"))
            await till.record(succeeded(job))
            await till.record(succeeded(job))

    writing = asyncio.gather(*(write(writer) for writer in range(WRITERS)))
    recounts = 0
    while not writing.done():
        assert await till.ledger.differences() == []
        recounts += 1
    await writing
    assert recounts > 1
    assert (await till.ledger.totals())[Book.TEST].processed_cents == WRITERS * JOBS_EACH * 5000
    assert await till.ledger.differences() == []


async def test_totals_of_a_store_that_is_gone_say_so(tmp_path: Path) -> None:
    server = EmbeddedServer(STORE, tmp_path)
    server.start()
    calls = RedisCalls.connect(server.url, deadline_seconds=1)
    server.kill()
    with pytest.raises(StoreUnavailable):
        await Ledger(calls).totals()
    await calls.close()

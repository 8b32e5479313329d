"""Lists and counts: the indexes say what the records say."""

from typing import Any

import pytest

from cli.servers import EmbeddedServer
from shared.jobs import Job, Kind, Mode, Status
from shared.redis_calls import ROOT, RedisCalls
from shared.store import Page
from tests.shared.till import Till, new, succeeded, waiting

pytestmark = pytest.mark.anyio


async def accepted(till: Till, *job_ids: str, caller: str = "local", kind: Kind = Kind.CHARGE) -> None:
    """Jobs made one after another, each in a later millisecond."""
    for job_id in job_ids:
        await till.accept(new(job_id, caller=caller, kind=kind))
        await till.pass_ms((await till.job(job_id)).created_ms)


async def page(till: Till, *, limit: int = 10, status: Status | None = None, kind: Kind | None = None,
               starting_after: str | None = None) -> Page:
    found = await till.store.page(caller="local", limit=limit, status=status, kind=kind, starting_after=starting_after)
    assert found is not None
    return found


def ids(jobs: Page) -> list[str]:
    return [job.id for job in jobs.jobs]


async def test_an_empty_desk_has_an_empty_page(till: Till) -> None:
    assert await page(till) == Page([], has_more=False)


async def test_the_newest_comes_first_and_pages_meet_without_gap_or_repeat(till: Till) -> None:
    await accepted(till, *(f"job_{n}" for n in range(7)))
    first = await page(till, limit=3)
    second = await page(till, limit=3, starting_after="job_4")
    third = await page(till, limit=3, starting_after="job_1")
    assert [ids(first), ids(second), ids(third)] == [["job_6", "job_5", "job_4"], ["job_3", "job_2", "job_1"],
                                                     ["job_0"]]
    assert [first.has_more, second.has_more, third.has_more] == [True, True, False]


async def test_a_page_that_just_fits_has_no_more(till: Till) -> None:
    await accepted(till, "job_0", "job_1")
    assert not (await page(till, limit=2)).has_more


async def test_a_newer_job_does_not_move_the_pages_behind_a_cursor(till: Till) -> None:
    await accepted(till, *(f"job_{n}" for n in range(4)))
    before = await page(till, starting_after="job_2")
    await accepted(till, "job_4")
    assert await page(till, starting_after="job_2") == before


async def test_filters_by_status_kind_and_caller(till: Till) -> None:
    await accepted(till, "job_a", "job_b")
    await accepted(till, "job_c", kind=Kind.CUSTOMER)
    await accepted(till, "job_d", caller="other")
    await till.record(succeeded(await till.claimed("job_b")))
    assert ids(await page(till)) == ["job_c", "job_b", "job_a"]
    assert ids(await page(till, status=Status.SUCCEEDED)) == ["job_b"]
    assert ids(await page(till, status=Status.QUEUED)) == ["job_c", "job_a"]
    assert ids(await page(till, kind=Kind.CUSTOMER)) == ["job_c"]
    assert ids(await page(till, kind=Kind.CUSTOMER, status=Status.SUCCEEDED)) == []


async def test_a_cursor_that_has_left_the_status_still_says_where_to_go_on(till: Till) -> None:
    await accepted(till, *(f"job_{n}" for n in range(4)))
    await till.record(succeeded(await till.claimed("job_2")))
    assert ids(await page(till, status=Status.QUEUED, starting_after="job_2")) == ["job_1", "job_0"]


async def test_a_cursor_that_names_no_job_is_no_page(till: Till) -> None:
    await accepted(till, "job_a")
    assert await till.store.page(caller="local", limit=10, starting_after="job_x") is None


async def test_a_rare_job_is_found_behind_more_than_one_walk(till: Till) -> None:
    await accepted(till, "job_rare", kind=Kind.CUSTOMER)
    for n in range(450):
        await till.calls.call("ZADD", f"{ROOT}jobs", 10**13 + n, f"job_gone_{n}")
    assert ids(await page(till, kind=Kind.CUSTOMER)) == ["job_rare"]


class Counted(RedisCalls):
    """Keeps every command."""

    said: list[tuple[Any, ...]] = []  # noqa: RUF012  # replaced, never changed

    async def call(self, *command: Any) -> Any:
        self.said = [*self.said, command]
        return await super().call(*command)


@pytest.mark.parametrize("status", [None, Status.QUEUED])
async def test_a_page_of_a_rare_kind_reads_only_the_jobs_of_that_kind(
        till: Till, valkey: EmbeddedServer, status: Status | None) -> None:
    await accepted(till, "job_rare", kind=Kind.CUSTOMER)
    for n in range(450):
        await till.accept(new(f"job_{n}"))
    calls = Counted.connect(valkey.url, deadline_seconds=5)
    assert ids(await page(Till(calls), kind=Kind.CUSTOMER, status=status)) == ["job_rare"]
    await calls.close()
    assert [command[1] for command in calls.said if command[0] == "HGETALL"] == [f"{ROOT}job:job_rare"]


async def test_lists_carry_no_client_secret(till: Till) -> None:
    await till.record(waiting(await till.started(), client_secret="pi_a_secret_x"))
    [job] = (await page(till)).jobs
    assert job.result is not None
    assert job.result["client_secret"] is None


async def test_counts_are_the_sizes_of_the_indexes_through_a_whole_life(till: Till) -> None:
    async def stands(status: Status) -> None:
        counts = await till.store.counts()
        assert {found: count for found, count in counts.items() if count} == {status: 1}
        assert (await till.job()).status is status
        assert await till.index_of(["job_a"]) == {"job_a": [status]}

    await till.accept(new())
    await stands(Status.QUEUED)
    job = await till.claimed()
    await stands(Status.RUNNING)
    await till.release(job, unsent=True)
    await stands(Status.RETRYING)
    await till.crash()
    await stands(Status.UNKNOWN)
    job = await till.claimed()
    await till.release(job, park=True)
    await stands(Status.PARKED)
    await till.record(waiting(job))
    await stands(Status.PENDING)
    await till.record(succeeded(job))
    await stands(Status.SUCCEEDED)


async def test_a_job_has_its_place_among_all_jobs_for_ever(till: Till) -> None:
    job: Job = await till.started(new(mode=Mode.TEST))
    await till.record(succeeded(job))
    assert int(await till.calls.call("ZSCORE", f"{ROOT}jobs", "job_a")) == job.created_ms

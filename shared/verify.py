"""The desk's promises about its own books, recounted while it works. What this finds is wrong, never in passing."""

from collections.abc import AsyncIterator

from shared.jobs import UNFINISHED, Lane, Status
from shared.ledger import Difference, Ledger
from shared.redis_calls import ROOT, RedisCalls

_PAGE = 500
_MOVED_BY_WORKERS = tuple(status for status in UNFINISHED if status is not Status.PARKED)


async def differences(calls: RedisCalls) -> list[Difference]:
    """Everything that does not add up: totals against entries, the index against its parts, what is due against jobs.

    Each comparison reads both sides at one moment, so a desk at work gives no false alarm. Raises StoreUnavailable.
    """
    return [*await Ledger(calls).differences(), *await _index_differences(calls), *await _due_differences(calls)]


async def _index_differences(calls: RedisCalls) -> list[Difference]:
    """Every job is in exactly one status."""
    jobs, *by_status = await calls.moment(("ZCARD", f"{ROOT}jobs"),
                                          *(("ZCARD", f"{ROOT}jobs:{status}") for status in Status))
    if jobs == sum(by_status):
        return []
    return [Difference("jobs by status", str(sum(by_status)), str(jobs))]


async def _due_differences(calls: RedisCalls) -> list[Difference]:
    """Every job that a worker must still move is due at some time; a parked one waits for a human."""
    return [Difference(f"{job_id} ({status})", "never due", "due") for status in _MOVED_BY_WORKERS
            async for job_id in _members(calls, f"{ROOT}jobs:{status}") if not await _due_or_done(calls, job_id)]


async def _members(calls: RedisCalls, index: str) -> AsyncIterator[str]:
    """Every member that stays in the index while it is walked; one that moves meanwhile may be left out."""
    cursor = 0
    while True:
        cursor, page = await calls.call("ZSCAN", index, cursor, "COUNT", _PAGE)
        for member, _ in page:
            yield member
        cursor = int(cursor)
        if cursor == 0:
            return


async def _due_or_done(calls: RedisCalls, job_id: str) -> bool:
    status, *due = await calls.moment(("HGET", f"{ROOT}job:{job_id}", "status"),
                                      *(("ZSCORE", f"{ROOT}due:{lane}", job_id) for lane in Lane))
    moved_on = status is not None and Status(status) not in _MOVED_BY_WORKERS
    return moved_on or any(score is not None for score in due)

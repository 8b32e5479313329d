"""Looks at payments (status_refresh): what one saw reaches who waits for it, and nothing of it is kept for ever."""

import dataclasses

import pytest

from shared.jobs import Kind, Mode, Status
from shared.redis_calls import ROOT
from shared.store import Answer, Recorded
from tests.shared.till import ACCOUNT, Till, new, refused, succeeded, waiting

pytestmark = pytest.mark.anyio

DAY_MS = 24 * 3600 * 1000
HOUR_MS = 3600 * 1000


async def looked(till: Till, said: str) -> None:
    """A look that has ended."""
    job = await till.started(new("job_look", kind=Kind.STATUS_REFRESH))
    await till.record(succeeded(job, entries=()) if said == "seen" else refused(job))


async def kept_for_ever(till: Till, job_id: str) -> list[str]:
    """The keys without an end that are a job's own or name it, apart from the events, which are trimmed."""
    found = []
    for key in await till.calls.call("KEYS", f"{ROOT}*"):
        kind = await till.calls.call("TYPE", key)
        names = kind == "zset" and await till.calls.call("ZSCORE", key, job_id) is not None
        if names or (key.endswith(f":{job_id}") and not 0 < await till.calls.call("PTTL", key) <= HOUR_MS):
            found.append(key)
    return found


@pytest.mark.parametrize("said", ["seen", "refused"])
async def test_a_look_that_ended_leaves_nothing_for_ever(till: Till, said: str) -> None:
    await looked(till, said)
    assert (await till.job("job_look")).status.final
    assert await kept_for_ever(till, "job_look") == []


@pytest.mark.parametrize(("mode", "account"), [(Mode.TEST, "acct_2"), (Mode.LIVE, ACCOUNT), (Mode.NONE, "")])
async def test_a_look_of_another_account_is_canceled_and_leaves_nothing_for_ever(till: Till, mode: Mode,
                                                                                 account: str) -> None:
    await till.accept(new("job_look", kind=Kind.STATUS_REFRESH))
    assert await till.claim("job_look", mode=mode, account=account) == []
    assert (await till.job("job_look")).status is Status.CANCELED
    assert await kept_for_ever(till, "job_look") == []


async def test_a_customer_who_paid_in_the_mock_stays_listed(till: Till) -> None:
    await till.accept(new("job_look", kind=Kind.STATUS_REFRESH, mode=Mode.NONE))
    [job] = await till.claim("job_look", mode=Mode.NONE, account="")
    await till.record(refused(job))
    assert f"{ROOT}jobs" in await kept_for_ever(till, "job_look")


def seen(look: Answer, status: str) -> Answer:
    """The same look, having seen the payment of job_a."""
    assert look.payment is not None
    return dataclasses.replace(look, entries=(), payment={**look.payment, "id": "pi_a", "job": "job_a",
                                                          "status": status})


@pytest.mark.parametrize("status", ["succeeded", "canceled"])
async def test_a_pending_job_whose_payment_another_saw_end_is_looked_at_at_once(till: Till, status: str) -> None:
    await till.record(waiting(await till.started(), look_ms=DAY_MS))
    assert await till.claim("job_a") == []
    look = await till.started(new("job_look", kind=Kind.STATUS_REFRESH))
    await till.record(seen(succeeded(look), status))
    assert await till.feed() == ["job_a"]
    assert [job.id for job in await till.claim("job_a")] == ["job_a"]


async def test_a_payment_that_goes_on_wakes_nobody(till: Till) -> None:
    await till.record(waiting(await till.started(), look_ms=DAY_MS))
    look = await till.started(new("job_look", kind=Kind.STATUS_REFRESH))
    await till.record(seen(succeeded(look), "processing"))
    assert await till.feed() == []


async def test_what_a_late_look_saw_is_booked_and_contradicts_no_look_that_ended_unanswered(till: Till) -> None:
    look = await till.started(new("job_look", kind=Kind.STATUS_REFRESH))
    await till.record(refused(look))
    assert await till.record(succeeded(look)) is Recorded.ALREADY
    assert (await till.job("job_look")).status is Status.FAILED
    assert (len(await till.entries()), await till.events("job.contradicted")) == (1, [])

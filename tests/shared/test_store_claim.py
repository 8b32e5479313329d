"""claim: lease, fence and doubt in one step, and every reason not to."""

import asyncio

import pytest

from shared.jobs import Certainty, Lane, Mode, Status
from shared.redis_calls import ROOT
from shared.store import BLIND_RESEND_MS, CRASHES_THAT_PARK
from tests.shared.till import LEASE_MS, Till, new, succeeded, waiting

pytestmark = pytest.mark.anyio


async def verdicts(till: Till, *job_ids: str, mode: Mode = Mode.TEST, account: str = "acct_1",
                   alone: bool = True) -> list[str]:
    """Why each job was not claimed, in the script's words."""
    answers = await till.calls.script("claim", "t", LEASE_MS, mode, account, BLIND_RESEND_MS, CRASHES_THAT_PARK,
                                      "1" if alone else "0", *job_ids)
    return [answer[1] for answer in answers]


async def test_a_claim_leases_fences_and_doubts_in_one_step(till: Till) -> None:
    await till.accept(new())
    before = await till.now_ms()
    job = await till.claimed()
    assert (job.status, job.fence, job.attempts, job.doubts) == (Status.RUNNING, 1, 1, 1)
    assert job.certainty is Certainty.POSSIBLY_SENT
    assert job.first_sent_ms is not None
    assert job.first_sent_ms >= before
    assert await till.due_ms() == job.first_sent_ms + LEASE_MS
    assert await till.job() == job
    assert [event["attempt"] for event in await till.events("job.running")] == ["1"]


async def test_mode_none_calls_nobody_and_so_raises_no_doubt(till: Till) -> None:
    await till.accept(new(mode=Mode.NONE))
    [job] = await till.claim("job_a", mode=Mode.NONE, account="")
    assert (job.doubts, job.first_sent_ms, job.certainty) == (0, None, Certainty.NOT_SENT)


async def test_a_job_accepted_without_a_key_is_claimed_after_a_key_is_set(till: Till) -> None:
    await till.accept(new(mode=Mode.NONE))
    [job] = await till.claim("job_a", mode=Mode.TEST)
    assert (job.mode, job.doubts) == (Mode.NONE, 0)


async def test_a_live_lease_is_never_taken_over(till: Till) -> None:
    await till.started()
    assert await verdicts(till, "job_a") == ["running"]
    assert (await till.job()).fence == 1


async def test_an_ended_lease_is_taken_over_only_after_feed_saw_it(till: Till) -> None:
    await till.started(lease_ms=1)
    await till.lapse()
    assert await verdicts(till, "job_a") == ["running"]
    await till.feed()
    assert (await till.claimed()).fence == 2


async def test_each_attempt_adds_its_own_doubt_and_keeps_the_first_time(till: Till) -> None:
    first = await till.started(lease_ms=1)
    await till.lapse()
    await till.feed()
    second = await till.claimed()
    assert (second.doubts, second.attempts, second.fence) == (2, 2, 2)
    assert second.first_sent_ms == first.first_sent_ms


@pytest.mark.parametrize("clean", [True, False])
async def test_what_is_not_due_yet_is_left(till: Till, clean: bool) -> None:
    job = await till.started()
    await till.release(job, unsent=clean, delay_ms=60_000)
    assert await verdicts(till, "job_a") == ["not_due"]


async def test_a_queued_job_is_claimed_before_it_is_due(till: Till) -> None:
    await till.accept(new(), delay_ms=60_000)
    assert (await till.claimed()).status is Status.RUNNING


async def test_nothing_is_claimed_while_the_desk_is_on_hold(till: Till) -> None:
    await till.accept(new())
    await till.calls.call("SET", f"{ROOT}hold", "1")
    assert await verdicts(till, "job_a") == ["hold"]
    await till.calls.call("DEL", f"{ROOT}hold")
    assert (await till.claimed()).attempts == 1


@pytest.mark.parametrize(("mode", "account"), [(Mode.TEST, "acct_2"), (Mode.LIVE, "acct_1"), (Mode.NONE, "")])
async def test_a_job_of_another_account_or_mode_is_parked_and_not_sent(till: Till, mode: Mode, account: str) -> None:
    await till.accept(new())
    assert await verdicts(till, "job_a", mode=mode, account=account) == ["parked"]
    job = await till.job()
    assert (job.status, job.doubts, job.attempts) == (Status.PARKED, 0, 0)
    assert job.error is not None
    assert job.error["code"] == "other_account"
    assert await till.due_ms() is None
    assert await verdicts(till, "job_a") == ["parked"]


async def test_six_crashes_park_a_job_with_its_doubts(till: Till) -> None:
    await till.accept(new())
    for n in range(1, CRASHES_THAT_PARK + 1):
        await till.crash()
        assert (await till.job()).crashes == n
    assert await verdicts(till, "job_a") == ["parked"]
    job = await till.job()
    assert (job.status, job.doubts) == (Status.PARKED, CRASHES_THAT_PARK)
    assert job.error is not None
    assert job.error["code"] == "poison"


async def test_what_is_too_old_to_send_again_waits_for_the_list(till: Till) -> None:
    await till.accept(new())
    await till.crash()
    now = await till.now_ms()
    await till.put("job_a", first_sent_ms=now - BLIND_RESEND_MS - 1000)
    assert await verdicts(till, "job_a") == ["too_old"]
    job = await till.job()
    assert (job.status, job.attempts, job.doubts) == (Status.UNKNOWN, 1, 1)
    assert job.next_ms is not None
    assert job.next_ms >= now + 3_600_000
    assert await till.due_ms() == job.next_ms


async def test_just_under_twelve_hours_is_sent_again(till: Till) -> None:
    await till.accept(new())
    await till.crash()
    await till.put("job_a", first_sent_ms=await till.now_ms() - BLIND_RESEND_MS + 60_000)
    assert (await till.claimed()).attempts == 2


async def test_the_same_token_again_answers_the_same_jobs_and_claims_none_anew(till: Till) -> None:
    for job_id in ("job_a", "job_b", "job_c"):
        await till.accept(new(job_id))
    first = await till.claim("job_a", "job_b", claim_token="t1")
    assert await till.claim("job_a", "job_b", claim_token="t1") == first
    assert [job.fence for job in await till.claim("job_c", "job_a", claim_token="t2")] == [1]


async def test_the_same_token_answers_no_job_whose_lease_has_ended(till: Till) -> None:
    await till.accept(new())
    await till.claim("job_a", lease_ms=1, claim_token="t1")
    await till.lapse()
    assert await till.claim("job_a", claim_token="t1") == []


async def test_a_look_at_a_pending_job_is_neither_an_attempt_nor_a_doubt_nor_a_change(till: Till) -> None:
    job = await till.started()
    await till.record(waiting(job))
    before = await till.events()
    look = await till.claimed()
    assert (look.status, look.attempts, look.doubts) == (Status.PENDING, 1, 1)
    assert look.fence == 2
    assert await till.events() == before
    assert await verdicts(till, "job_a") == ["running"]


async def test_a_pending_job_is_not_looked_at_before_its_time(till: Till) -> None:
    await till.record(waiting(await till.started(), look_ms=60_000))
    assert await verdicts(till, "job_a") == ["not_due"]


async def test_final_and_missing_jobs_are_left_out_and_the_others_keep_their_order(till: Till) -> None:
    for job_id in ("job_a", "job_b", "job_c"):
        await till.accept(new(job_id))
    await till.record(succeeded(await till.claimed("job_b")))
    jobs = await till.claim("job_c", "job_x", "job_b", "job_a")
    assert [job.id for job in jobs] == ["job_c", "job_a"]


async def test_fifty_claims_of_one_job_at_once_give_it_to_one(till: Till) -> None:
    await till.accept(new(lane=Lane.BULK))
    claims = await asyncio.gather(*(till.claim("job_a") for _ in range(50)))
    assert sum(len(jobs) for jobs in claims) == 1
    assert (await till.job()).doubts == 1


async def test_a_job_named_twice_in_one_claim_is_leased_once(till: Till) -> None:
    for job_id in ("job_a", "job_b"):
        await till.accept(new(job_id))
    jobs = await till.claim("job_a", "job_b", "job_a")
    assert [(job.id, job.attempts, job.doubts) for job in jobs] == [("job_a", 1, 1), ("job_b", 1, 1)]


async def test_a_look_whose_lease_ended_is_nobodys_before_the_crash_is_counted(till: Till) -> None:
    await till.record(waiting(await till.started()))
    await till.claimed(lease_ms=1)
    await till.lapse()
    assert await verdicts(till, "job_a") == ["running"]
    assert await till.feed() == ["job_a"]
    [job] = await till.claim("job_a")
    assert (job.status, job.crashes) == (Status.PENDING, 1)


@pytest.mark.parametrize("pending", [True, False])
async def test_a_job_with_a_crash_behind_it_is_leased_only_to_who_is_alone(till: Till, pending: bool) -> None:
    for job_id in ("job_a", "job_b"):
        await till.accept(new(job_id))
    if pending:
        await till.record(waiting(await till.claimed("job_a")))
    await till.crash("job_a")
    before = await till.job()
    together = await till.claim("job_a", "job_b", alone=False)
    assert ([job.id for job in together], together.crashed) == (["job_b"], ["job_a"])
    assert await till.job() == before
    alone = await till.claim("job_a", alone=True)
    assert ([job.id for job in alone], alone.crashed) == (["job_a"], [])


async def test_an_attempt_that_came_back_leaves_no_crash_behind(till: Till) -> None:
    for job_id in ("job_a", "job_b"):
        await till.accept(new(job_id))
        await till.crash(job_id)
    await till.release(await till.claimed("job_a"))
    await till.record(waiting(await till.claimed("job_b")))
    assert [(await till.job(job_id)).crashes for job_id in ("job_a", "job_b")] == [0, 0]
    assert [job.id for job in await till.claim("job_a", "job_b", alone=False)] == ["job_a", "job_b"]

"""The store did it and its reply was lost: said again, each step has one effect."""

from collections.abc import AsyncIterator

import pytest

from drill.tcp_proxy import TcpProxy
from shared.errors import StoreUnavailable
from shared.ids import token
from shared.jobs import Book, Job, Lane, Status, job_error
from shared.ledger import captured
from shared.redis_calls import RedisCalls
from shared.results import Payment
from shared.store import Answer, Basis, JobStore, Recorded
from shared.stripe_params import new_job
from tests.faults.desk_processes import STORE_DEADLINE_SECONDS, DeskProcesses, charge

pytestmark = pytest.mark.anyio

LEASE_MS = 30_000


@pytest.fixture
async def proxy(desk: DeskProcesses) -> AsyncIterator[TcpProxy]:
    """A proxy before the desk's store."""
    async with TcpProxy(desk.servers.store.port) as proxy:
        yield proxy


@pytest.fixture
async def behind(desk: DeskProcesses, proxy: TcpProxy) -> AsyncIterator[JobStore]:
    """The store as seen through the proxy, with a connection that is open and scripts that are known."""
    calls = RedisCalls.connect(proxy.url(desk.servers.store.url), deadline_seconds=STORE_DEADLINE_SECONDS)
    for known in ("accept", "claim", "record", "release", "feed"):
        await calls.call("SCRIPT LOAD", calls._scripts[known])
    yield JobStore(calls)
    await calls.close()


async def _claimed(desk: DeskProcesses, store: JobStore, *, mode_none: bool = False) -> Job:
    settings = desk.settings(stripe_secret_key=None) if mode_none else desk.settings()
    job_id = (await desk.accept(settings=settings)).job.id
    [job] = await store.claim([job_id], lease_ms=LEASE_MS, mode=settings.mode, account=settings.account,
                              claim_token=token())
    return job


def _paid(job: Job) -> Answer:
    """A mock's answer: with no Stripe behind it, the shared check counts it in the mock's book."""
    payment = Payment(f"pi_mock_{job.id}", "succeeded", 5000, 5000, "usd", False, job.id)
    return Answer(job=job, basis=Basis.MOCK, status=Status.SUCCEEDED, book=Book.MOCK, result={}, stripe_id=payment.id,
                  payment={"id": payment.id, "status": "succeeded"},
                  entries=[captured(payment, book=Book.MOCK, account="", job_id=job.id)])


async def _finish(desk: DeskProcesses) -> None:
    """Let workers end what the test began."""
    await desk.start_workers()
    await desk.settled(within_seconds=20)


@pytest.mark.parametrize("after_bytes", [0, 1, 9])
async def test_an_accept_whose_reply_is_lost_creates_the_job_once_and_says_so(
        desk: DeskProcesses, proxy: TcpProxy, behind: JobStore, after_bytes: int) -> None:
    new = new_job(charge(), job_id=desk.ids.job("local", "/faults", "once"), caller="local", ids=desk.ids,
                  settings=desk.settings())
    proxy.cut_next_reply(after_bytes)

    first = await behind.accept(new, delay_ms=0, deadline_seconds=2)
    again = await behind.accept(new, delay_ms=0, deadline_seconds=2)

    assert proxy.cuts == 1
    assert not first.replayed
    assert again.replayed
    assert (await desk.jobs.counts())[Status.QUEUED] == 1
    desk.accepted[new.id] = charge()
    await _finish(desk)


async def test_a_claim_whose_reply_is_lost_answers_the_same_jobs_once_more(desk: DeskProcesses, proxy: TcpProxy,
                                                                           behind: JobStore) -> None:
    settings, claim_token = desk.settings(), token()
    ids = [(await desk.accept()).job.id for _ in range(3)]

    async def claim() -> list[Job]:
        return await behind.claim(ids, lease_ms=2000, mode=settings.mode, account=settings.account,
                                  claim_token=claim_token)

    proxy.cut_next_reply(after_bytes=40)
    with pytest.raises(StoreUnavailable):
        await claim()
    jobs = await claim()

    assert [job.id for job in jobs] == ids
    assert {(job.fence, job.attempts, job.doubts) for job in jobs} == {(1, 1, 1)}
    assert not await behind.claim(ids, lease_ms=2000, mode=settings.mode, account=settings.account,
                                  claim_token=token()), "another claim gets none of them"
    await _finish(desk)


async def test_a_record_whose_reply_is_lost_books_the_money_once(desk: DeskProcesses, proxy: TcpProxy,
                                                                 behind: JobStore) -> None:
    job = await _claimed(desk, behind, mode_none=True)
    proxy.cut_next_reply()

    assert await behind.record(_paid(job), deadline_seconds=2) is Recorded.ALREADY

    assert proxy.cuts == 1
    assert (await desk.ledger.totals())[Book.MOCK].processed_cents == 5000


async def test_a_release_whose_reply_is_lost_takes_away_one_doubt_and_no_other(desk: DeskProcesses, proxy: TcpProxy,
                                                                               behind: JobStore) -> None:
    job = await _claimed(desk, behind)
    await behind.release(job, error=job_error("stripe_timeout", "In doubt."), delay_ms=0, unsent=False, answered=False)
    settings = desk.settings()
    [second] = await behind.claim([job.id], lease_ms=LEASE_MS, mode=settings.mode, account=settings.account,
                                  claim_token=token())
    proxy.cut_next_reply()

    said = await behind.release(second, error=job_error("network_error", "Not sent."), delay_ms=0, unsent=True,
                                answered=False)

    assert proxy.cuts == 1
    assert said is None, "asked again, its lease is over: it was given back"
    released = await desk.job(job.id)
    assert (released.status, released.doubts) == (Status.UNKNOWN, 1)
    await _finish(desk)


async def test_jobs_whose_handing_out_was_lost_are_handed_out_again(desk: DeskProcesses, proxy: TcpProxy,
                                                                    behind: JobStore) -> None:
    job_id = (await desk.accept(delay_ms=0)).job.id
    proxy.cut_next_reply()
    with pytest.raises(StoreUnavailable):
        await behind.feed(Lane.INTERACTIVE, most=10, grace_ms=500)

    async def handed_out() -> list[str]:
        return [due.job_id for due in await behind.feed(Lane.INTERACTIVE, most=10, grace_ms=0)]

    assert await desk.until(handed_out, 3, "the same job again") == [job_id]
    await _finish(desk)


async def test_a_late_proof_of_not_sent_leaves_the_doubt_of_the_attempt_after_it(desk: DeskProcesses) -> None:
    settings = desk.settings()
    job_id = (await desk.accept(delay_ms=0)).job.id

    async def claim(lease_ms: int) -> list[Job]:
        return await desk.jobs.claim([job_id], lease_ms=lease_ms, mode=settings.mode, account=settings.account,
                                     claim_token=token(), alone=True)

    async def lease_ended() -> bool:
        return any(due.job_id == job_id for due in await desk.jobs.feed(Lane.INTERACTIVE, most=1, grace_ms=0))

    [late] = await claim(lease_ms=50)
    await desk.until(lease_ended, 3, "the end of the first lease")
    [current] = await claim(lease_ms=LEASE_MS)
    said = await desk.jobs.release(late, error=job_error("network_error", "Not sent."), delay_ms=0, unsent=True,
                                   answered=False)

    job = await desk.job(job_id)
    assert said is None
    assert (job.status, job.fence, job.doubts) == (Status.RUNNING, current.fence, 2)
    await desk.jobs.release(current, error=job_error("network_error", "Not sent."), delay_ms=0, unsent=True,
                            answered=False)
    job = await desk.job(job_id)
    assert (job.status, job.doubts) == (Status.UNKNOWN, 1), "the frozen attempt's own doubt stays for good"
    await _finish(desk)


async def test_a_late_fact_is_recorded_once_whoever_brings_it(desk: DeskProcesses) -> None:
    late = await _claimed(desk, desk.jobs, mode_none=True)
    fact = _paid(late)
    assert await desk.jobs.record(fact, deadline_seconds=2) is Recorded.RECORDED
    before = await desk.job(late.id)

    assert await desk.jobs.record(fact, deadline_seconds=2) is Recorded.ALREADY
    assert await desk.job(late.id) == before


async def test_workers_behind_a_store_that_goes_silent_lose_nothing(desk: DeskProcesses, proxy: TcpProxy) -> None:
    await desk.start_workers(2, REDIS_URL=proxy.url(desk.servers.store.url))
    desk.standin.settings(latency_ms=200)
    jobs = [await desk.submit() for _ in range(40)]
    await desk.until(lambda: len(desk.charges_made()) >= 5, 25, "some charges")

    proxy.hold()
    await desk.until(lambda: desk.calls_made() >= 20, 25, "more charges than could be recorded")
    proxy.refuse()
    proxy.let_go()
    await proxy.accept()

    await desk.settled(within_seconds=25)
    assert sorted(desk.charges_made()) == sorted(jobs)



"""Any history of honest workers, a Stripe that forgets, a network that fails, and days that pass: the promises hold.

Where test_store_model.py holds each step against a model of the store, here nothing is known of how the store works:
only what a client, a bookkeeper and Stripe would complain of. A failing history is named by its number, and played
again by it.
"""

import asyncio
import dataclasses
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from enum import StrEnum

import pytest

from cli.servers import EmbeddedServer
from shared import verify
from shared.errors import IdempotencyConflict
from shared.ids import token
from shared.jobs import Book, Job, Kind, Lane, Status
from shared.redis_calls import ROOT
from shared.store import BLIND_RESEND_MS, CRASHES_THAT_PARK, Recorded
from tests.shared.simulated_stripe import Card, Made, SimulatedStripe, told
from tests.shared.till import Till, emptied, mocked, new, refused
from tests.shared.virtual_clock import ClockedCalls

pytestmark = pytest.mark.anyio

HISTORIES = 12
STEPS = 140
LEASE_MS = 60_000
GRACE_MS = 5_000
FRESH_MS = 5_000
HOUR_MS = 3_600_000
WORKERS = ("w1", "w2")
WAITS_MS = (0, 0, 1_000, 300_000)
PASSES_MS = (1, 1, 1_000, 1_000, 4_000, LEASE_MS + 1, LEASE_MS + 1, 11 * HOUR_MS, 25 * HOUR_MS)
CARDS = (Card.GOOD, Card.GOOD, Card.GOOD, Card.DECLINED, Card.ASKS, Card.UNKNOWN)


class Fate(StrEnum):
    """What becomes of a call that left."""

    ANSWERED = "answered"
    LOST = "lost"
    """Stripe did it, and nobody heard."""
    NEVER_ARRIVED = "never_arrived"
    THROTTLED = "throttled"
    KEY_REFUSED = "key_refused"


@dataclass(eq=False, slots=True)
class Attempt:
    """A worker's claim of one job, and how far it has come."""

    job: Job
    token: str
    worker: str
    lease_until_ms: int
    sent: bool = False
    """It has heard, or will never hear, what came of its call."""
    unsent: bool = False
    """It could not connect: proof that nothing arrived."""
    throttled: bool = False
    key_refused: bool = False
    refused: bool = False
    made: Made | None = None


@dataclass(slots=True)
class Known:
    """What its client and its workers know of one job."""

    card: Card
    poison: bool = False
    """Ends every worker that claims it."""
    top_fence: int = 0
    holder: Attempt | None = None
    maybe_sent: list[tuple[Attempt, int]] = field(default_factory=list)
    """Attempts without proof that they sent nothing, and when they were claimed."""
    not_before_ms: int = 0
    handed_ms: int | None = None
    crashes: int = 0
    """Leases that ended, and were seen to, since an attempt last came back."""
    parked: bool = False
    end: tuple[Status, str] | None = None

    def first_sent_ms(self, now_ms: int) -> int:
        """When Stripe may first have got it."""
        return min((at for _, at in self.maybe_sent), default=now_ms)


class History:
    """One order of things; every step checks what it was answered."""

    def __init__(self, calls: ClockedCalls, number: int) -> None:
        self.calls, self.till, self.stripe = calls, Till(calls), SimulatedStripe()
        self.dice = random.Random(number)  # noqa: S311  # a history must be the same again
        self.fates = dict(zip(Fate, self.dice.choices((0, 1, 2, 8), k=len(Fate)), strict=True)) | {Fate.ANSWERED: 2}
        self.passes_ms = self.dice.choices(PASSES_MS, k=4)
        self.known: dict[str, Known] = {}
        self.over: dict[str, str] = {}
        """Payments after whose status no other comes."""
        self.attempts: list[Attempt] = []
        self.connected = dict.fromkeys(WORKERS, True)
        self.beaten_ms, self.failed_ms = dict.fromkeys(WORKERS, 0), dict.fromkeys(WORKERS, 0)
        self.answered_ms, self.on_hold = 0, False

    @property
    def now(self) -> int:
        return self.calls.now_ms

    async def play(self) -> None:
        steps = {self.accept: 1.5, self.accept_again: 1, self.feed: 6, self.claim: 8, self.act: 14, self.crash: 1,
                 self.time_passes: 6, self.network: 2, self.beat: 3, self.customer: 1, self.hold: 0.2, self.audit: 0.6}
        # No two histories have the same habits: what is rare in one is common in another.
        habits = [weight * self.dice.choice((0.3, 1, 3)) for weight in steps.values()]
        await self.accept()
        for step in self.dice.choices(list(steps), habits, k=STEPS):
            await self.calls.pass_ms(1)
            await step()
        await self.drain()

    # --- clients ---

    async def accept(self) -> None:
        job_id, card = f"job_{len(self.known)}", self.dice.choice(CARDS)
        job = new(job_id)
        params = {**job.params, "amount": job.amount_cents, "payment_method": card.value}
        text, again = dataclasses.replace(job, params=params), token()
        said = [await self.calls.script("accept", job_id, again, job.body_hash, 0, json.dumps(text.fields()), "1")
                for _ in range(self.dice.choice((1, 2)))]
        assert all(answer == ["created", str(self.now), "0"] for answer in said), "a reply lost, and another told"
        self.known[job_id] = Known(card, poison=self.dice.random() < 0.15)

    async def accept_again(self) -> None:
        job_id = self.dice.choice(list(self.known))
        before = await self.till.job(job_id)
        again = await self.till.accept(new(job_id))
        assert (again.replayed, again.job) == (True, before), "a submission sent again changed its job"
        with pytest.raises(IdempotencyConflict):
            await self.till.accept(new(job_id, body_hash="another"))

    async def customer(self) -> None:
        for made in self.stripe.made.values():
            if made.status == "requires_action" and self.dice.random() < 0.5:
                made.status = self.dice.choice(("succeeded", "succeeded", "canceled"))

    # --- the world ---

    async def time_passes(self) -> None:
        await self.calls.pass_ms(self.dice.choice(self.passes_ms))

    async def network(self) -> None:
        up = self.dice.choice((True, False))
        for worker in self.dice.sample(WORKERS, self.dice.choice((1, 2))):
            self.connected[worker] = up

    async def hold(self) -> None:
        self.on_hold = not self.on_hold
        await self.calls.call(*(("SET", f"{ROOT}hold", "1") if self.on_hold else ("DEL", f"{ROOT}hold")))

    async def beat(self) -> None:
        for worker in WORKERS:
            self.beaten_ms[worker] = self.now
            await self.till.circuit.beat(worker, threads=1)
            for other in WORKERS:
                if self.now - self.beaten_ms[other] >= HOUR_MS:  # it is taken to be gone, and what it saw with it
                    self.failed_ms[other] = 0
            if not self.connected[worker]:
                self.failed_ms[worker] = self.now
                await self.till.circuit.failed(worker)
            elif self.dice.random() < 0.3:
                self.answered_ms = self.now
                await self.till.circuit.answered()
        assert (await self.till.circuit.look()).open is self.nobody_connects(), "one worker's network is not the desk's"

    def nobody_connects(self) -> bool:
        fresh = [worker for worker in WORKERS if self.now - self.beaten_ms[worker] <= FRESH_MS]
        return bool(fresh) and all(self.failed_ms[worker] > self.answered_ms for worker in fresh)

    # --- workers ---

    async def feed(self) -> list[str]:
        handed = await self.till.feed(grace_ms=GRACE_MS)
        assert not (handed and self.on_hold), "handed out on hold"
        for job_id in handed:
            known = self.known[job_id]
            assert known.end is None, f"{job_id} was handed out after its end"
            assert not self.is_held(known), f"{job_id} was handed out while a worker has it"
            assert known.handed_ms is None or self.now >= known.handed_ms + GRACE_MS, f"{job_id} was handed out twice"
            known.handed_ms = self.now
            if known.holder is not None:
                known.holder, known.crashes = None, known.crashes + 1
        return handed

    def is_held(self, known: Known) -> bool:
        return known.holder is not None and self.now < known.holder.lease_until_ms

    async def claim(self) -> None:
        going = [job_id for job_id, known in self.known.items() if known.end is None] or list(self.known)
        ids = self.dice.sample(going, min(len(going), 3))
        await self.claim_these(ids, self.dice.choice(WORKERS), alone=self.dice.random() < 0.7)

    async def claim_these(self, ids: list[str], worker: str, *, alone: bool) -> None:
        earlier = [attempt.token for attempt in self.attempts]
        word = self.dice.choice(earlier) if earlier and self.dice.random() < 0.15 else token()
        jobs = await self.till.claim(*ids, lease_ms=LEASE_MS, claim_token=word, alone=alone)
        if self.dice.random() < 0.3:  # its reply was lost
            assert await self.till.claim(*ids, lease_ms=LEASE_MS, claim_token=word, alone=alone) == jobs
        for job_id in {*ids} - {job.id for job in jobs}:
            await self.check_left(job_id, alone=alone)
        for job in jobs:
            known = self.known[job.id]
            if self.is_held(known) and known.holder and (known.holder.token, known.top_fence) == (word, job.fence):
                continue
            self.check_claim(known, job, alone=alone)
            attempt = Attempt(job, word, worker, self.now + LEASE_MS)
            known.holder, known.top_fence, known.handed_ms = attempt, job.fence, None
            if job.status is Status.RUNNING:
                known.maybe_sent.append((attempt, self.now))
            if not known.poison:
                self.attempts.append(attempt)

    def check_claim(self, known: Known, job: Job, *, alone: bool) -> None:
        assert not self.on_hold, f"{job.id} was claimed on hold"
        assert not self.is_held(known), f"{job.id} was claimed while a worker has it"
        assert known.end is None, f"{job.id} was claimed after its end"
        assert not known.parked, f"{job.id} was claimed while it waits for a human"
        assert job.fence > known.top_fence, f"{job.id} was claimed under a fence that was another's"
        assert self.now >= known.not_before_ms, f"{job.id} was claimed before its time"
        assert known.crashes < CRASHES_THAT_PARK, f"{job.id} ends one worker after the other"
        assert alone or not known.crashes, f"{job.id} has ended its worker and runs beside others"

        assert job.status is Status.PENDING or self.now - known.first_sent_ms(self.now) <= BLIND_RESEND_MS, (
            f"{job.id} is sent again when Stripe may have forgotten its key")

    async def check_left(self, job_id: str, *, alone: bool) -> None:
        """Whoever is told to work a job is given it, unless there is a reason."""
        known, job = self.known[job_id], await self.till.job(job_id)
        assert (job.status.final or job.status is Status.PARKED or self.on_hold or known.holder is not None
                or self.now < known.not_before_ms or known.crashes > (CRASHES_THAT_PARK - 1 if alone else 0)
                or self.now - known.first_sent_ms(self.now) > BLIND_RESEND_MS), f"{job_id} {job.status} is kept back"

    async def crash(self) -> None:
        if self.attempts:
            self.attempts.remove(self.dice.choice(self.attempts))

    async def act(self) -> None:
        if not self.attempts:
            return
        attempt = self.dice.choice(self.attempts[-4:])
        if not attempt.sent:
            await self.call_stripe(attempt)
            return
        self.attempts.remove(attempt)
        await self.report(attempt)

    async def call_stripe(self, attempt: Attempt) -> None:
        if self.now >= attempt.lease_until_ms:  # as worker/loop.py looks before it sends
            self.attempts.remove(attempt)
            return
        attempt.sent = True
        if not self.connected[attempt.worker]:
            attempt.unsent = True
            return
        if attempt.job.status is Status.PENDING:
            attempt.made = dataclasses.replace(self.stripe.of(attempt.job.id)[0])  # as it stands now, told later
            return
        match self.dice.choices(list(self.fates), list(self.fates.values()))[0]:
            case Fate.THROTTLED:
                attempt.throttled = attempt.unsent = True
            case Fate.KEY_REFUSED:
                attempt.key_refused = True
            case Fate.LOST:
                self.stripe.post(attempt.job, now_ms=self.now)
            case Fate.ANSWERED:
                made = self.stripe.post(attempt.job, now_ms=self.now)
                attempt.made, attempt.refused = made and dataclasses.replace(made), made is None

    async def report(self, attempt: Attempt) -> None:
        job, known = attempt.job, self.known[attempt.job.id]
        if attempt.made is not None:
            self.answered_ms = self.now
            assert await self.till.record(told(job, attempt.made, look_ms=1_000)) in (
                Recorded.RECORDED, Recorded.ALREADY), "what Stripe said was not recorded"
            self.came_back(known, attempt, wait_ms=1_000 if attempt.made.status == "requires_action" else 0, fact=True)
        elif attempt.refused or attempt.key_refused:
            await self.guess(attempt, clean=attempt.key_refused)
        elif attempt.unsent and not attempt.throttled and job.status is Status.RUNNING and self.dice.random() < 0.7:
            await self.mock(attempt)
        else:
            await self.give_back(attempt)

    async def guess(self, attempt: Attempt, *, clean: bool) -> None:
        verdict = await self.till.record(refused(attempt.job, only_without_doubt=clean))
        if verdict is Recorded.RECORDED:
            self.answered_ms = self.now
            self.check_guess(attempt, doubts=clean)
            self.came_back(self.known[attempt.job.id], attempt)
        elif verdict is Recorded.IN_DOUBT:
            attempt.unsent = True
            await self.give_back(attempt)

    async def mock(self, attempt: Attempt) -> None:
        verdict = await self.till.record(mocked(attempt.job))
        if verdict is Recorded.RECORDED:
            self.check_guess(attempt, doubts=True)
            assert self.nobody_connects(), f"{attempt.job.id} was mocked while Stripe is within reach"
            assert not self.stripe.of(attempt.job.id), f"{attempt.job.id} was mocked and Stripe has it"
            self.came_back(self.known[attempt.job.id], attempt)
        elif verdict is not Recorded.FENCED:
            await self.give_back(attempt)

    def check_guess(self, attempt: Attempt, *, doubts: bool) -> None:
        known = self.known[attempt.job.id]
        assert known.holder is attempt, f"{attempt.job.id} was ended by who has it no more"
        assert self.is_held(known), f"{attempt.job.id} was ended by a guess after its lease"
        others = [other for other, _ in known.maybe_sent if other is not attempt]
        assert not (doubts and others), f"{attempt.job.id} was ended by a guess while Stripe may have it"

    async def give_back(self, attempt: Attempt) -> None:
        wait_ms, known = self.dice.choice(WAITS_MS), self.known[attempt.job.id]
        answered = attempt.throttled or attempt.key_refused
        held = known.holder is attempt and self.is_held(known)
        park = self.dice.random() < 0.02
        said = await self.till.release(attempt.job, unsent=attempt.unsent, answered=answered, delay_ms=wait_ms,
                                       park=park)
        if answered:
            self.answered_ms = self.now
        assert (said is not None) is held, "only who has a job gives it back"
        if held:
            known.parked = park
            self.came_back(known, attempt, wait_ms=wait_ms)

    def came_back(self, known: Known, attempt: Attempt, *, wait_ms: int = 0, fact: bool = False) -> None:
        if known.holder is attempt or fact:
            known.holder, known.handed_ms, known.crashes = None, None, 0
            known.not_before_ms = self.now + wait_ms
        if attempt.unsent:
            known.maybe_sent = [(other, at) for other, at in known.maybe_sent if other is not attempt]

    # --- what must hold ---

    async def audit(self) -> None:
        jobs = await asyncio.gather(*(self.till.job(job_id) for job_id in self.known))
        for job, known in zip(jobs, self.known.values(), strict=True):
            end = (job.status, str((job.result, job.error))) if job.status.final else None
            assert known.end in (None, end), f"{job.id} ended as {known.end} and is now {end}"
            known.end = end
            if job.status is Status.PARKED and not known.parked:
                assert known.crashes >= CRASHES_THAT_PARK, f"{job.id} was parked for nothing"
                known.parked = True
        assert await verify.differences(self.calls) == []
        assert await self.till.index_of(list(self.known)) == {job.id: [job.status] for job in jobs}
        due = set(await self.calls.call("ZRANGE", f"{ROOT}due:{Lane.INTERACTIVE}", 0, -1))
        assert not due & {job.id for job in jobs if job.status.final}, "what has ended is due"
        for payment_id in self.stripe.made:
            status = await self.calls.call("HGET", f"{ROOT}payment:{payment_id}", "status")
            before = self.over.setdefault(payment_id, status) if status in ("succeeded", "canceled") else None
            assert self.over.get(payment_id) in (None, status), f"{payment_id} was {before} and is now {status}"
        self.balance(jobs, [entry async for entry in self.entries()], await self.till.ledger.totals())

    async def entries(self) -> AsyncIterator[dict[str, str]]:
        async for _, entry in self.till.ledger.entries():
            yield entry

    def balance(self, jobs: Iterable[Job], entries: list[dict[str, str]], totals: object) -> None:
        """Each payment once in the books, and none that did not move."""
        real = Counter(entry["object"] for entry in entries if entry["book"] != Book.MOCK)
        assert not [each for each, count in real.items() if count > 1 or not self.stripe.made[each].paid]
        for job in jobs:
            assert sum(made.paid for made in self.stripe.of(job.id)) <= 1, f"{job.id} was charged twice"
            if job.status is Status.SUCCEEDED and job.book is Book.TEST:
                assert job.stripe_id in real, f"{job.id} succeeded and is in no book"
            if job.status is Status.SUCCEEDED and job.book is Book.MOCK:
                assert self.stripe.of(job.id) == [], f"{job.id} was mocked and Stripe has it"

    async def drain(self) -> None:
        """The network is back, Stripe tells the truth, nobody dies: everything ends, but what only a list can tell."""
        stuck_before_ms = self.now - BLIND_RESEND_MS + 2 * HOUR_MS
        self.fates, self.on_hold, self.connected = {Fate.ANSWERED: 1}, False, dict.fromkeys(WORKERS, True)
        await self.calls.call("DEL", f"{ROOT}hold")
        for _ in range(CRASHES_THAT_PARK + 6):
            await self.calls.pass_ms(LEASE_MS + 300_000)
            for made in self.stripe.made.values():
                made.status = "succeeded" if made.status == "requires_action" else made.status
            for job_id in await self.feed():
                await self.claim_these([job_id], "w1", alone=True)
            while self.attempts:
                await self.act()
        await self.audit()
        for job_id, known in self.known.items():
            job = await self.till.job(job_id)
            waits = known.first_sent_ms(self.now) <= stuck_before_ms
            assert job.status.final or job.status is Status.PARKED or (waits and job.status is Status.UNKNOWN), (
                f"{job_id} is left {job.status}")
        await self.ends_told_once()

    async def ends_told_once(self) -> None:
        jobs = [await self.till.job(job_id) for job_id in self.known]
        ends = Counter(event["job_id"] for event in await self.till.events("job.succeeded", "job.failed"))
        assert ends == Counter(job.id for job in jobs if job.status.final)
        totals = await self.till.ledger.totals()
        for book in (Book.TEST, Book.MOCK):
            failed = sum(job.status is Status.FAILED and job.book is book and job.kind is Kind.CHARGE for job in jobs)
            assert totals[book].failed == failed
        for job_id in self.known:
            assert "_secret_" not in str(await self.calls.call("HGETALL", f"{ROOT}job:{job_id}"))
        assert "_secret_" not in str(await self.till.events())


@pytest.fixture
async def clocked(valkey: EmbeddedServer, anyio_backend: str) -> AsyncIterator[ClockedCalls]:
    made = ClockedCalls.connect(valkey.url, deadline_seconds=5)
    await emptied(made)
    await made.pass_ms(0)
    yield made
    await made.close()


@pytest.mark.parametrize("number", range(HISTORIES))
async def test_no_history_breaks_a_promise(clocked: ClockedCalls, number: int) -> None:
    await History(clocked, number).play()

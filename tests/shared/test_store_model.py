"""The store against a small model of what it promises, over any order of steps that workers and feeders can take."""

import asyncio
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from cli.servers import EmbeddedServer
from shared.errors import StateConflict
from shared.jobs import FINAL, Job, Mode, Status
from shared.operator import Signed
from shared.redis_calls import RedisCalls
from shared.store import CRASHES_THAT_PARK, Answer, Recorded
from tests.shared.till import Till, declined, emptied, mocked, new, refused, succeeded, waiting

T = TypeVar("T")
ANN = Signed("ann", "because")
DONE = (*FINAL, Status.PARKED)
PICKS = st.sampled_from([0, 0, 1, 1, 2])
PARKS = st.sampled_from([False, False, False, False, True])
FACTS = {Status.SUCCEEDED: succeeded, Status.FAILED: declined, Status.PENDING: waiting}


@dataclass
class Model:
    """What the store promises of one job."""

    mode: Mode
    status: Status = Status.QUEUED
    fence: int = 0
    lease_is_live: bool = False
    leased: bool = False
    """Whether a lease was neither given back nor seen to end."""
    doubts: set[int] = field(default_factory=set)
    """The fences of attempts that may have reached Stripe."""
    crashes: int = 0
    attempt: int = 0
    """The fence of the attempt that runs; looks have fences of their own."""
    stripe_id: str | None = None
    contradicted: bool = False
    booked: set[str] = field(default_factory=set)
    asked_again: bool = False

    def claim(self, *, live: bool, alone: bool) -> bool:
        if self.status in FINAL or self.status in (Status.PARKED, Status.RUNNING) or self.leased:
            return False
        if self.crashes >= CRASHES_THAT_PARK:
            self.status = Status.PARKED
            return False
        if self.crashes and not alone:
            return False
        self.fence += 1
        self.lease_is_live, self.leased = live, True
        if self.status is not Status.PENDING:
            self.status, self.attempt = Status.RUNNING, self.fence
            if self.mode is not Mode.NONE:
                self.doubts.add(self.fence)
        return True

    def feed(self) -> bool:
        """Whether it is handed out."""
        if self.status in FINAL or self.status is Status.PARKED or self.lease_is_live:
            return False
        if self.leased:
            self.crashes += 1
            self.leased = False
        if self.status is Status.RUNNING:
            self.status = Status.UNKNOWN if self.doubts else Status.RETRYING
        return True

    def holds(self, fence: int) -> bool:
        return self.lease_is_live and self.fence == fence

    def release(self, fence: int, *, unsent: bool, park: bool) -> Status | None:
        if not self.holds(fence):
            return None
        self.lease_is_live = self.leased = False
        self.crashes = 0
        if self.status is Status.PENDING and not park:
            return self.status
        if unsent and self.status is Status.RUNNING:
            self.doubts.discard(fence)
        self.status = Status.PARKED if park else Status.UNKNOWN if self.doubts else Status.RETRYING
        return self.status

    def record(self, said: Answer, *, circuit_is_open: bool) -> Recorded:
        fact, fence = said.basis == "fact", said.job.fence
        if fact:
            self.booked |= {entry["object"] for entry in said.entries}
        if self.status in FINAL:
            same = (said.stripe_id or None) == self.stripe_id
            if same and said.status in (self.status, Status.PENDING):
                return Recorded.ALREADY
            self.contradicted |= fact
            return Recorded.CONTRADICTED if fact else Recorded.FENCED
        if not fact:
            if self.status is not Status.RUNNING or not self.holds(fence):
                return Recorded.FENCED
            if self.doubts - {fence} and (said.only_without_doubt or said.basis == "mock"):
                return Recorded.IN_DOUBT
            if said.basis == "mock" and self.mode is not Mode.NONE and not circuit_is_open:
                return Recorded.REACHABLE
            self.booked |= {entry["object"] for entry in said.entries}
        self.status, self.stripe_id = said.status, said.stripe_id
        self.lease_is_live = self.leased = False
        if said.status is Status.PENDING:
            self.crashes = 0
        return Recorded.RECORDED


    def ask_again(self) -> bool:
        """Whether an operator may."""
        if self.status is Status.PARKED:
            self.status = Status.PENDING if self.stripe_id else Status.UNKNOWN if self.doubts else Status.RETRYING
            self.crashes, self.asked_again = 0, True
        return self.status is Status.UNKNOWN or self.asked_again

    def resolve(self, *, confirmed: bool) -> bool:
        """Whether an operator may end it as failed."""
        if self.status is not Status.PARKED or (self.doubts and not confirmed):
            return False
        self.status = Status.FAILED
        return True


class Desk(RuleBasedStateMachine):
    """Workers that live, freeze, crash and come back late; every attempt there ever was may still speak."""

    till: Till
    runner: asyncio.Runner

    def __init__(self) -> None:
        super().__init__()
        self.run(emptied(self.till.calls))
        self.models: dict[str, Model] = {}
        self.attempts: list[Job] = []
        self.circuit_is_open = False
        self.ends: dict[str, tuple[Status, str]] = {}
        self.accept(Mode.TEST)

    @initialize(crashes=st.integers(0, 2))
    def begin_with_crashes(self, crashes: int) -> None:
        for _ in range(crashes):
            self.claim(live=False)
            self.feed()
        self.claim(live=True)

    def run(self, step: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(step)

    @precondition(lambda self: all(model.status in DONE for model in self.models.values()))
    @rule(mode=st.sampled_from([Mode.TEST, Mode.TEST, Mode.NONE]))
    def accept(self, mode: Mode) -> None:
        job_id = f"job_{len(self.models)}"
        assert not self.run(self.till.accept(new(job_id, mode=mode))).replayed
        self.models[job_id] = Model(mode)

    @rule()
    def accept_again(self) -> None:
        job_id = list(self.models)[-1]
        assert self.run(self.till.accept(new(job_id, mode=self.models[job_id].mode))).replayed

    @rule(live=st.booleans(), alone=st.sampled_from([True, True, False]))
    def claim(self, live: bool, alone: bool = True) -> None:
        for job_id, model in self.models.items():
            jobs = self.run(self.till.claim(job_id, lease_ms=60_000 if live else 1, alone=alone))
            assert bool(jobs) is model.claim(live=live, alone=alone)
            self.attempts += jobs
            if jobs and not live:
                self.run(self.till.lapse(job_id))

    @rule()
    def feed(self) -> None:
        handed = self.run(self.till.feed())
        assert set(handed) == {job_id for job_id, model in self.models.items() if model.feed()}

    @rule()
    def crash_and_go_on(self) -> None:
        self.claim(live=False)
        self.feed()
        self.claim(live=True)

    @precondition(lambda self: not self.circuit_is_open)
    @rule()
    def fail_to_connect(self) -> None:
        self.run(self.till.open_circuit())
        self.circuit_is_open = True

    @precondition(lambda self: self.circuit_is_open)
    @rule()
    def reach_stripe(self) -> None:
        self.run(self.till.circuit.answered())
        self.circuit_is_open = False

    @precondition(lambda self: self.attempts)
    @rule(pick=PICKS, unsent=st.booleans(), answered=st.booleans(), park=PARKS)
    def release(self, pick: int, unsent: bool, answered: bool, park: bool) -> None:
        job, model = self.speaker(pick)
        doubts = set(model.doubts)
        said = self.run(self.till.release(job, unsent=unsent, answered=answered, park=park))
        assert said == model.release(job.fence, unsent=unsent, park=park)
        assert doubts - model.doubts <= {job.fence}, "an attempt's proof cleared another's doubt"
        self.circuit_is_open &= not answered

    @precondition(lambda self: self.attempts)
    @rule(pick=PICKS, status=st.sampled_from(sorted(FACTS)))
    def learn(self, pick: int, status: Status) -> None:
        job, model = self.speaker(pick)
        if model.mode is not Mode.NONE:
            self.say(model, FACTS[status](job))
            self.circuit_is_open = False

    @precondition(lambda self: self.attempts)
    @rule(pick=PICKS, only_without_doubt=st.booleans())
    def refuse(self, pick: int, only_without_doubt: bool) -> None:
        job, model = self.speaker(pick)
        if self.say(model, refused(job, only_without_doubt=only_without_doubt)) is Recorded.RECORDED:
            self.circuit_is_open = False

    @precondition(lambda self: self.attempts)
    @rule(pick=PICKS)
    def mock(self, pick: int) -> None:
        job, model = self.speaker(pick)
        self.run(self.till.circuit.beat("w1", threads=1))
        in_doubt = model.doubts - {job.fence}
        if self.say(model, mocked(job)) is Recorded.RECORDED:
            assert not in_doubt, "mocked while another attempt was in doubt"
            model.doubts.clear()

    @rule()
    def ask_again(self) -> None:
        for job_id, model in self.models.items():
            assert self.helped(self.till.operator.ask_again(job_id, ANN)) is model.ask_again()

    @precondition(lambda self: any(model.status is Status.PARKED for model in self.models.values()))
    @rule(confirmed=st.booleans())
    def resolve(self, confirmed: bool) -> None:
        for job_id, model in self.models.items():
            step = self.till.operator.resolve_as_failed(job_id, ANN, confirmed_at_stripe=confirmed)
            assert self.helped(step) is model.resolve(confirmed=confirmed)

    def helped(self, step: Coroutine[Any, Any, Status]) -> bool:
        try:
            self.run(step)
        except StateConflict:
            return False
        return True

    def say(self, model: Model, answer: Answer) -> Recorded:
        verdict = self.run(self.till.record(answer))
        assert verdict == model.record(answer, circuit_is_open=self.circuit_is_open)
        return verdict

    def speaker(self, pick: int) -> tuple[Job, Model]:
        """Mostly the latest attempt; else an older one, come back late."""
        job = self.attempts[-1 - pick % len(self.attempts)]
        return job, self.models[job.id]

    @invariant()
    def everything_is_as_the_model_says(self) -> None:
        self.run(self.look())

    async def look(self) -> None:
        jobs, entries, differences, indexes = await asyncio.gather(
            asyncio.gather(*(self.till.job(job_id) for job_id in self.models)), self.till.entries(),
            self.till.ledger.differences(), self.till.index_of(list(self.models)))
        for job, model in zip(jobs, self.models.values(), strict=True):
            assert (job.status, job.fence, job.crashes, job.doubts) == (
                model.status, model.fence, model.crashes, len(model.doubts))
            assert (job.contradicted_by is not None) is model.contradicted
            if job.status.final:
                assert self.ends.setdefault(job.id, (job.status, str(job.result))) == (job.status, str(job.result))
            else:
                assert job.id not in self.ends, "a job went on after its end"
        booked = [object_id for model in self.models.values() for object_id in model.booked]
        assert sorted(entry["object"] for entry in entries) == sorted(booked)
        assert differences == []
        assert indexes == {job_id: [model.status] for job_id, model in self.models.items()}


@pytest.fixture(scope="module")
def machine(valkey: EmbeddedServer) -> Iterator[type[Desk]]:
    with asyncio.Runner() as runner:

        async def connect() -> RedisCalls:
            return RedisCalls.connect(valkey.url, deadline_seconds=5)

        calls = runner.run(connect())
        yield type("DeskOnAServer", (Desk,), {"till": Till(calls), "runner": runner})
        runner.run(calls.close())


@pytest.mark.timeout(180)
def test_no_order_of_steps_breaks_a_promise(machine: type[Desk]) -> None:
    run_state_machine_as_test(machine, settings=settings(
        max_examples=60, stateful_step_count=30, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck)))

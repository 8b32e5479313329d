"""Who asks: a shop that charges, asks again after lost answers, polls, and customers who pay later, or never."""

import asyncio
from dataclasses import replace

from shared.broker import grace_ms
from shared.epoch import Epoch
from shared.errors import IdempotencyConflict, StoreUnavailable
from shared.ids import Ids
from shared.jobs import LOCAL_CALLER, Job, Kind, Lane, NewJob
from shared.payments import Payments, refresh_window
from shared.requests import ChargeRequest, CustomerRequest, PaymentIntentRequest, Request
from shared.store import Accepted, JobStore
from shared.stripe_params import new_job, status_refresh_job
from tests.faults.simulator.broker import SimulatedHinter
from tests.faults.simulator.clock import Process
from tests.faults.simulator.store import SimulatedCalls
from tests.faults.simulator.workers import Surroundings

_ACCEPT_SECONDS = 2.0
_CARDS = (("pm_card_visa", 80), ("pm_card_chargeDeclined", 5), ("pm_card_chargeDeclinedInsufficientFunds", 3),
          ("pm_card_authenticationRequired", 7), ("pm_processing_card", 3), ("pm_missing_card", 2))
_OTHERS = 0.15
"""Beside each charge, how often something else is asked for."""
_HOUR = 3600.0


class Clients:
    """Everybody who asks the front door; a front door in a process of its own, which nobody kills."""

    def __init__(self, around: Surroundings, charges: int) -> None:
        self._around, self._charges = around, charges
        self._world = around.world
        self._process = Process("web")
        calls = SimulatedCalls(self._world, around.store, self._process)
        self._store, self._payments = JobStore(calls), Payments(calls)
        self._hinter = SimulatedHinter(around.broker, self._process)
        self._ids = Ids(around.settings.instance_secret())
        self._epoch = Epoch(calls, self._ids)
        self._asked_otherwise: set[str] = set()
        self.accepted: dict[str, NewJob] = {}
        """What was answered with 202, as it was asked for."""
        self.active = 0
        """How many are asking or polling now."""

    def start(self) -> None:
        """Let everybody come in their time."""
        rng, seconds = self._world.rng, self._world.climate.seconds
        for n in range(self._charges):
            self._come(rng.uniform(0, seconds), self._charge(n))
            if self._world.chance(_OTHERS):
                self._come(rng.uniform(0, seconds), self._intent(n) if self._world.chance(0.6) else self._customer(n))
        self._world.watch.on_payable = self._payable

    def _come(self, seconds: float, new: NewJob) -> None:
        self._world.knows(new)
        self._begin(seconds, new)
        rng = self._world.rng
        if self._world.chance(self._world.climate.resubmits):
            self._begin(seconds + rng.choice((0.0, 0.001, 0.2, 3.0, 30.0)) * rng.random(), new)
        if self._world.climate.days and self._world.chance(0.01):
            self._world.at(rng.choice((1.0, 11.0, 14.0, 26.0)) * _HOUR, lambda: self._begin(0, new))
        if self._world.chance(0.02):
            self._asked_otherwise.add(new.id)
            self._begin(seconds + rng.uniform(-1, 5), _otherwise(new))

    def _begin(self, seconds: float, new: NewJob) -> None:
        self.active += 1
        self._world.later(max(0.0, seconds), self._start, new)

    def _start(self, new: NewJob) -> None:
        self._world.loop.start(self._process, self._submit(new))

    async def _submit(self, new: NewJob) -> None:
        """Ask until there is an answer; a client that gives up may have been accepted or not."""
        try:
            while True:
                try:
                    accepted = await self._accept(new)
                except StoreUnavailable:
                    if self._world.chance(0.05):
                        self._world.counts["clients gave up"] += 1
                        return
                    await asyncio.sleep(self._world.rng.uniform(0.1, 3))
                except IdempotencyConflict:
                    self._refused(new)
                    return
                else:
                    self._answered(new, accepted)
                    return
        finally:
            self.active -= 1

    async def _accept(self, new: NewJob) -> Accepted:
        """As the front door does: hinted it is due a little later, else at once."""
        await self._epoch.check()
        hinted = self._world.chance(0.9)
        delay_ms = grace_ms(Lane.INTERACTIVE, threads=self._around.settings.worker_threads,
                            calls_per_second=self._around.settings.hinted_per_second) if hinted else 0
        accepted = await self._store.accept(new, delay_ms=delay_ms, deadline_seconds=_ACCEPT_SECONDS)
        if hinted and not accepted.replayed:
            self._hinter.hint(new.kind, new.lane, [new.id])
        return accepted

    def _answered(self, new: NewJob, accepted: Accepted) -> None:
        job: Job = accepted.job
        known = self.accepted.setdefault(new.id, new)
        if known.body_hash != new.body_hash:
            self._world.broken(f"{self._world.name(new.id)} was accepted with two bodies")
        if job.amount_cents != new.amount_cents:
            self._world.broken(f"{self._world.name(new.id)} was accepted with another amount")

    def _refused(self, new: NewJob) -> None:
        self._world.counts["conflicts"] += 1
        if new.id not in self._asked_otherwise:
            self._world.broken(f"{self._world.name(new.id)} was refused as if it had come with another body")

    def _new(self, asked: Request, route: str, n: int) -> NewJob:
        settings = self._around.settings
        made = new_job(asked, ids=self._ids, job_id=self._ids.job(LOCAL_CALLER, route, f"{route} {n}"),
                       caller=LOCAL_CALLER, settings=settings)
        return replace(made, lane=Lane.BULK) if self._world.chance(0.2) else made

    def _charge(self, n: int) -> NewJob:
        cards, weights = zip(*_CARDS, strict=True)
        card = self._world.rng.choices(cards, weights)[0]
        asked = ChargeRequest.model_validate({"amount": self._amount(), "payment_method_id": card})
        return self._new(asked, "charge", n)

    def _intent(self, n: int) -> NewJob:
        return self._new(PaymentIntentRequest.model_validate({"amount": self._amount()}), "intent", n)

    def _customer(self, n: int) -> NewJob:
        return self._new(CustomerRequest.model_validate({"email": f"c{n}@example.com"}), "customer", n)

    def _amount(self) -> str:
        cents = self._world.rng.randint(50, 99_999)
        return f"{cents // 100}.{cents % 100:02d}"

    def _payable(self, intent_id: str, kind: Kind) -> None:
        """A payment waits for its customer."""
        rng = self._world.rng
        if self._world.chance(0.3):
            self._world.counts["never paid"] += 1
            return
        seconds = rng.choice((1.0, 60.0, 2 * _HOUR if self._world.climate.days else 120.0)) * rng.random()
        self._world.at(seconds, lambda: self._pay(intent_id, kind))

    def _pay(self, intent_id: str, kind: Kind) -> None:
        self._around.stripe.pay(intent_id)
        if kind is Kind.PAYMENT_INTENT:  # a charge's job looks by itself; an intent's shop polls
            self.active += 1
            self._world.loop.start(self._process, self._poll(intent_id))

    async def _poll(self, intent_id: str) -> None:
        """Ask how a payment stands until it is known to be paid, as the status page does."""
        while True:
            try:
                known, now_ms = await self._payments.get(intent_id)
                if known is not None and known.status == "succeeded":
                    break
                look = status_refresh_job(self._ids, payment_intent_id=intent_id, window=refresh_window(now_ms),
                                          caller=LOCAL_CALLER, settings=self._around.settings)
                self._world.knows(look)
                await self._accept(look)
            except StoreUnavailable:
                self._world.counts["polls without an answer"] += 1
            await asyncio.sleep(self._world.rng.uniform(5, 20))
        self.active -= 1


def _otherwise(new: NewJob) -> NewJob:
    """The same key with another body."""
    if new.amount_cents is None:
        return replace(new, body_hash="another")
    cents = new.amount_cents + 1
    return replace(new, body_hash="another", amount_cents=cents, params={**new.params, "amount": cents})

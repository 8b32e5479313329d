"""The peer itself: from a whole request to the whole answer, as Stripe would give it."""

from __future__ import annotations

import asyncio
import json
import secrets
from dataclasses import dataclass

from standin import disputes, events, forms, intents, refunds
from standin.accounts import account_of
from standin.clock import Clock
from standin.courier import Courier
from standin.errors import ApiError, Json, server_error
from standin.events import API_VERSION
from standin.faults import REFUSALS, Action, Fault, Plan, Seen
from standin.idempotency import Idempotency, fingerprint
from standin.latency import Latency
from standin.limits import Limiter, Limits
from standin.log import Entry, Log
from standin.objects import JOB_ID, Call
from standin.outbox import Outbox
from standin.rates import Rates
from standin.records import Store
from standin.routes import Execution, find_route, name_in
from standin.wire import Answer, Request

_JOB_ID_PARAM = f"metadata[{JOB_ID}]"


@dataclass(frozen=True, slots=True)
class Visit:
    """A request as it came in: its log entry, the fault that strikes it, its parameters if they can be read."""

    request: Request
    entry: Entry
    fault: Fault | None
    pairs: list[tuple[str, str]] | None


@dataclass(frozen=True, slots=True)
class _Turn:
    """What one execution needs beside its parameters."""

    endpoint: str
    account: str
    key: str | None
    mark: str
    request_id: str
    fault: Fault | None


class Peer:
    """Answers requests; at most one execution per account and idempotency key."""

    def __init__(self, store: Store, clock: Clock | None = None) -> None:
        self.store = store
        self.clock = clock or Clock(store.advanced_seconds())
        self.plan = Plan()
        self.limiter = Limiter(self.clock)
        self.log = Log()
        self.latency = Latency()
        self.rates = Rates()
        self.outbox = Outbox(store, self.clock)
        self.courier = Courier(store, self.clock, self.outbox)
        self.outbox.load()
        self.captures = False
        self._idempotency = Idempotency(store, self.clock)

    def look(self, request: Request) -> Visit:
        """Note the request and give the fault that strikes it."""
        key = request.headers.get("idempotency-key") or None
        try:
            pairs = _pairs(request)
        except ApiError:
            pairs = None  # refused in its turn, after the key of the account
        job_id = self._job_id(request.path, pairs or [])
        entry = self.log.open(request.method, request.path, key, job_id, self.clock.now())
        fault = self.plan.for_request(Seen(request.method, request.path, key, job_id))
        entry.sent = _sent(request) if self.captures else None
        entry.fault = None if fault is None else fault.action.value
        return Visit(request, entry, fault, pairs)

    async def answer(self, visit: Visit) -> Answer:
        """Give the answer with Stripe's headers; refusals are answers too."""
        request, entry, fault = visit.request, visit.entry, visit.fault
        request_id = f"req_{secrets.token_hex(7)}"
        try:
            answer = await self._admit(visit, request_id)
        except ApiError as error:
            answer = error.answer()
        if fault is None or fault.action is not Action.LOCK_TIMEOUT:
            answer.headers.append(("Request-Id", request_id))
        answer.headers.append(("Stripe-Version", request.headers.get("stripe-version", API_VERSION)))
        if entry.key is not None:
            answer.headers.append(("Idempotency-Key", entry.key))
        return answer

    def pay(self, name: str) -> Json:
        """Play the customer who pays an intent in a browser."""
        with self.outbox.transaction():
            return intents.pay(self._nobodys_call(name), name)

    def dispute(self, name: str, step: str) -> Json:
        """Play the bank: open a dispute of an intent, or take a step of one."""
        with self.outbox.transaction():
            return disputes.play(self._nobodys_call(name), name, step)

    def repeat_event(self, name: str, *, as_twin: bool) -> Json:
        """Deliver an event once more, as itself or as a second event of the same change."""
        with self.outbox.transaction():
            again = events.twin if as_twin else events.resend
            return again(self._nobodys_call(name), name)

    def advance(self, seconds: float) -> None:
        """Move the clock, durably, and let happen what was due by then."""
        self.clock.advance(seconds)
        with self.outbox.transaction():
            self.store.set_advanced_seconds(self.clock.advanced_seconds)
            refunds.settle_all(self._nobodys_call(""))
        self.courier.wake()

    def reset(self) -> None:
        """Forget everything but the addresses."""
        self.courier.reset()
        self.outbox.forget()
        with self.store.transaction():
            self.store.clear()
        self.plan.clear()
        self.log.clear()
        self.rates.clear()
        self.limiter.set(Limits())
        self.latency.constant_ms = 0.0
        self.latency.set({})
        self.captures = False
        self.clock.advanced_seconds = 0.0
        self.courier.wake()

    def _nobodys_call(self, name: str) -> Call:
        return Call(self.store, self.clock, self.outbox, self.store.owner(name) or "")

    async def _admit(self, visit: Visit, request_id: str) -> Answer:
        request, entry, fault = visit.request, visit.entry, visit.fault
        if fault is not None and fault.action in REFUSALS:
            refusal = REFUSALS[fault.action]()
            raise refusal
        account = entry.account = account_of(request.headers.get("authorization", ""))
        endpoint, execution = find_route(request)
        self.limiter.take(account, endpoint)
        pairs = _pairs(request) if visit.pairs is None else visit.pairs
        if request.method != "POST" or entry.key is None:
            turn = _Turn(endpoint, account, None, "", request_id, fault)
            await self._wait(turn)
            return self._execute(execution, pairs, turn)
        turn = _Turn(endpoint, account, entry.key, fingerprint(request.path, pairs), request_id, fault)
        kept = self._idempotency.replay(account, entry.key, turn.mark)
        if kept is not None:
            entry.replayed = True
            await self._wait(turn)
            return kept
        with self._idempotency.running(account, entry.key):
            await self._wait(turn)
            return self._execute(execution, pairs, turn)

    async def _wait(self, turn: _Turn) -> None:
        delay_ms = self.latency.draw_ms(turn.endpoint) + (0.0 if turn.fault is None else turn.fault.delay_ms)
        if delay_ms:
            await asyncio.sleep(delay_ms / 1000)

    def _execute(self, execution: Execution, pairs: list[tuple[str, str]], turn: _Turn) -> Answer:
        """Effect and kept answer are one transaction: after a kill both are there, or neither."""
        params = forms.nest(pairs)
        call = Call(self.store, self.clock, self.outbox, turn.account, turn.key, params, turn.request_id)
        action = None if turn.fault is None else turn.fault.action
        with self.outbox.transaction():
            saved = True
            try:
                if action is Action.STATUS_500_BEFORE:
                    raise server_error()
                answer = Answer(200, json.dumps(execution(call)).encode())
            except ApiError as error:
                answer, saved = error.answer(), error.saved
            if action is Action.STATUS_500_AFTER and saved:
                answer = server_error().answer()
            if saved and turn.key is not None:
                self._idempotency.save(turn.account, turn.key, turn.mark, answer, turn.request_id)
        return answer

    def _job_id(self, path: str, pairs: list[tuple[str, str]]) -> str | None:
        """A create carries the job itself; other calls name an object that carries it."""
        for param, value in pairs:
            if param == _JOB_ID_PARAM:
                return value
        name = name_in(path)
        account = None if name is None else self.store.owner(name)
        if name is None or account is None:
            return None
        record = self.store.get(account, name)
        return None if record is None else record.body.get("metadata", {}).get(JOB_ID)


def _sent(request: Request) -> Json:
    headers = {name: value for name, value in request.headers.items() if name != "authorization"}
    return {"query": request.query, "body": request.body.decode("latin-1"), "headers": headers}


def _pairs(request: Request) -> list[tuple[str, str]]:
    if request.body and not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        raise ApiError(400, "Invalid request (check that your POST content type is application/x-www-form-urlencoded).")
    found = forms.decode_pairs(request.query) if request.query else []
    return found + forms.decode_pairs(request.body) if request.body else found

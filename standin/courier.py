"""Delivers webhooks: signed, at least once, in no order, and as badly as a test has scripted."""

from __future__ import annotations

import asyncio
import heapq
import json
import random
import secrets
import time
from collections import deque
from itertools import count

from standin.clock import Clock
from standin.errors import Json
from standin.outbox import Delivery, Endpoint, Outbox, Progress
from standin.post import NoAnswer, post
from standin.records import Record, Store
from standin.signing import signature
from standin.webhook_faults import WebhookFault, WebhookPlan

ANSWER_SECONDS = 10.0
_AT_ONCE = 16
_KEPT = 100_000
ORDERS = ("as_made", "reversed", "shuffled")


class Courier:
    """Never makes a request wait; a delivery not answered with 2xx comes again, later and later."""

    def __init__(self, store: Store, clock: Clock, outbox: Outbox) -> None:
        self.plan = WebhookPlan()
        self.held = False
        self._store = store
        self._clock = clock
        self._outbox = outbox
        self._due: list[tuple[float, int, Delivery]] = []
        self._kept_back: list[Delivery] = []
        self._faults: dict[str, WebhookFault] = {}
        self._log: deque[Json] = deque(maxlen=_KEPT)
        self._numbers = count(1)
        self._wake = asyncio.Event()
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._under_way: set[str] = set()
        outbox.hand_over = self._take

    async def run(self) -> None:
        """Deliver what is due until cancelled."""
        while True:
            self._wake.clear()
            for delivery in self._pop_due():
                if self.held:
                    self._kept_back.append(delivery)
                else:
                    self._start([delivery])
            seconds = None if not self._due else max(0.0, self._due[0][0] - self._clock.now())
            try:
                async with asyncio.timeout(seconds):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def stop(self) -> None:
        """End what is under way; it stays waiting in the store."""
        tasks = self._cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def wake(self) -> None:
        """Look again at what is due, after the clock was moved."""
        self._wake.set()

    def release(self, order: str, seed: int) -> int:
        """Deliver what was held, one after the other in this order, and hold nothing more; give how many."""
        if order not in ORDERS:
            raise ValueError(f"order is one of {', '.join(ORDERS)}")
        freed = self._kept_back + self._pop_due()
        if order == "reversed":
            freed.reverse()
        elif order == "shuffled":
            random.Random(seed).shuffle(freed)  # noqa: S311 - an order, not a secret
        self._kept_back, self.held = [], False
        self._start(freed)
        return len(freed)

    def drop_held(self) -> int:
        """Lose what was held, for ever; give how many. Whether to hold is not changed."""
        lost = self._kept_back + (self._pop_due() if self.held else [])
        self._kept_back = []
        with self._store.transaction():
            for delivery in lost:
                self._outbox.put(delivery, Progress.LOST)
        for delivery in lost:
            self._note(delivery, None, lost=True)
        return len(lost)

    def describe(self) -> Json:
        """Give what is in force and how much is still to be delivered."""
        due = sum(at <= self._clock.now() for at, _, _ in self._due)
        return {
            "hold": self.held,
            "held": len(self._kept_back),
            "due": due,
            "later": len(self._due) - due,
            "under_way": len(self._under_way),
        }

    def log(self) -> list[Json]:
        """Give every attempt, oldest first."""
        return list(self._log)

    def reset(self) -> None:
        """Forget all deliveries, faults and the log."""
        self._cancel()
        self.plan.clear()
        for kept in (self._due, self._kept_back, self._faults, self._log, self._under_way):
            kept.clear()
        self.held = False

    def _take(self, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            heapq.heappush(self._due, (delivery.due, next(self._numbers), delivery))
        self._wake.set()

    def _pop_due(self) -> list[Delivery]:
        now, found = self._clock.now(), []
        while self._due and self._due[0][0] <= now:
            found.append(heapq.heappop(self._due)[2])
        return found

    def _start(self, deliveries: list[Delivery]) -> None:
        task = asyncio.get_running_loop().create_task(self._deliver_all(deliveries))
        self._under_way.update(delivery.id for delivery in deliveries)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _cancel(self) -> list[asyncio.Task[None]]:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        return tasks

    async def _deliver_all(self, deliveries: list[Delivery]) -> None:
        async with self._room:
            for delivery in deliveries:
                await self._deliver(delivery)
                self._under_way.discard(delivery.id)

    async def _deliver(self, delivery: Delivery) -> None:
        endpoint = self._outbox.endpoint(delivery.endpoint)
        event = self._store.get(delivery.account, delivery.event)
        if endpoint is None or event is None:
            return
        fault = self._faults.pop(delivery.id, None)
        if fault is None:
            fault = WebhookFault() if delivery.attempts else self.plan.due(delivery.type)
            if fault.delay_seconds:
                self._delay(delivery, fault)
                return
        if fault.lost:
            self._note(delivery, None, lost=True)
            self._settle(delivery, endpoint, Progress.LOST)
            return
        took = [await self._post(delivery, endpoint, event, fault) for _ in range(fault.copies)]
        delivery.attempts += 1
        self._settle(delivery, endpoint, Progress.DELIVERED if any(took) else Progress.WAITING)

    def _delay(self, delivery: Delivery, fault: WebhookFault) -> None:
        self._faults[delivery.id] = fault
        delivery.due = self._clock.now() + fault.delay_seconds
        self._take([delivery])

    async def _post(self, delivery: Delivery, endpoint: Endpoint, event: Record, fault: WebhookFault) -> bool:
        # Stripe's bodies are indented: whoever verifies anything but the raw bytes fails
        body = json.dumps(event.body, indent=2).encode()
        # the machine's time: whoever checks it knows nothing of how far a test has moved the stand-in's
        signed_at = int(time.time() - fault.age_seconds)
        known = [f"forged_{secrets.token_hex(8)}"] if fault.forged else endpoint.secrets
        headers = [
            ("Content-Type", "application/json; charset=utf-8"),
            ("User-Agent", "Stripe/1.0 (+https://stripe.com/docs/webhooks)"),
            ("Stripe-Signature", signature(known, signed_at, body)),
        ]
        entry = self._note(delivery, signed_at, forged=fault.forged)
        try:
            status = await post(endpoint.url, headers, body, ANSWER_SECONDS)
        except NoAnswer as error:
            entry["error"] = str(error)
            return False
        entry["status"] = status
        return 200 <= status < 300

    def _settle(self, delivery: Delivery, endpoint: Endpoint, progress: Progress) -> None:
        if progress is Progress.WAITING:
            if delivery.attempts > len(endpoint.retry_seconds):
                progress = Progress.GIVEN_UP
            else:
                delivery.due = self._clock.now() + endpoint.retry_seconds[delivery.attempts - 1]
                self._take([delivery])
        with self._store.transaction():
            self._outbox.put(delivery, progress)
            event = self._store.get(delivery.account, delivery.event)
            if progress is Progress.DELIVERED and event is not None:
                event.body["pending_webhooks"] -= 1
                self._store.put(event)

    def _note(self, delivery: Delivery, signed_at: int | None, *, forged: bool = False, lost: bool = False) -> Json:
        event = self._store.get(delivery.account, delivery.event)
        entry: Json = {
            "event": delivery.event,
            "type": delivery.type,
            "object_id": None if event is None else event.body["data"]["object"].get("id"),
            "endpoint": delivery.endpoint,
            "attempt": delivery.attempts + 1,
            "at": self._clock.now(),
            "signed_at": signed_at,
            "forged": forged,
            "lost": lost,
            "status": None,
            "error": None,
        }
        self._log.append(entry)
        return entry

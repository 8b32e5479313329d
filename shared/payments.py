"""What the desk knows of a payment, and when asking Stripe again is due. record.lua is the only writer."""

import asyncio
from dataclasses import dataclass

from shared.jobs import Book
from shared.redis_calls import ROOT, RedisCalls
from shared.results import CANCELED, SUCCEEDED

FRESH_MS = 10_000
"""How long what Stripe said of a payment counts as how it stands. Stripe allows an account on average 500 reads for
each payment (docs.stripe.com/rate-limits, read 2026-04-30), so polling must not become reading."""

MOCK_PREFIX = "pi_mock_"


@dataclass(frozen=True, slots=True)
class KnownPayment:
    """A payment as it was last seen. Times are milliseconds since 1970 by the store's clock."""

    id: str
    status: str
    amount_cents: int
    received_cents: int
    currency: str
    book: Book
    as_of_ms: int
    now_ms: int

    @property
    def is_mock(self) -> bool:
        """Whether no money moved."""
        return self.book is Book.MOCK

    @property
    def is_current(self) -> bool:
        """Whether this is how it stands: nothing more can happen to it, or it was seen a moment ago.

        The mock's payments change only here, so what is known of one is always current.
        """
        return (self.is_mock or self.status in (SUCCEEDED, CANCELED)
                or 0 <= self.now_ms - self.as_of_ms < FRESH_MS)


class Payments:
    """Reads payments."""

    def __init__(self, calls: RedisCalls) -> None:
        self._calls = calls

    async def get(self, payment_intent_id: str) -> tuple[KnownPayment | None, int]:
        """A payment, None when the desk never saw it, and the store's time in milliseconds.

        Raises StoreUnavailable.
        """
        fields, (seconds, microseconds) = await asyncio.gather(
            self._calls.call("HGETALL", f"{ROOT}payment:{payment_intent_id}"), self._calls.call("TIME"))
        now_ms = seconds * 1000 + microseconds // 1000
        if "status" not in fields:
            return None, now_ms
        return KnownPayment(
            id=payment_intent_id, status=fields["status"], amount_cents=int(fields["amount_cents"]),
            received_cents=int(fields["received_cents"]), currency=fields["currency"], book=Book(fields["book"]),
            as_of_ms=int(fields["as_of_ms"]), now_ms=now_ms), now_ms


def refresh_window(now_ms: int) -> int:
    """The number of the freshness window at a time: each payment is asked of Stripe at most once in one."""
    return now_ms // FRESH_MS

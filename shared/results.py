"""What a job ends with, in the original's shapes, built here for Stripe and mock alike."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared.jobs import FallbackReason, Kind
from shared.money import dollars_number

SUCCEEDED = "succeeded"
CANCELED = "canceled"
"""The two PaymentIntent statuses after which nothing more happens to one; all others are shown as Stripe says them."""


@dataclass(frozen=True, slots=True)
class Payment:
    """A PaymentIntent as far as we keep it. `status` is Stripe's own word; its set is open."""

    id: str
    status: str
    amount_cents: int
    received_cents: int
    currency: str
    livemode: bool
    job_id: str | None
    """The job named in its metadata; None when it carries none."""


@dataclass(frozen=True, slots=True)
class Customer:
    """A customer as far as we keep it."""

    id: str
    email: str | None
    name: str | None
    livemode: bool
    job_id: str | None


def result_of(kind: Kind, made: Payment | Customer, *, fallback: FallbackReason | None,
              has_secret: bool) -> Mapping[str, Any]:
    """A job's result. `fallback`: None when Stripe answered.

    A client_secret is kept apart and only for a while: `has_secret` leaves a null in its place, for the store to fill.
    """
    marks = {} if fallback is None else {"mock_mode": True, "fallback_reason": fallback}
    if isinstance(made, Customer):
        return {"success": True, "customer_id": made.id, "email": made.email, "name": made.name, **marks}
    shown: dict[str, Any] = {"success": True, "payment_intent_id": made.id}
    if has_secret:
        shown["client_secret"] = None
    shown |= {"amount": dollars_number(made.amount_cents), "currency": made.currency, "status": made.status}
    if kind is Kind.STATUS_REFRESH:
        shown["amount_received"] = dollars_number(made.received_cents)
    return {**shown, **marks}

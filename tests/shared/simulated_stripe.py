"""Stripe as far as a desk must fear it: a key binds one object for a day, and is then forgotten."""

from dataclasses import dataclass, field
from enum import StrEnum

from shared.jobs import Book, Job, Kind, Status, job_error
from shared.ledger import captured
from shared.results import Payment
from shared.store import Answer, Basis

KEY_KEPT_MS = 24 * 3600 * 1000


class Card(StrEnum):
    """What becomes of a charge, named as its payment method."""

    GOOD = "pm_good"
    DECLINED = "pm_declined"
    ASKS = "pm_asks"
    """Waits for its holder, who pays later, or cancels."""
    UNKNOWN = "pm_unknown"
    """Refused as a request, each time."""


@dataclass(slots=True)
class Made:
    """A payment at Stripe."""

    id: str
    job: str
    cents: int
    status: str

    @property
    def paid(self) -> bool:
        """Whether money moved."""
        return self.status == "succeeded"


@dataclass(slots=True)
class SimulatedStripe:
    """What really happened."""

    made: dict[str, Made] = field(default_factory=dict)
    _keys: dict[str, tuple[Made, int]] = field(default_factory=dict)

    def post(self, job: Job, *, now_ms: int) -> Made | None:
        """Do a job under its key; None when the request itself is refused."""
        if job.params["payment_method"] == Card.UNKNOWN:
            return None
        known = self._keys.get(job.id)
        if known is not None and now_ms - known[1] < KEY_KEPT_MS:
            return known[0]
        status = {Card.GOOD: "succeeded", Card.ASKS: "requires_action"}.get(
            job.params["payment_method"], "requires_payment_method")
        made = Made(f"pi_{len(self.made)}", job.id, job.params["amount"], status)
        self._keys[job.id] = made, now_ms
        self.made[made.id] = made
        return made

    def of(self, job_id: str) -> list[Made]:
        """Every payment that a job made."""
        return [made for made in self.made.values() if made.job == job_id]


def told(job: Job, made: Made, *, look_ms: int) -> Answer:
    """What an honest worker records of Stripe's answer."""
    statuses = {"succeeded": Status.SUCCEEDED, "requires_action": Status.PENDING}
    status = statuses.get(made.status, Status.FAILED)
    payment = Payment(id=made.id, status=made.status, amount_cents=made.cents, job_id=made.job, livemode=False,
                      received_cents=made.cents if made.paid else 0, currency="usd")
    learned = {"id": made.id, "status": made.status, "amount_cents": str(made.cents), "book": Book.TEST,
               "received_cents": str(payment.received_cents), "currency": "usd", "account": job.account,
               "job": made.job}
    failed = status is Status.FAILED
    return Answer(
        job=job, basis=Basis.FACT, status=status, book=Book.TEST, stripe_id=made.id, look_ms=look_ms, payment=learned,
        result=None if failed else {"success": True, "payment_intent_id": made.id, "client_secret": None},
        error=job_error("card_declined", "No.") if failed else None,
        client_secret=f"{made.id}_secret_x" if status is Status.PENDING else None,
        entries=[captured(payment, book=Book.TEST, account=job.account, job_id=made.job)] if made.paid else [],
        counts_as_failed=failed and job.kind is Kind.CHARGE)

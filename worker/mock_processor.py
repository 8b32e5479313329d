"""The processor that moves no money; Stripe's named test payment methods behave here as they do at Stripe."""

from dataclasses import dataclass
from typing import Any

from shared.ids import mock_id, mock_secret
from shared.jobs import Job, Kind
from shared.results import SUCCEEDED, Customer, Payment
from worker.processor import Declined, Outcome, Refused, Settled

REQUIRES_ACTION = "requires_action"
REQUIRES_PAYMENT_METHOD = "requires_payment_method"

AUTHENTICATION_REQUIRED = "pm_card_authenticationRequired"
"""The card whose holder must act in a browser; in the mock nobody ever does."""


@dataclass(frozen=True, slots=True)
class Decline:
    """How a bank says no, in Stripe's words."""

    code: str
    decline_code: str
    message: str


_GENERIC = Decline("card_declined", "generic_decline", "Your card was declined.")

DECLINES = {
    "pm_card_chargeDeclined": _GENERIC,
    "pm_card_visa_chargeDeclined": _GENERIC,
    "pm_card_visa_chargeDeclinedInsufficientFunds":
        Decline("card_declined", "insufficient_funds", "Your card has insufficient funds."),
    "pm_card_visa_chargeDeclinedLostCard": Decline("card_declined", "lost_card", "Your card was declined."),
    "pm_card_visa_chargeDeclinedStolenCard": Decline("card_declined", "stolen_card", "Your card was declined."),
    "pm_card_chargeDeclinedExpiredCard": Decline("expired_card", "expired_card", "Your card has expired."),
    "pm_card_chargeDeclinedIncorrectCvc":
        Decline("incorrect_cvc", "incorrect_cvc", "Your card's security code is incorrect."),
    "pm_card_chargeDeclinedProcessingError":
        Decline("processing_error", "processing_error",
                "An error occurred while processing your card. Try again in a little bit."),
    "pm_card_chargeCustomerFail": _GENERIC,
}
"""Stripe's test payment methods that are always declined (docs.stripe.com/testing, "Declined payments")."""


class MockProcessor:
    """Answers every job at once, out of the job alone: asked twice, in any process, it gives the same answer.

    It keeps nothing and calls nobody. Any payment method that DECLINES does not name succeeds.
    """

    async def send(self, job: Job) -> Outcome:
        """Do the job in the mock; a status_refresh plays the customer who pays a mock intent."""
        match job.kind:
            case Kind.CUSTOMER:
                return Settled(_customer(job))
            case Kind.STATUS_REFRESH:
                return _paid(job)
            case Kind.CHARGE if (decline := DECLINES.get(job.params["payment_method"])):
                return Declined(decline.code, decline.message, decline.decline_code, payment=_payment(job))
            case Kind.PAYMENT_INTENT | Kind.CHARGE:
                return _made(job)
            case _:
                return Refused("not_supported", f"The mock does not do jobs of kind {job.kind}.", 400)

    async def look(self, job: Job) -> Outcome:
        """The payment as it stood when it was made: in the mock nothing happens to one by itself."""
        if job.kind in (Kind.PAYMENT_INTENT, Kind.CHARGE):
            return _made(job)
        return Refused("resource_missing", "No such payment intent in the mock.", 404)

    async def cancel(self, job: Job) -> Outcome:  # noqa: ARG002  # whatever the job is
        """Refused: the mock keeps nothing, so the next look would find the payment as it was made."""
        return Refused("not_supported", "In the mock a payment that waits for its customer waits for ever.", 400)

    async def close(self) -> None:
        """Nothing to let go of."""


def _made(job: Job) -> Settled:
    payment = _payment(job)
    return Settled(payment, mock_secret(payment.id))


def _payment(job: Job) -> Payment:
    status = _status(job)
    amount_cents: int = job.params["amount"]
    return Payment(id=mock_id("pi", job.id), status=status, amount_cents=amount_cents,
                   received_cents=amount_cents if status == SUCCEEDED else 0, currency=job.params["currency"],
                   livemode=False, job_id=job.id)


def _status(job: Job) -> str:
    if job.kind is Kind.PAYMENT_INTENT or job.params["payment_method"] in DECLINES:
        return REQUIRES_PAYMENT_METHOD
    return REQUIRES_ACTION if job.params["payment_method"] == AUTHENTICATION_REQUIRED else SUCCEEDED


def _customer(job: Job) -> Customer:
    params: Any = job.params
    return Customer(id=mock_id("cus", job.id), email=params.get("email"), name=params.get("name"), livemode=False,
                    job_id=job.id)


def _paid(job: Job) -> Outcome:
    """The intent that the job names, paid in full; its job is the one that `pays` names, as in its metadata."""
    intent_id, amount_cents = job.request.get("payment_intent_id"), job.request.get("amount_cents")
    if not isinstance(intent_id, str) or type(amount_cents) is not int:
        return Refused("resource_missing", "No such payment intent in the mock.", 404)
    return Settled(Payment(id=intent_id, status=SUCCEEDED, amount_cents=amount_cents, received_cents=amount_cents,
                           currency="usd", livemode=False, job_id=job.pays))

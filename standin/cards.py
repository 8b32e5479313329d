"""Stripe's test payment methods, and how each of them behaves."""

from __future__ import annotations

import re
from dataclasses import dataclass

from standin.errors import Json

_SHAPE = re.compile(r"pm_[A-Za-z0-9_]{1,251}")
MISSING_PREFIX = "pm_missing"
PROCESSING_PREFIX = "pm_processing"
AUTHENTICATION_REQUIRED = "pm_card_authenticationRequired"
CREATE_DISPUTE = "pm_card_createDispute"
PENDING_REFUND = "pm_card_pendingRefund"
REFUND_FAIL = "pm_card_refundFail"


@dataclass(frozen=True, slots=True)
class Decline:
    """How an issuer says no."""

    code: str
    decline_code: str
    message: str
    advice_code: str


_GENERIC = Decline("card_declined", "generic_decline", "Your card was declined.", "try_again_later")
_FUNDS = Decline("card_declined", "insufficient_funds", "Your card has insufficient funds.", "try_again_later")
_LOST = Decline("card_declined", "lost_card", "Your card was declined.", "do_not_try_again")
_STOLEN = Decline("card_declined", "stolen_card", "Your card was declined.", "do_not_try_again")
_EXPIRED = Decline("expired_card", "expired_card", "Your card has expired.", "do_not_try_again")
_CVC = Decline("incorrect_cvc", "incorrect_cvc", "Your card's security code is incorrect.", "confirm_card_data")
_PROCESSING = Decline(
    "processing_error",
    "processing_error",
    "An error occurred while processing your card. Try again in a little bit.",
    "try_again_later",
)
_VELOCITY = Decline(
    "card_declined", "card_velocity_exceeded", "Your card was declined for exceeding its limits.", "try_again_later"
)
_FRAUD = Decline("card_declined", "fraudulent", "Your card was declined.", "do_not_try_again")
NEEDS_AUTHENTICATION = Decline(
    "authentication_required",
    "authentication_required",
    "Your card was declined. This transaction requires authentication.",
    "try_again_later",
)

# the ends of the names; Stripe's lists have some with `visa_` and some without
_DECLINES = {
    "chargeDeclined": _GENERIC,
    "chargeDeclinedInsufficientFunds": _FUNDS,
    "chargeDeclinedLostCard": _LOST,
    "chargeDeclinedStolenCard": _STOLEN,
    "chargeDeclinedExpiredCard": _EXPIRED,
    "chargeDeclinedIncorrectCvc": _CVC,
    "chargeDeclinedProcessingError": _PROCESSING,
    "chargeDeclinedVelocityLimitExceeded": _VELOCITY,
    "chargeDeclinedFraudulent": _FRAUD,
    "chargeCustomerFail": _GENERIC,
}


def exists(payment_method: str) -> bool:
    """Say whether the account has this payment method."""
    return _SHAPE.fullmatch(payment_method) is not None and not payment_method.startswith(MISSING_PREFIX)


def decline_of(payment_method: str) -> Decline | None:
    """Give the decline that this payment method always gets, if it is one of those."""
    if not payment_method.startswith("pm_card_"):
        return None
    return _DECLINES.get(payment_method.removeprefix("pm_card_").removeprefix("visa_"))


def payment_method_body(payment_method: str, created: int) -> Json:
    """Give the payment method as an error shows it."""
    address = dict.fromkeys(("city", "country", "line1", "line2", "postal_code", "state"))
    return {
        "id": payment_method,
        "object": "payment_method",
        "billing_details": {"address": address, "email": None, "name": None, "phone": None},
        "card": {"brand": "visa", "exp_month": 12, "exp_year": 2034, "funding": "credit", "last4": "4242"},
        "created": created,
        "customer": None,
        "livemode": False,
        "metadata": {},
        "type": "card",
    }

"""The jobs of the sweep: what a client asks for, and how each may end under each fault."""

from collections.abc import Mapping

from api.payments import CREATE_CUSTOMER, CREATE_PAYMENT, PROCESS_CHARGE
from shared.jobs import Book, Job, Kind, Status
from shared.requests import ChargeRequest, CustomerRequest, PaymentIntentRequest, Request
from tests.faults.sweep.combinations import FAULTS, NO_NETWORK, Combination, Shape
from tests.faults.sweep.passes import Submission

AMOUNT_CENTS = 5000

_CHARGE = {"amount": "50.00", "payment_method_id": "pm_card_visa"}
_UNFINISHED = {**_CHARGE, "payment_method_id": "pm_card_authenticationRequired"}
_INTENT = {"amount": "50.00", "email": "sweep@example.com"}
_ASKED: Mapping[Shape, tuple[str, type[Request], dict[str, str]]] = {
    Shape.CHARGE: (PROCESS_CHARGE, ChargeRequest, _CHARGE),
    Shape.DECLINED: (PROCESS_CHARGE, ChargeRequest, {**_CHARGE, "payment_method_id": "pm_card_chargeDeclined"}),
    Shape.PAYMENT_INTENT: (CREATE_PAYMENT, PaymentIntentRequest, _INTENT),
    Shape.CUSTOMER: (CREATE_CUSTOMER, CustomerRequest, {"email": "sweep@example.com", "name": "S. Weep"}),
    Shape.REFRESH: (CREATE_PAYMENT, PaymentIntentRequest, _INTENT),
    Shape.LOOK: (PROCESS_CHARGE, ChargeRequest, _UNFINISHED),
    Shape.ABANDONED: (PROCESS_CHARGE, ChargeRequest, _UNFINISHED),
    Shape.IN_DOUBT: (PROCESS_CHARGE, ChargeRequest, _CHARGE),
    Shape.MOCK: (CREATE_PAYMENT, PaymentIntentRequest, _INTENT),
}


def submission(shape: Shape, key: str) -> Submission:
    """What a client sends."""
    path, _, body = _ASKED[shape]
    return Submission(path, body, key)


def request(shape: Shape) -> Request:
    """The same, read."""
    _, model, body = _ASKED[shape]
    return model.model_validate(body)


def wrong_ends(combination: Combination, jobs: list[Job]) -> list[str]:
    """How each job ended that could not end so, in a sentence each."""
    return [f"{job.id} ({job.kind}) ended {job.status} {(job.error or {}).get('code', '')} in the book {job.book}"
            for job in jobs if not _may_end(combination, job)]


def _may_end(combination: Combination, job: Job) -> bool:
    fault, code = FAULTS[combination.fault], (job.error or {}).get("code")
    if job.mock_mode and not (combination.shape is Shape.MOCK or combination.fault == NO_NETWORK):
        return False
    match job.status:
        case Status.SUCCEEDED:
            return combination.shape not in (Shape.DECLINED, Shape.ABANDONED)
        case Status.FAILED if code == "stripe_auth_failed":
            return fault.refuses_the_key
        case Status.FAILED if code == "stripe_unavailable":
            return job.kind is Kind.STATUS_REFRESH and job.book is not Book.MOCK
        case Status.FAILED if code == "never_reached_stripe":
            return combination.fault == "status:500_before"
        case Status.FAILED if combination.shape is Shape.ABANDONED:
            return code in ("action_not_completed", "payment_canceled")
        case Status.FAILED:
            return combination.shape is Shape.DECLINED and code == "card_declined"
        case Status.PARKED:
            return fault.tells_another_object and code == "unexpected_answer"
        case _:
            return False

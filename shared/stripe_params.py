"""A request turned into the parameters that Stripe gets, frozen at accept: for singles, rows and retries alike."""

from typing import Any, Literal

from shared.ids import Ids
from shared.jobs import Job, Kind, Mode, NewJob
from shared.requests import ChargeRequest, CustomerRequest, PaymentIntentRequest, Request, fields_hash
from shared.settings import STRIPE_API_VERSION, Settings

JOB_METADATA_KEY = "paydesk_job_id"
"""Says at Stripe which job made an object: how a webhook or a list finds the job of an answer that was lost."""
DESK_METADATA_KEY = "paydesk_desk"
"""Says which desk made it: an account may have several, and lists show the objects of all."""
KIND_METADATA_KEY = "paydesk_kind"
"""Says what the job was, so that its record can be made again from the object alone."""


def idempotency_key(job_id: str, operation: Kind | Literal["cancel"]) -> str:
    """Stripe's idempotency key of a job: its id and the operation, at every attempt the same."""
    return f"{job_id}:{operation}"


def new_job(request: Request, *, job_id: str, caller: str, ids: Ids, settings: Settings, fresh: bool = False) -> NewJob:
    """Freeze a request into a job: its parameters, mode, account and API version never change from here on."""
    marks = {JOB_METADATA_KEY: job_id, DESK_METADATA_KEY: ids.desk(), KIND_METADATA_KEY: str(request.kind)}
    amount_cents = request.amount_cents if isinstance(request, PaymentIntentRequest | ChargeRequest) else None
    normalised = request.normalised()
    return NewJob(id=job_id, kind=request.kind, caller=caller, body_hash=fields_hash(normalised),
                  request=normalised, params=_params(request, marks), mode=settings.mode,
                  account=settings.account, api_version=STRIPE_API_VERSION, amount_cents=amount_cents, fresh=fresh)


def mock_payment_job(ids: Ids, *, intent: Job, payment_intent_id: str) -> NewJob:
    """The job in which the simulated customer pays a mock intent; the same one however often it is asked for.

    Its mode is `none`, so that it is the mock's whatever the desk is then; its account is the intent's.
    """
    request = {"payment_intent_id": payment_intent_id, "amount_cents": intent.amount_cents}
    return NewJob(id=ids.child("mock_payment", intent.id), kind=Kind.STATUS_REFRESH, caller=intent.caller,
                  body_hash="", request=request, params={}, mode=Mode.NONE, account=intent.account,
                  api_version=intent.api_version, amount_cents=intent.amount_cents, links={"pays": intent.id})


def status_refresh_job(ids: Ids, *, payment_intent_id: str, window: int, caller: str, settings: Settings) -> NewJob:
    """The job that asks Stripe how a payment stands: one in each freshness window, whoever asks."""
    return NewJob(id=ids.status_refresh(payment_intent_id, window), kind=Kind.STATUS_REFRESH, caller=caller,
                  body_hash="", request={"payment_intent_id": payment_intent_id}, params={}, mode=settings.mode,
                  account=settings.account, api_version=STRIPE_API_VERSION)


def _params(request: Request, marks: dict[str, str]) -> dict[str, Any]:
    match request:
        case PaymentIntentRequest():
            return _intent(request, marks) | {"automatic_payment_methods": {"enabled": True}}
        case ChargeRequest():
            # Without a return_url Stripe confirms automatic methods only if none may redirect (changelog 2023-08-16).
            params = _intent(request, marks) | {
                "confirm": True, "payment_method": request.payment_method_id,
                "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"}}
            return params | ({"customer": request.customer_id} if request.customer_id else {})
        case CustomerRequest():
            given = {"email": request.email, "name": request.name, "phone": request.phone}
            return _present(given) | _metadata(request.metadata, marks)
        case _:
            raise TypeError(type(request).__name__)


def _intent(request: PaymentIntentRequest | ChargeRequest, marks: dict[str, str]) -> dict[str, Any]:
    given = {"description": request.description, "receipt_email": request.email}
    return ({"amount": request.amount_cents, "currency": request.currency}
            | _present(given)
            | _metadata(request.metadata, marks))


def _present(given: dict[str, str | None]) -> dict[str, Any]:
    return {name: text for name, text in given.items() if text is not None}


def _metadata(given: dict[str, str] | None, marks: dict[str, str]) -> dict[str, Any]:
    return {"metadata": {**(given or {}), **marks}}

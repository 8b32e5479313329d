"""The submissions under /api/stripe: each is read, frozen into a job, accepted once, hinted, and answered."""

import re

from fastapi import FastAPI, Request
from starlette.responses import Response

from api import deps, openapi
from api.answers import submitted
from api.body import header_values, read_idempotency_key, read_model, read_query, validated
from api.problems import Problem
from api.waiting import preferred_wait
from shared import requests
from shared.errors import StoreLost, StoreUnavailable
from shared.failpoints import failpoint
from shared.jobs import Job, Mode, NewJob, job_path
from shared.store import Accepted
from shared.stripe_params import new_job

PAYMENT_INTENT = "/api/stripe/payment-intent"
CREATE_PAYMENT = "/api/stripe/create-payment"
CREATE_CUSTOMER = "/api/stripe/create-customer"
PROCESS_CHARGE = "/api/stripe/process-charge"

_ACCEPT_SECONDS = 1.8
_INTENT_WAIT_SECONDS = 10
"""A GET that returns a ticket helps nobody, so it waits by itself."""
_INTENT_QUERY = ("amount", "email", "description", "currency")
_PREFETCH = re.compile(r"\s*prefetch\b", re.IGNORECASE)


def add_routes(app: FastAPI) -> None:
    """Add the routes that make payments and customers."""
    app.add_api_route(PROCESS_CHARGE, process_charge, methods=["POST"], **openapi.PROCESS_CHARGE)
    app.add_api_route(CREATE_PAYMENT, create_payment, methods=["POST"], **openapi.CREATE_PAYMENT)
    app.add_api_route(CREATE_CUSTOMER, create_customer, methods=["POST"], **openapi.CREATE_CUSTOMER)
    app.add_api_route(PAYMENT_INTENT, payment_intent, methods=["GET"], **openapi.PAYMENT_INTENT)


async def process_charge(request: Request) -> Response:
    """Charge a payment method at once."""
    asked = await read_model(request, requests.ChargeRequest)
    return await _submit(request, asked, PROCESS_CHARGE)


async def create_payment(request: Request) -> Response:
    """Create a payment intent, which a customer pays later in a browser."""
    asked = await read_model(request, requests.PaymentIntentRequest)
    return await _submit(request, asked, CREATE_PAYMENT)


async def create_customer(request: Request) -> Response:
    """Create a customer at Stripe."""
    asked = await read_model(request, requests.CustomerRequest)
    return await _submit(request, asked, CREATE_CUSTOMER)


async def payment_intent(request: Request) -> Response:
    """Create a payment intent from the query. It waits ten seconds by itself; a browser's prefetch makes nothing."""
    if any(_PREFETCH.match(request.headers.get(name, "")) for name in ("sec-purpose", "purpose")):
        raise Problem("prefetch_refused", "This address makes a payment, so it is not prefetched.")
    asked = validated(requests.PaymentIntentRequest, read_query(request, _INTENT_QUERY))
    return await _submit(request, asked, PAYMENT_INTENT, waits_seconds=_INTENT_WAIT_SECONDS)


async def _submit(request: Request, asked: requests.Request, route: str, *,
                  waits_seconds: int | None = None) -> Response:
    desk, caller = deps.desk(request), deps.caller(request)
    key = read_idempotency_key(request)
    job_id = desk.ids.job(caller, route, key)
    preferred = preferred_wait(header_values(request, b"prefer"))
    seconds = waits_seconds if preferred is None else preferred
    _refuse_mock_objects(asked, desk.settings.mode)
    new = new_job(asked, job_id=job_id, caller=caller, ids=desk.ids, settings=desk.settings, fresh=key is None)
    if seconds is None:
        accepted = await accept_and_hint(desk, new)
        job = accepted.job
    else:
        with desk.waiters.watch(job_id) as watch:  # before accept, so that no end of the job is missed
            accepted = await accept_and_hint(desk, new)
            job = await watch.until_it_rests(accepted.job, lambda: _read(desk, job_id), seconds)
    failpoint("answer.before")
    return submitted(job, replayed=accepted.replayed, waited=seconds is not None, preferred_seconds=preferred)


async def accept_and_hint(desk: deps.Desk, new: NewJob) -> Accepted:
    """Accept and hint. Whatever became of it, the client learns where the job is if there is one."""
    hinted = desk.hints.has_room
    try:
        accepted = await desk.ask(desk.store.accept, new, delay_ms=desk.hints.delay_ms(hinted=hinted),
                                  deadline_seconds=_ACCEPT_SECONDS)
    except StoreLost:  # it took nothing
        raise
    except StoreUnavailable as unknown:
        raise Problem(unknown.code, "The store did not answer in time, so the job may or may not have been accepted; "
                                    "sending it again with the same Idempotency-Key is safe.",
                      headers={"Location": job_path(new.id)}, more={"job_id": new.id}) from None
    if hinted and not accepted.replayed:
        desk.hints.give(accepted.job)
    return accepted


async def _read(desk: deps.Desk, job_id: str) -> Job | None:
    return await desk.ask(desk.store.get, job_id)


def _refuse_mock_objects(asked: requests.Request, mode: Mode) -> None:
    """No id of the mock is ever sent to Stripe."""
    if mode is Mode.NONE or not isinstance(asked, requests.ChargeRequest):
        return
    for field, given, prefix in (("payment_method_id", asked.payment_method_id, "pm_mock_"),
                                 ("customer_id", asked.customer_id, "cus_mock_")):
        if given is not None and given.startswith(prefix):
            sentence = "This object was made by the mock; Stripe does not know it."
            raise Problem("mock_object", sentence,
                          errors=[{"pointer": f"/{field}", "code": "mock_object", "message": sentence}])

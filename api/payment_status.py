"""How a payment stands: from our record while that is current, else asked of Stripe by a paced job; never invented."""

import re
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import Response

from api import deps, openapi
from api.answers import answer, failure, ticket
from api.body import header_values, read_query
from api.payments import accept_and_hint
from api.problems import Problem
from api.waiting import preferred_wait
from shared.errors import JobNotFound
from shared.jobs import Job, Mode, Status, timestamp
from shared.money import dollars_number
from shared.payments import MOCK_PREFIX, KnownPayment, refresh_window
from shared.stripe_params import status_refresh_job

PAYMENT_STATUS = "/api/stripe/payment-status"

_PARAMETER = "payment_intent_id"
_ID = re.compile(r"(?:pi|job)_[A-Za-z0-9_]{1,64}", re.ASCII)
_WAIT_SECONDS = 10
"""A GET that returns a ticket helps nobody, so it waits by itself."""
_UNANSWERED = "stripe_unavailable"


def add_routes(app: FastAPI) -> None:
    """Add the route that tells how a payment stands."""
    app.add_api_route(PAYMENT_STATUS, payment_status, methods=["GET"], **openapi.PAYMENT_STATUS)


async def payment_status(request: Request) -> Response:
    """How a payment stands, by its id or its job's. When Stripe cannot say, what was last seen, marked `stale`."""
    desk = deps.desk(request)
    given = _given(request)
    preferred = preferred_wait(header_values(request, b"prefer"))
    seconds = _WAIT_SECONDS if preferred is None else preferred
    if given.startswith("job_"):
        job = await _rested(desk, await _own_job(request, given), seconds)
        if job.stripe_id is None or not job.stripe_id.startswith("pi_"):
            return _without_payment(job)
        given = job.stripe_id
    known, now_ms = await desk.ask(desk.payments.get, given)
    if known is not None and known.is_current:
        return _told(known)
    if given.startswith(MOCK_PREFIX):
        raise Problem("not_found", "The mock made no payment of this id.")
    if desk.settings.mode is Mode.NONE or (await desk.ask(desk.circuit.look)).open:
        return _last_seen(known)
    return await _ask_stripe(request, given, known, now_ms, seconds)


async def _ask_stripe(request: Request, payment_intent_id: str, known: KnownPayment | None, now_ms: int,
                      seconds: int) -> Response:
    """One job a payment and window, whoever asks: so polling costs Stripe no more than that."""
    desk = deps.desk(request)
    new = status_refresh_job(desk.ids, payment_intent_id=payment_intent_id, window=refresh_window(now_ms),
                             caller=deps.caller(request), settings=desk.settings)
    with desk.waiters.watch(new.id) as watch:
        accepted = await accept_and_hint(desk, new)
        job = await watch.until_it_rests(accepted.job, lambda: desk.ask(desk.store.get, new.id), seconds)
    if job.status is Status.SUCCEEDED:
        seen, _ = await desk.ask(desk.payments.get, payment_intent_id)
        return _last_seen(seen) if seen is None or not seen.is_current else _told(seen)
    if job.status is not Status.FAILED:
        return ticket(job)
    if job.error is not None and job.error["code"] != _UNANSWERED:
        raise failure(job, {})
    return _last_seen(known)


def _given(request: Request) -> str:
    given = read_query(request, (_PARAMETER,)).get(_PARAMETER)
    if given is None:
        raise _refused("missing_field", "This field is required.")
    if _ID.fullmatch(given) is None:
        raise _refused("id_format", "Give the id of a payment intent (pi_…) or of a job (job_…).")
    return given


def _refused(code: str, sentence: str) -> Problem:
    return Problem(code, sentence, errors=[{"pointer": f"/{_PARAMETER}", "code": code, "message": sentence}])


async def _own_job(request: Request, job_id: str) -> Job:
    job = await deps.desk(request).ask(deps.desk(request).store.get, job_id)
    if job is None or job.caller != deps.caller(request):
        raise JobNotFound("There is no job with this id.")
    return job


async def _rested(desk: deps.Desk, job: Job, seconds: int) -> Job:
    with desk.waiters.watch(job.id) as watch:
        return await watch.until_it_rests(job, lambda: desk.ask(desk.store.get, job.id), seconds)


def _without_payment(job: Job) -> Response:
    if job.status is Status.FAILED:
        raise failure(job, {})
    if job.status.final:
        raise Problem("not_found", "This job made no payment.")
    return ticket(job)


def _last_seen(known: KnownPayment | None) -> Response:
    """What was seen when Stripe last said something; without that nothing can be said."""
    if known is None:
        raise Problem(_UNANSWERED, "Stripe cannot be asked now, and the desk has not seen this payment.")
    return _told(known, stale=True)


def _told(known: KnownPayment, *, stale: bool = False) -> Response:
    shown: dict[str, Any] = {
        "success": True, "payment_intent_id": known.id, "status": known.status,
        "amount": dollars_number(known.amount_cents), "amount_received": dollars_number(known.received_cents),
        "currency": known.currency, "as_of": timestamp(known.as_of_ms)}
    if known.is_mock:
        shown["mock_mode"] = True
    if stale:
        shown["stale"] = True
    return answer(shown, headers={"Paydesk-Mode": "mock"} if known.is_mock else None)

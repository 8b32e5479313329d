"""How a payment stands: from our record while that is current, else asked of Stripe by a paced job; never invented."""

import asyncio
import re
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import Response

from api import deps, openapi
from api.answers import answer, failure, ticket
from api.body import header_values, read_query
from api.jobs import own_job
from api.payments import accept_and_hint
from api.problems import Problem
from api.waiting import preferred_wait
from shared.jobs import Job, Mode, NewJob, Status, timestamp
from shared.money import dollars_number
from shared.payments import MOCK_PREFIX, KnownPayment, refresh_window
from shared.stripe_params import status_refresh_job

PAYMENT_STATUS = "/api/stripe/payment-status"

_PARAMETER = "payment_intent_id"
_ID = re.compile(r"(?:pi|job)_[A-Za-z0-9_]{1,64}", re.ASCII)
_WAIT_SECONDS = 10
"""A GET that returns a ticket helps nobody, so it waits by itself."""
_WINDOWS_BACK = 3
"""For so many windows a job may wait for its slot of the budget; until it has ended nobody needs another."""
_UNANSWERED = "stripe_unavailable"
_SECRET = "_secret_"  # noqa: S105  # the mark of one


def add_routes(app: FastAPI) -> None:
    """Add the route that tells how a payment stands."""
    app.add_api_route(PAYMENT_STATUS, payment_status, methods=["GET"], **openapi.PAYMENT_STATUS)


async def payment_status(request: Request) -> Response:
    """How a payment stands, by its id or its job's. When Stripe cannot say, what was last seen, marked `stale`."""
    desk, asked = deps.desk(request), _Asked.of(request)
    payment_intent_id = asked.id
    if asked.id.startswith("job_"):
        job = await _rested(desk, await own_job(request, asked.id), asked)
        if job.stripe_id is None or not job.stripe_id.startswith("pi_"):
            return _without_payment(job)
        payment_intent_id = job.stripe_id
    known, now_ms = await desk.ask(desk.payments.get, payment_intent_id)
    if known is not None and known.is_current:
        return _told(known, asked)
    if payment_intent_id.startswith(MOCK_PREFIX):
        raise Problem("not_found", "The mock made no payment of this id.")
    if desk.settings.mode is Mode.NONE or (await desk.ask(desk.circuit.look)).open:
        return _last_seen(known, asked)
    return await _ask_stripe(desk, await _looking_job(request, payment_intent_id, now_ms), known, asked)


async def _looking_job(request: Request, payment_intent_id: str, now_ms: int) -> NewJob | Job:
    """The one job that looks at a payment, whoever asks: this window's, or an earlier one that had not ended."""
    desk, window = deps.desk(request), refresh_window(now_ms)
    earlier = await asyncio.gather(*(
        desk.ask(desk.store.get, desk.ids.status_refresh(payment_intent_id, window - back))
        for back in range(1, _WINDOWS_BACK + 1)))
    for begun in earlier:
        if begun is not None and (begun.finished_ms is None or begun.finished_ms >= now_ms):
            return begun
    return status_refresh_job(desk.ids, payment_intent_id=payment_intent_id, window=window,
                              caller=deps.caller(request), settings=desk.settings)


async def _ask_stripe(desk: deps.Desk, looking: NewJob | Job, known: KnownPayment | None, asked: "_Asked") -> Response:
    with desk.waiters.watch(looking.id) as watch:
        job = (await accept_and_hint(desk, looking)).job if isinstance(looking, NewJob) else looking
        job = await watch.until_it_rests(job, lambda: desk.ask(desk.store.get, job.id), asked.seconds_left)
    if not job.status.awaits_nobody:
        return ticket(job)
    seen, _ = await desk.ask(desk.payments.get, looking.request["payment_intent_id"])
    if seen is not None:
        return _told(seen, asked, stale=not seen.is_current)
    if job.status is Status.FAILED and job.error is not None and job.error["code"] != _UNANSWERED:
        raise failure(job, {})
    return _last_seen(known, asked)


@dataclass(frozen=True, slots=True)
class _Asked:
    """The question: an id, and until when its answer is waited for."""

    id: str
    preferred_seconds: int | None
    until: float

    @classmethod
    def of(cls, request: Request) -> "_Asked":
        """Read it. Raises Problem."""
        given = _given(request)
        preferred = preferred_wait(header_values(request, b"prefer"))
        seconds = _WAIT_SECONDS if preferred is None else preferred
        return cls(given, preferred, asyncio.get_running_loop().time() + seconds)

    @property
    def seconds_left(self) -> float:
        """Of the whole wait, however many jobs are waited for."""
        return max(0.0, self.until - asyncio.get_running_loop().time())

    @property
    def headers(self) -> dict[str, str]:
        """What an answer says of the wait."""
        applied = {} if self.preferred_seconds is None else {"Preference-Applied": f"wait={self.preferred_seconds}"}
        return {"Vary": "Prefer", **applied}


def _given(request: Request) -> str:
    given = read_query(request, (_PARAMETER,)).get(_PARAMETER)
    if given is None:
        raise _refused("missing_field", "This field is required.")
    if _SECRET in given:
        raise _refused("secret_refused", "This is a client_secret; give the id alone, which is the part before it.")
    if _ID.fullmatch(given) is None:
        raise _refused("id_format", "Give the id of a payment intent (pi_…) or of a job (job_…).")
    return given


def _refused(code: str, sentence: str) -> Problem:
    return Problem(code, sentence, errors=[{"pointer": f"/{_PARAMETER}", "code": code, "message": sentence}])


async def _rested(desk: deps.Desk, job: Job, asked: _Asked) -> Job:
    with desk.waiters.watch(job.id) as watch:
        return await watch.until_it_rests(job, lambda: desk.ask(desk.store.get, job.id), asked.seconds_left)


def _without_payment(job: Job) -> Response:
    if job.status is Status.FAILED:
        raise failure(job, {})
    if job.status.final:
        raise Problem("not_found", "This job made no payment.")
    return ticket(job)


def _last_seen(known: KnownPayment | None, asked: _Asked) -> Response:
    """What was seen when Stripe last said something; without that nothing can be said."""
    if known is None:
        raise Problem(_UNANSWERED, "Stripe cannot be asked now, and the desk has not seen this payment.")
    return _told(known, asked, stale=True)


def _told(known: KnownPayment, asked: _Asked, *, stale: bool = False) -> Response:
    shown: dict[str, Any] = {
        "success": True, "payment_intent_id": known.id, "status": known.status,
        "amount": dollars_number(known.amount_cents), "amount_received": dollars_number(known.received_cents),
        "currency": known.currency, "as_of": timestamp(known.as_of_ms)}
    if known.is_mock:
        shown["mock_mode"] = True
    if stale:
        shown["stale"] = True
    return answer(shown, headers=asked.headers | ({"Paydesk-Mode": "mock"} if known.is_mock else {}))

"""How a job is answered: as the job itself, or, to a client that waited, as its result or its failure."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.responses import Response

from api.problems import Problem, failure_meaning
from shared.jobs import Job, Status, job_path

JSON = "application/json"
_compact_json = json.JSONEncoder(separators=(",", ":")).encode


def answer(shown: Mapping[str, Any], status: HTTPStatus = HTTPStatus.OK,
           headers: Mapping[str, str] | None = None) -> Response:
    """JSON in ASCII, which no client can misread."""
    return Response(_compact_json(shown), status, headers, JSON)


def polled(job: Job) -> Response:
    """A job that was asked for."""
    return answer(job.wire(), HTTPStatus.OK, _mode(job) | ({} if job.status.final else {"Retry-After": "1"}))


def submitted(job: Job, *, replayed: bool, waited: bool, preferred_seconds: int | None) -> Response:
    """A submission's answer: 202 and the job; to a client that waited, the result. Raises Problem for a failure."""
    headers = {"Location": job_path(job.id), "Vary": "Prefer"} | _mode(job)
    if replayed:
        headers["Idempotent-Replayed"] = "true"
    if preferred_seconds is not None:
        headers["Preference-Applied"] = f"wait={preferred_seconds}"
    if waited:
        match job.status:
            case Status.SUCCEEDED | Status.PENDING if job.result is not None:
                return answer(job.result, HTTPStatus.OK, headers)
            case Status.FAILED | Status.CANCELED:
                raise failure(job, headers)
    return answer(job.wire(), HTTPStatus.ACCEPTED, headers | {"Retry-After": "1"})


def ticket(job: Job) -> Response:
    """202 and the job that somebody waited for in vain."""
    return submitted(job, replayed=False, waited=False, preferred_seconds=None)


def failure(job: Job, headers: Mapping[str, str]) -> Problem:
    """The problem of a job that ended without its result."""
    known: Mapping[str, Any] = {"code": "canceled", "message": "The job was canceled."}
    if job.status is Status.FAILED:
        known = job.error or {"code": "failed", "message": "The job failed."}
    intent = job.stripe_id if job.stripe_id and job.stripe_id.startswith("pi_") else None
    more = {"job_id": job.id, "decline_code": known.get("decline_code"), "payment_intent_id": intent}
    return Problem(known["code"], known["message"], headers=headers, more=more, meaning=failure_meaning(known))


def _mode(job: Job) -> dict[str, str]:
    return {"Paydesk-Mode": "mock"} if job.mock_mode else {}

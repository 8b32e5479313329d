"""Asking for jobs: one, with a long poll, or the list of the newest; and having Stripe asked again about one."""

import re
from enum import StrEnum
from typing import TypeVar

from fastapi import FastAPI, Request
from starlette.responses import Response

from api import deps, openapi
from api.answers import answer, polled, ticket
from api.body import read_query, refused_parameter
from api.waiting import LONGEST_WAIT_SECONDS, wait_seconds
from shared.errors import JobNotFound
from shared.jobs import Job, Kind, Status
from shared.operator import WHO_MOST, Signed

JOB = "/api/jobs/{job_id}"
JOBS = "/api/jobs"
ASK_AGAIN = "/api/jobs/{job_id}/ask-again"

_LIMIT = 10
_GREATEST_LIMIT = 100
_JOB_ID = re.compile(r"job_[a-z2-7]{32}")

_Choice = TypeVar("_Choice", bound=StrEnum)


def add_routes(app: FastAPI) -> None:
    """Add the routes that show jobs and ask again."""
    app.add_api_route(JOB, get_job, methods=["GET"], **openapi.GET_JOB)
    app.add_api_route(JOBS, list_jobs, methods=["GET"], **openapi.LIST_JOBS)
    app.add_api_route(ASK_AGAIN, ask_again, methods=["POST"], **openapi.ASK_AGAIN)


async def get_job(request: Request) -> Response:
    """A job as it stands. With `wait`, as soon as it is final, pending or parked, else after that many seconds."""
    desk, job_id = deps.desk(request), request.path_params["job_id"]
    seconds = _wait(read_query(request, ("wait",)).get("wait"))

    async def read() -> Job:
        return await own_job(request, job_id)

    if not seconds:
        return polled(await read())
    with desk.waiters.watch(job_id) as watch:
        return polled(await watch.until_it_rests(await read(), read, seconds))


async def list_jobs(request: Request) -> Response:
    """The newest jobs, filtered by `status` and `kind`; `starting_after` goes on behind a job."""
    desk = deps.desk(request)
    query = read_query(request, ("status", "kind", "limit", "starting_after"))
    limit = _limit(query.get("limit"))
    status, kind = _choice(Status, "status", query), _choice(Kind, "kind", query)
    after = query.get("starting_after")
    if after is not None:
        try:
            await own_job(request, after)
        except JobNotFound:
            raise refused_parameter("starting_after", "There is no such job to go on from.") from None
    page = await desk.ask(desk.store.page, caller=deps.caller(request), limit=limit, status=status, kind=kind,
                          starting_after=after)
    if page is None:
        raise refused_parameter("starting_after", "There is no such job to go on from.")
    return answer({"object": "list", "data": [job.wire() for job in page.jobs], "has_more": page.has_more})


async def ask_again(request: Request) -> Response:
    """Ask Stripe again, now and under the same key, about a job that is unknown or parked.

    Asked twice, it is done once: what was asked again is answered as it now stands.
    """
    desk, job_id = deps.desk(request), request.path_params["job_id"]
    read_query(request, ())
    await own_job(request, job_id)
    signed = Signed(deps.caller(request)[:WHO_MOST], "asked again over the API")
    await desk.ask(desk.operator.ask_again, job_id, signed)
    return ticket(await own_job(request, job_id))


async def own_job(request: Request, job_id: str) -> Job:
    """The caller's job of this id. Raises JobNotFound also for another's, which must look like one that never was."""
    desk = deps.desk(request)
    job = await desk.ask(desk.store.get, job_id) if _JOB_ID.fullmatch(job_id) else None
    if job is None or job.caller != deps.caller(request):
        raise JobNotFound("There is no job with this id.")
    return job


def _wait(given: str | None) -> int | None:
    if given is None:
        return None
    seconds = wait_seconds(given)
    if seconds is None:
        raise refused_parameter("wait", f"Wait a whole number of seconds, at most {LONGEST_WAIT_SECONDS}.")
    return seconds


def _limit(given: str | None) -> int:
    if given is None:
        return _LIMIT
    if not re.fullmatch(r"[0-9]{1,3}", given, re.ASCII) or not 1 <= int(given) <= _GREATEST_LIMIT:
        raise refused_parameter("limit", f"The limit is a number from 1 to {_GREATEST_LIMIT}.")
    return int(given)


def _choice(choices: type[_Choice], name: str, query: dict[str, str]) -> _Choice | None:
    if name not in query:
        return None
    try:
        return choices(query[name])
    except ValueError:
        raise refused_parameter(name, f"Choose one of: {', '.join(choices)}.") from None

"""create_app: the composition root of the front door, `uvicorn --factory api.main:create_app`."""

import asyncio
import gc
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.routing import Match

from api import health, jobs, openapi, payment_status, payments, problems, stats
from api.call_log import Call, CallLog, LoggedCalls
from api.cors import Cors
from api.deps import Desk
from api.hints import Hints
from api.problems import Problem
from api.surface import Surface
from api.waiting import Waiters
from shared import failpoints
from shared.broker import Backlog, Hinter, create_celery
from shared.circuit import Circuit
from shared.epoch import STAMP_FILE, Epoch
from shared.errors import PaydeskError, SettingsRefused, WrongSecret
from shared.events import Events
from shared.ids import Ids
from shared.ledger import Ledger
from shared.logs import configure_logging
from shared.operator import Operator
from shared.payments import Payments
from shared.redis_calls import RedisCalls
from shared.settings import Settings
from shared.store import JobStore

EXIT_REFUSED = 78

_STORE_SECONDS = 1.0
_GC_THRESHOLDS = (20_000, 20, 50)
"""A request makes hundreds of objects and no cycles to speak of: by default an eighth of the time goes into looking."""

MAKES_SOMETHING_ON_GET = (payments.PAYMENT_INTENT,)


def create_app(settings: Settings | None = None) -> FastAPI:
    """The front door for these settings. Without any, it is a process of its own: it reads them from the environment,
    writes its log, and ends with one sentence and exit code 78 when it must not start.
    """
    refuse: Callable[[PaydeskError], None] = _raise
    if settings is None:
        configure_logging("web")
        refuse = _end_process
        gc.set_threshold(*_GC_THRESHOLDS)
        try:
            settings = Settings.load()
        except SettingsRefused as refused:
            refuse(refused)
            raise
    failpoints.arm(settings.failpoints)
    call_log = CallLog()
    app = FastAPI(title="Paydesk", openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False,
                  default_response_class=Response, generate_unique_id_function=lambda route: route.name,
                  lifespan=_lifespan(settings, refuse, call_log),
                  middleware=[Middleware(Cors, origins=settings.cors_origins), Middleware(LoggedCalls, calls=call_log),
                              Middleware(Surface, without_head=MAKES_SOMETHING_ON_GET)])
    app.router.route_class = DirectRoute
    for part in (payments, payment_status, jobs, stats, health, openapi):
        part.add_routes(app)
    app.add_exception_handler(Problem, _tell_problem)
    app.add_exception_handler(PaydeskError, _tell_fault)
    app.add_exception_handler(HTTPException, _tell_http)
    return app


class DirectRoute(APIRoute):
    """A route whose function takes the request and makes the response, so nothing has to stand in between."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The function itself."""
        handler: Callable[[Request], Coroutine[Any, Any, Response]] = self.endpoint
        return handler


def _lifespan(settings: Settings, refuse: Callable[[PaydeskError], None], call_log: CallLog,
              ) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    ids = Ids(settings.instance_secret())

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            desk = app.state.desk = await _open(settings, ids, stack)
            try:
                await desk.ask(desk.calls.call, "PING")
            except WrongSecret as wrong:
                refuse(wrong)
            except PaydeskError:
                pass  # it is away or full; asked again with every request
            # Only now: a store that is nobody's yet has no epoch, and would seem to be lost.
            for task in map(asyncio.create_task, (desk.hints.watch(), desk.waiters.listen(), desk.epoch.watch())):
                stack.push_async_callback(_end, task)
            events = Events(desk.calls)

            async def write(calls: list[Call]) -> None:
                await desk.ask(events.add_calls, calls)

            stack.push_async_callback(call_log.write_left, write)
            stack.push_async_callback(_end, asyncio.create_task(call_log.write_on(write)))
            yield

    return lifespan


async def _open(settings: Settings, ids: Ids, stack: AsyncExitStack) -> Desk:
    """Build the desk; the stack closes what is opened here, the last first."""
    calls = RedisCalls.connect(settings.redis_url.get_secret_value(), deadline_seconds=_STORE_SECONDS)
    stack.push_async_callback(calls.close)
    broker = RedisCalls.connect(settings.broker_url.get_secret_value(), deadline_seconds=_STORE_SECONDS)
    stack.push_async_callback(broker.close)
    celery = create_celery(settings.broker_url.get_secret_value())
    stack.callback(celery.close)
    hinter = Hinter(celery)
    hinter.start()
    stack.push_async_callback(asyncio.to_thread, hinter.stop)
    circuit = Circuit(calls)
    epoch = Epoch(calls, ids, settings.data_dir / STAMP_FILE)
    hints = Hints(settings, hinter, Backlog(broker), circuit)
    waiters = Waiters(settings.redis_url.get_secret_value())
    return Desk(settings=settings, ids=ids, calls=calls, broker=broker, epoch=epoch, store=JobStore(calls),
                operator=Operator(calls), payments=Payments(calls), ledger=Ledger(calls), circuit=circuit, hints=hints,
                waiters=waiters)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})


def _raise(refused: PaydeskError) -> None:
    raise refused


def _end_process(refused: PaydeskError) -> None:
    """The server would make a trace and another exit code of an exception; nothing has begun that needs an end."""
    sys.stderr.write(f"paydesk: {refused}\n")
    sys.stderr.flush()
    os._exit(EXIT_REFUSED)


async def _tell_problem(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, Problem)  # noqa: S101  # that is what it is registered for
    return problems.response(problem, request.scope)


async def _tell_fault(request: Request, fault: Exception) -> Response:
    assert isinstance(fault, PaydeskError)  # noqa: S101  # that is what it is registered for
    return problems.response(problems.of_fault(fault), request.scope)


async def _tell_http(request: Request, refusal: Exception) -> Response:
    """What the framework refuses by itself: an unknown address or method."""
    assert isinstance(refusal, HTTPException)  # noqa: S101  # that is what it is registered for
    if refusal.status_code == 405:
        allow = ", ".join(_methods(request))
        problem = Problem("method_not_allowed", f"The methods here are: {allow}.", headers={"Allow": allow})
    elif refusal.status_code == 404:
        problem = Problem("not_found", "There is nothing at this address.")
    else:
        problem = Problem("bad_request", "The request cannot be read.")
    return problems.response(problem, request.scope)


def _methods(request: Request) -> list[str]:
    """The methods of every route at this address, not only of the first."""
    found: set[str] = set()
    for route in request.app.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            found |= route.methods
    if "GET" in found and request.scope["path"] not in MAKES_SOMETHING_ON_GET:
        found.add("HEAD")
    return sorted(found)

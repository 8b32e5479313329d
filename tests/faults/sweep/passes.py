"""What a forked process of the sweep does: a submission at the front door, or one round of a worker."""

import contextlib
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx2

from api.main import create_app
from shared.broker import Backlog, Hinter, create_celery
from shared.circuit import Circuit
from shared.epoch import STAMP_FILE, Epoch
from shared.errors import StoreUnavailable
from shared.events import Events, Log
from shared.ids import Ids
from shared.jobs import Lane
from shared.settings import STRIPE_API_VERSION, Settings
from tests.shared.moved_clock import MovedClock
from worker.desk import Desk
from worker.feeder import Feeder
from worker.log_file import LogFolder
from worker.log_follower import FollowedLog
from worker.loop import work
from worker.main import STORE_DEADLINE_SECONDS, create_desk
from worker.progress import Progress
from worker.reconcile import Reconcile
from worker.reconcile_rounds import ReconcileRounds
from worker.stripe_http import StripeHTTP
from worker.stripe_processor import StripeProcessor

PATIENT_SECONDS = 10.0
IMPATIENT_SECONDS = 0.3
"""For calls that would hang for ever. An answer that comes later is one more lost answer, which harms nobody."""

_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""The stand-in speaks plain HTTP; reading the real list of authorities would take longer than the whole round."""


@dataclass(frozen=True, slots=True)
class Submission:
    """What a client sends, and again if it gets no answer."""

    path: str
    body: dict[str, Any]
    key: str


async def submit(settings: Settings, submission: Submission, arm: Callable[[], None],
                 answered: Callable[[int], None]) -> None:
    """The front door from its start to its end, and a client that submits and polls; `answered` is told the status."""
    app = create_app(settings)  # arms what its settings say, which is nothing
    arm()
    async with (app.router.lifespan_context(app),
                httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://desk", timeout=20) as client):
        response = await client.post(submission.path, json=submission.body,
                                     headers={"Idempotency-Key": submission.key})
        answered(response.status_code)
        if "Location" in response.headers:
            await client.get(response.headers["Location"])


async def work_once(settings: Settings, name: str, arm: Callable[[], None], *, patience_seconds: float) -> None:
    """One round of a worker from its start to its end: a tick, what that hints, a comparison, the logs."""
    arm()
    calls = MovedClock.connect(settings.redis_url.get_secret_value(), deadline_seconds=STORE_DEADLINE_SECONDS)
    circuit = Circuit(calls)
    desk = _impatient(create_desk(settings, calls, circuit, worker=name), settings, patience_seconds)
    hinter = TakenHints(create_celery(settings.broker_url.get_secret_value()))
    epoch = Epoch(calls, Ids(settings.instance_secret()), settings.data_dir / STAMP_FILE)
    feeder = Feeder(epoch=epoch, store=desk.store, backlog=Backlog(calls),
                    hinter=hinter, reachability=desk.reachability, progress=Progress(settings.worker_threads),
                    threads=settings.worker_threads,
                    calls_per_second=settings.hinted_per_second)
    await _unless_away(feeder.tick)
    for job_ids in hinter.taken():
        await _unless_away(partial(work, desk, Lane.INTERACTIVE, job_ids))
    if isinstance(desk.stripe, StripeProcessor):
        rounds = ReconcileRounds(desk, Reconcile(desk, desk.stripe, calls, pauses=()), epoch)
        await rounds.tick()
    await _unless_away(lambda: _follow(Events(calls), settings.data_dir / "logs"))
    await _unless_away(lambda: circuit.leave(name))
    if desk.stripe is not None:
        await desk.stripe.close()
    await calls.close()


class TakenHints(Hinter):
    """Hints that this process takes itself: what the broker would do with them is no part of the sweep."""

    def taken(self) -> list[list[str]]:
        """The jobs of every hint that was given."""
        found = []
        while not self._queue.empty():
            hint = self._queue.get_nowait()
            if hint is not None:
                found.append(hint[2])
        return found


def _impatient(desk: Desk, settings: Settings, patience_seconds: float) -> Desk:
    if settings.stripe_secret_key is None:
        return desk
    http = StripeHTTP(total_seconds=patience_seconds, tls=_NO_TLS)
    return replace(desk, stripe=StripeProcessor(
        api_key=settings.stripe_secret_key.get_secret_value(), api_base=settings.stripe_api_base,
        api_version=STRIPE_API_VERSION, http=http, call_seconds=patience_seconds + 1))


async def _follow(events: Events, folder_path: Path) -> None:
    folder = LogFolder(folder_path)
    folder.hold()
    try:
        for which in Log:
            await FollowedLog(events, folder, which).catch_up()
    finally:
        folder.let_go()


async def _unless_away(do: Callable[[], Awaitable[object]]) -> None:
    """What a worker cannot do while the store is away it does another time."""
    with contextlib.suppress(StoreUnavailable):
        await do()

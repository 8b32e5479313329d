"""What sending again cannot end: the desk's own comparison with Stripe's list, as its workers do it twelve hours on."""

import asyncio
import contextlib
import time

from drill.desk import KEY, SECRET, DrilledDesk
from drill.desk import LOOPBACK as HOST
from shared.circuit import Circuit
from shared.errors import PaydeskError
from shared.reconcile_state import LeaseLost, Progress, Run
from shared.redis_calls import ROOT
from shared.settings import Settings
from shared.store import BLIND_RESEND_MS
from worker.main import create_desk
from worker.reconcile import Reconcile
from worker.stripe_processor import StripeProcessor

MARGIN_MS = -5_000
"""Everything is compared, also what was made a moment ago: nothing is under way."""
HOLD_SECONDS = 120.0
"""For a worker that compares by itself at this moment."""
_LONG_AGO_MS = BLIND_RESEND_MS + 3_600_000
_DAY_MS = 24 * 3_600_000


class NotCompared(PaydeskError):
    """The comparison with Stripe's list did not come to its end."""

    code = "not_compared"


async def end_by_the_list(desk: DrilledDesk) -> list[str]:
    """Let twelve hours pass for what is unknown, end it by Stripe's list, and compare everything; answers what differs.

    Only the stamps of the first send are put back: the drill's store has nobody else's jobs, and nobody can wait.
    """
    settings = Settings.load(_env_file=None, stripe_secret_key=KEY, secret=SECRET, stripe_rate_per_second=1000.0,
                             stripe_api_base=f"http://{HOST}:{desk.stripe_port}")
    own = create_desk(settings, desk.calls, Circuit(desk.calls), worker="drill")
    if not isinstance(own.stripe, StripeProcessor):
        raise NotCompared("A desk with a key has no Stripe.")
    try:
        return await _compare(desk, Reconcile(own, own.stripe, desk.calls, margin_ms=MARGIN_MS))
    finally:
        await own.stripe.close()


async def _compare(desk: DrilledDesk, reconcile: Reconcile) -> list[str]:
    """Until nothing is unfinished: a job may be sent once more before its twelve hours are over."""
    deadline = time.monotonic() + HOLD_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(LeaseLost):
            async with reconcile.holding() as held:
                if held:
                    await _let_hours_pass(desk)
                    await reconcile.give_up()
                    if await desk.unfinished() == 0:
                        return await _left(reconcile)
        await asyncio.sleep(1)
    raise NotCompared("Stripe's list does not end what is unfinished, or another process compares and does not end.")


async def _let_hours_pass(desk: DrilledDesk) -> None:
    long_ago_ms = time.time_ns() // 1_000_000 - _LONG_AGO_MS
    await asyncio.gather(*(desk.calls.call("HSET", f"{ROOT}job:{job_id}", "first_sent_ms", long_ago_ms)
                           for job_id in await desk.unknown()))


async def _left(reconcile: Reconcile) -> list[str]:
    """What differs, nothing mended: by now there is to be nothing."""
    since_ms = (await reconcile.state.look()).now_ms - _DAY_MS
    progress: Progress = await reconcile.run(Run.ASKED, since_ms=since_ms, fix=False, asked="drill")
    if not progress.complete:
        return [f"reconcile: not complete ({progress.stopped_by})"]
    return [f"reconcile: {count} {kind}" for kind, count in progress.found.items()]

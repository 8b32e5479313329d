"""Looks at pending payments: when the next one is due, and the cancel of those that nobody finished in seven days."""

import asyncio

from shared.failpoints import failpoint
from shared.jobs import Job, Kind
from shared.results import Payment
from worker.desk import Desk
from worker.facts import is_overdue
from worker.processor import Mismatch, NotSent, Outcome, Processor, Refused, Settled

LOOK_AGAIN_MS = 60_000
"""After a look that nobody answered."""
_LEASE_LEFT = 0.75
"""Of a lease, before another call is made under it: one that hangs must end within it."""
_CANCELABLE = "requires_"
"""How the statuses begin in which Stripe lets a payment be canceled (docs.stripe.com/api/payment_intents/cancel); one
that is `processing` may still be paid."""


async def look(desk: Desk, job: Job, stripe: Processor) -> Outcome:
    """How a pending job's payment stands at Stripe; one that nobody finished in seven days is canceled there first.

    Every call but the first takes a slot of the budget for itself. Whatever Stripe does not tell is asked again later.
    """
    ends = desk.machine.lease_seconds() + desk.terms.lease_ms / 1000
    failpoint("look.before")
    outcome = await stripe.look(job)
    failpoint("look.after")
    if not _is_given_up(job, outcome, desk.machine.wall_ms()):
        return outcome
    if not await _may_call(desk, job, ends):
        return NotSent("no_slot")
    failpoint("cancel.before")
    outcome = await stripe.cancel(job)
    failpoint("cancel.after")
    # Refused: it was paid in between, or somebody else canceled it. Only another look tells, and that is recorded.
    if isinstance(outcome, Refused | Mismatch):
        return await stripe.look(job) if await _may_call(desk, job, ends) else NotSent("no_slot")
    return outcome


def _is_given_up(job: Job, outcome: Outcome, now_ms: int) -> bool:
    """Only what is certainly this job's own is canceled; anything else is for a human to see."""
    if not isinstance(outcome, Settled) or not isinstance(outcome.made, Payment):
        return False
    made, ours = outcome.made, (job.id, job.stripe_id, job.amount_cents, job.currency)
    return (job.kind is Kind.CHARGE and (made.job_id, made.id, made.amount_cents, made.currency) == ours
            and made.status.startswith(_CANCELABLE) and is_overdue(job, now_ms=now_ms))


async def _may_call(desk: Desk, job: Job, ends: float) -> bool:
    slots = await desk.pacing.reserve(job.lane, 1)
    await asyncio.sleep(slots.first_in_seconds if slots.granted else 0)
    return bool(slots.granted) and ends - desk.machine.lease_seconds() > _LEASE_LEFT * desk.terms.lease_ms / 1000

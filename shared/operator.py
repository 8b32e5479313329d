"""What a human may do to a job that the desk cannot end by itself: ask again, or say how it ended. Each is audited."""

import json
from dataclasses import dataclass
from enum import StrEnum

from shared.errors import JobNotFound, StateConflict, TooOldToResend
from shared.ids import token
from shared.jobs import Status, job_error
from shared.redis_calls import ROOT, RedisCalls
from shared.store import BLIND_RESEND_MS

AUDIT_STREAM = f"{ROOT}audit"
"""Every step that an operator took, oldest first; never trimmed."""

WHO_MOST, WHY_MOST = 64, 500
"""Characters of a name and of a reason."""

RESOLVED = job_error("resolved_as_failed", "Whoever runs the desk looked into this job and ended it as failed.")
"""What a client is told; the operator's own words stay in the audit."""

_DEADLINE_SECONDS = 1.5
_SAID = {
    "queued": "waiting for its first attempt", "running": "being worked right now",
    "retrying": "going to be tried again by itself", "pending": "at Stripe, waiting for the customer or the bank",
    "unknown": "in doubt; the desk asks Stripe again by itself",
    "succeeded": "final, it succeeded", "failed": "final, it failed", "canceled": "final, it was canceled",
    "parked": "parked"}


class Verb(StrEnum):
    """What an operator does."""

    ASK_AGAIN = "ask_again"
    RESOLVE = "resolve"


@dataclass(frozen=True, slots=True)
class Signed:
    """Who does it and why, as it stands in the audit. Raises ValueError for what cannot stand there.

    `why` must name no customer: the audit is kept for ever.
    """

    who: str
    why: str

    def __post_init__(self) -> None:
        for name, text, most in (("name", self.who, WHO_MOST), ("reason", self.why, WHY_MOST)):
            if not (text.strip() and text.isprintable() and len(text) <= most):
                raise ValueError(f"The {name} must be one line of 1 to {most} characters.")


class Operator:
    """A human's hands on one desk's jobs. Each method is one atomic step, and safe to say again."""

    def __init__(self, calls: RedisCalls) -> None:
        self._calls = calls

    async def ask_again(self, job_id: str, signed: Signed) -> Status:
        """Make an unknown or parked job due now, under its own key; answers how it stands then.

        A parked one goes on where it was: `unknown` in doubt, `pending` if its object is known, else `retrying`. One
        that was asked again before and is under way or has ended since is left alone. Raises JobNotFound,
        StateConflict, TooOldToResend, StoreUnavailable.
        """
        return await self._operate(Verb.ASK_AGAIN, job_id, signed, confirmed_at_stripe=False)

    async def resolve_as_failed(self, job_id: str, signed: Signed, *, confirmed_at_stripe: bool = False) -> Status:
        """End a parked job as failed, for good.

        One in doubt only if somebody looked at Stripe first. If Stripe says otherwise later, its money is booked and
        the job says so. Raises JobNotFound, StateConflict, StoreUnavailable.
        """
        return await self._operate(Verb.RESOLVE, job_id, signed, confirmed_at_stripe=confirmed_at_stripe)

    async def _operate(self, verb: Verb, job_id: str, signed: Signed, *, confirmed_at_stripe: bool) -> Status:
        said, status = await self._calls.script_until_answered(
            _DEADLINE_SECONDS, "operate", verb, job_id, token(), signed.who, signed.why,
            "1" if confirmed_at_stripe else "0", BLIND_RESEND_MS, json.dumps(RESOLVED))
        match said:
            case "missing":
                raise JobNotFound("There is no job with this id.")
            case "conflict":
                wanted = "an unknown or a parked" if verb is Verb.ASK_AGAIN else "a parked"
                raise StateConflict(f"The job is {status} ({_SAID[status]}); only {wanted} one can be helped so.")
            case "too_old":
                raise TooOldToResend("The job was first sent over 12 hours ago: Stripe may have forgotten its key, and "
                                     "asking again might charge twice. It waits for reconciliation.")
            case "in_doubt":
                raise StateConflict("The job is parked and in doubt: Stripe may have it. Look at Stripe first, for "
                                    f"metadata paydesk_job_id = {job_id}; if nothing is there, confirm that.")
        return Status(status)

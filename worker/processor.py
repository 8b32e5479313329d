"""The protocol of who answers a job, Stripe or the mock, and every outcome that an answer can have."""

from dataclasses import dataclass
from typing import Protocol

from shared.jobs import Job
from shared.results import Customer, Payment


@dataclass(frozen=True, slots=True)
class Settled:
    """The processor has the object: a fact."""

    made: Payment | Customer
    client_secret: str | None = None


@dataclass(frozen=True, slots=True)
class Declined:
    """The bank said no (Stripe's 402), saved at Stripe under the job's key: a fact, and no money moved."""

    code: str
    message: str
    decline_code: str | None = None
    request_id: str | None = None
    payment: Payment | None = None
    """The intent that stands at Stripe without money, when the answer names it."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The processor will not do it (400, 404, 401, 403 …)."""

    code: str
    message: str
    http_status: int
    request_id: str | None = None

    @property
    def about_the_key(self) -> bool:
        """Whether it says nothing of the job, only of the key: then it proves nothing about an earlier attempt."""
        return self.http_status in (401, 403)


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The processor knows the job's key with other parameters: a human must look."""

    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class NotSent:
    """Proof that no byte of this attempt's request left this process. `reason` names the failure, for people."""

    reason: str


@dataclass(frozen=True, slots=True)
class Throttled:
    """Stripe's limiter turned the request away before it was looked at (429): not sent, and Stripe is there."""

    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Unknown:
    """The request may have arrived: a timeout, a dropped or garbled answer, 5xx, 409. Never guessed from here."""

    reason: str
    request_id: str | None = None
    answered: bool = False
    """Whether Stripe itself answered (5xx, 409), as opposed to silence: then it is reachable."""


Outcome = Settled | Declined | Refused | Mismatch | NotSent | Throttled | Unknown


class Processor(Protocol):
    """Who answers jobs. No call ever raises for what the other side does: every failure is an outcome.

    Each finishes within a deadline well under the lease.
    """

    async def send(self, job: Job) -> Outcome:
        """Do the job, under its own idempotency key, with its frozen parameters."""
        ...

    async def look(self, job: Job) -> Outcome:
        """Ask how the object of a pending job stands now; changes nothing."""
        ...

    async def cancel(self, job: Job) -> Outcome:
        """Cancel the object of a pending job, once however often it is asked for; answers how it stands then."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...

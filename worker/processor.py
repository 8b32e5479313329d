"""The protocol of who answers a job, Stripe or the mock, and every outcome that an answer can have."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from shared.jobs import Job, Kind
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


class Noun(StrEnum):
    """What Stripe lists, in its own words."""

    PAYMENT_INTENT = "payment_intent"
    CUSTOMER = "customer"

    @classmethod
    def of(cls, kind: Kind) -> "Noun":
        """What a job of this kind makes."""
        return cls.CUSTOMER if kind is Kind.CUSTOMER else cls.PAYMENT_INTENT


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """An object as a list shows it, read strictly if a desk made it, else only told apart.

    `malformed` names what an object lacks that some desk made; then `made` is None, as it is for a foreign one.
    """

    id: str
    created_ms: int
    """By Stripe's clock, which tells whole seconds."""
    job_id: str | None = None
    desk: str | None = None
    """The mark of the desk that made it; objects of earlier versions carry only the job's id."""
    kind: Kind | None = None
    made: Payment | Customer | None = None
    client_secret: str | None = None
    declined: Declined | None = None
    """Why the last try to pay it failed, while it waits for another."""
    malformed: str | None = None


@dataclass(frozen=True, slots=True)
class ListPage:
    """Objects, newest first. `last`: where the next page goes on; None when this is the last."""

    objects: Sequence[Listed]
    last: str | None
    unreadable: int = 0
    """Entries that do not even tell which object they are."""


@dataclass(frozen=True, slots=True)
class Gone:
    """Stripe says that it has no such object."""

    id: str


class Lists(Protocol):
    """Who can tell what there is, without being asked for a job. Failures are outcomes here too."""

    async def list_page(self, noun: Noun, *, since_ms: int, until_ms: int | None, after: str | None = None,
                        limit: int = 100) -> ListPage | Outcome:
        """A page of what was created in a window."""
        ...

    async def retrieve(self, noun: Noun, object_id: str) -> Listed | Gone | Outcome:
        """One object as it stands now."""
        ...


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

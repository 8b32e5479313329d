"""Whether a drill's promises held: the clients' answers and the desk's books against what really happened at Stripe."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from drill.evidence import Evidence
from shared.jobs import Book, Job, Kind, Status
from shared.stripe_params import idempotency_key

_CHARGE = "charge"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was counted. A list names every case; empty lists and no cents off are a drill that was passed."""

    submitted: int
    accepted: int
    outcomes: Mapping[str, int]
    """Accepted submissions by how they ended."""
    charged_at_stripe: int
    charged_cents: int
    mocked: int
    double: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    mocked_although_sent: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    """Another amount or outcome than was asked for, a refusal that nobody earned, or Stripe knows what nobody asked."""
    unaccepted: list[str] = field(default_factory=list)
    """Clients that gave up."""
    differences: list[str] = field(default_factory=list)
    cents_off: Mapping[str, int] = field(default_factory=dict)
    """By book: the ledger's sum less what really moved."""

    @property
    def violations(self) -> dict[str, int]:
        """What did not hold, by name; empty when everything held."""
        counted = {"double": len(self.double), "lost": len(self.lost), "unfinished": len(self.unfinished),
                   "mocked_although_sent": len(self.mocked_although_sent), "wrong": len(self.wrong),
                   "unaccepted": len(self.unaccepted), "differences": len(self.differences),
                   "cents_off": sum(abs(cents) for cents in self.cents_off.values())}
        return {name: count for name, count in counted.items() if count}


def judge(seen: Evidence) -> Verdict:
    """Compare all that is known; every claim of the desk is held against something that the desk did not write."""
    charges = [effect for effect in seen.stripe.effects if effect.kind == _CHARGE]
    return Verdict(
        submitted=len(seen.submitted), accepted=len(seen.accepted), outcomes=_outcomes(seen),
        charged_at_stripe=len(charges), charged_cents=sum(effect.cents or 0 for effect in charges),
        mocked=sum(job.book is Book.MOCK and job.kind is not Kind.STATUS_REFRESH for job in seen.desk.jobs.values()),
        double=list(_doubles(seen)), lost=list(_lost(seen)),
        unfinished=[f"{job.id} is {job.status}" for job in seen.desk.jobs.values()
                    if not job.status.final],
        mocked_although_sent=list(_mocked_although_sent(seen)),
        wrong=[*_wrong_charges(seen), *_wrong_ends(seen), *_strangers(seen),
               *(f"{key} was refused: {how}" for key, how in seen.refused.items())],
        unaccepted=[f"{key} never had an answer" for key in seen.submitted
                    if key not in seen.accepted and key not in seen.refused],
        differences=list(seen.desk.differences), cents_off=_cents_off(seen))


def _outcomes(seen: Evidence) -> dict[str, int]:
    ends: Counter[str] = Counter()
    for ids in seen.accepted.values():
        job = seen.desk.jobs.get(min(ids))
        mocked = " (mock)" if job is not None and job.book is Book.MOCK else ""
        ends["missing" if job is None else f"{job.status}{mocked}"] += 1
    return dict(sorted(ends.items()))


def _doubles(seen: Evidence) -> Iterator[str]:
    """By job, and by client key, which Stripe's objects carry whatever the desk made of them."""
    of_job = Counter((effect.job_id, effect.kind) for effect in seen.stripe.effects)
    yield from (f"{job_id} has {count} effects of kind {kind}" for (job_id, kind), count in of_job.items() if count > 1)
    of_client = Counter(made.client_key for made in seen.stripe.made)
    yield from (f"client key {key} has {count} objects at Stripe" for key, count in of_client.items() if count > 1)
    yield from (f"client key {key} was answered with {len(ids)} jobs" for key, ids in seen.accepted.items()
                if len(ids) > 1)


def _lost(seen: Evidence) -> Iterator[str]:
    for key, ids in seen.accepted.items():
        yield from (f"{job_id} was accepted for {key} and is gone" for job_id in ids if job_id not in seen.desk.jobs)


def _mocked_although_sent(seen: Evidence) -> Iterator[str]:
    for effect in seen.stripe.effects:
        job = seen.desk.jobs.get(effect.job_id or "")
        if job is not None and job.book is Book.MOCK:
            yield f"{job.id} was mocked, and Stripe has its {effect.kind} {effect.object_id}"


def _wrong_charges(seen: Evidence) -> Iterator[str]:
    """Every charge at Stripe is one that its client asked for, to the cent, and the desk says so; and the reverse."""
    asked = {key: one for key, one in seen.submitted.items() if one.kind is Kind.CHARGE and not one.declines}
    charged: set[str] = set()
    for made in seen.stripe.made:
        if not made.received_cents:
            continue
        submission = asked.get(made.client_key or "")
        if submission is None or submission.cents != made.received_cents:
            yield f"{made.id} took {made.received_cents} cents, which {made.client_key} did not ask for"
        job = seen.desk.jobs.get(made.job_id or "")
        charged.add(made.job_id or "")
        if job is not None and job.status is not Status.SUCCEEDED and job.status.final:
            yield f"{job.id} is {job.status}, and Stripe has its charge {made.id}"
    for job in seen.desk.jobs.values():
        says_charged = job.kind is Kind.CHARGE and job.status is Status.SUCCEEDED and job.book is not Book.MOCK
        if says_charged and job.id not in charged:
            yield f"{job.id} is succeeded, and Stripe has no charge of it"


def _wrong_ends(seen: Evidence) -> Iterator[str]:
    """Only a card that declines fails, or what provably never reached Stripe; nothing contradicts what was answered."""
    reached = {effect.job_id for effect in seen.stripe.effects}
    for key, ids in seen.accepted.items():
        for job in filter(None, map(seen.desk.jobs.get, ids)):
            declines = key in seen.submitted and seen.submitted[key].declines
            if _never_reached(seen, job) and job.id not in reached:
                continue
            if job.status.final and job.status is not (Status.FAILED if declines else Status.SUCCEEDED):
                code = job.error["code"] if job.error else "no error"
                yield f"{job.id} of {key} is {job.status} ({code})"
            if job.contradicted_by:
                yield f"{job.id} is contradicted by {job.contradicted_by}"


def _never_reached(seen: Evidence, job: Job) -> bool:
    """Whether it was given up for a reason that Stripe's own file bears out: its key answers 500 for good."""
    code = job.error["code"] if job.error else ""
    return (job.status is Status.FAILED and code == "never_reached_stripe"
            and idempotency_key(job.id, job.kind) in seen.stripe.bound_to_500)


def _strangers(seen: Evidence) -> Iterator[str]:
    for effect in seen.stripe.effects:
        if effect.job_id not in seen.desk.jobs:
            yield f"Stripe has a {effect.kind} of {effect.job_id}, which the desk does not know"


def _cents_off(seen: Evidence) -> dict[str, int]:
    """The ledger against Stripe's money, and the mock's against what its customers were told; totals against both."""
    moved: dict[Book, dict[str, int]] = {book: {} for book in Book}
    for effect in seen.stripe.effects:
        if effect.kind == _CHARGE and effect.job_id is not None:
            moved[Book.TEST][effect.job_id] = moved[Book.TEST].get(effect.job_id, 0) + (effect.cents or 0)
    for job in seen.desk.jobs.values():
        if job.book is Book.MOCK and job.status is Status.SUCCEEDED and job.kind in (Kind.CHARGE, Kind.STATUS_REFRESH):
            moved[Book.MOCK][job.pays or job.id] = job.amount_cents or 0
    return {book: off for book in Book if (off := _off(seen, book, moved[book]))}


def _off(seen: Evidence, book: Book, moved: Mapping[str, int]) -> int:
    """Job by job, so that two mistakes cannot cancel out; and how far the totals are from the sum."""
    booked = seen.desk.booked[book]
    by_job = sum(abs(booked.get(job_id, 0) - moved.get(job_id, 0)) for job_id in {*booked, *moved})
    return by_job or abs(seen.desk.totals[book] - sum(moved.values()))

"""A little drill that went well, as evidence: a desk's records and books, and the stand-in's real file beside them."""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import SecretStr

from drill.evidence import AtTheDesk, Evidence, read_stripe
from drill.plan import CLIENT_KEY, Plan, Submission
from shared.ids import Ids
from shared.jobs import Book, Job, Kind, Status, job_error
from shared.requests import ChargeRequest, CustomerRequest, PaymentIntentRequest, Request
from shared.settings import Settings
from shared.stripe_params import idempotency_key, new_job
from standin.records import Effect, EffectKind, Record, Saved
from standin.records import Kind as ObjectKind
from standin.store import SqliteStore

IDS = Ids("drill")
SETTINGS = Settings(_env_file=None, stripe_secret_key=SecretStr("sk_test_drill"))
REQUESTS: dict[Kind, type[Request]] = {Kind.CHARGE: ChargeRequest, Kind.PAYMENT_INTENT: PaymentIntentRequest,
                                        Kind.CUSTOMER: CustomerRequest}
PLAN = Plan.of(charges=90, seed=1, worker_kills=0, store_kills=0)


@dataclass
class Drilled:
    """What `PLAN` leaves behind when everything works; a test spoils a part and asks the oracle."""

    db: Path
    submitted: dict[str, Submission] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    booked: dict[str, int] = field(default_factory=dict)
    mock_booked: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        store = SqliteStore(self.db)
        with store.transaction():
            for submission, _ in zip(PLAN.submissions(), range(PLAN.total), strict=False):
                self._work(store, submission)
        store.close()

    def _work(self, store: SqliteStore, asked: Submission) -> None:
        job = job_of(asked)
        self.submitted[asked.key] = asked
        error = job_error("card_declined", "No.") if asked.declines else None
        self.jobs[job.id] = replace(job, status=Status.FAILED if asked.declines else Status.SUCCEEDED, book=Book.TEST,
                                    error=error)
        paid = asked.cents if asked.kind is Kind.CHARGE and not asked.declines else None
        kind = ObjectKind.CUSTOMER if asked.kind is Kind.CUSTOMER else ObjectKind.PAYMENT_INTENT
        name = f"{'cus' if asked.kind is Kind.CUSTOMER else 'pi'}_{asked.key}"
        metadata = {CLIENT_KEY: asked.key, "paydesk_job_id": job.id}
        store.put(Record("acct", name, kind, 1, None, {"id": name, "amount_received": paid or 0, "metadata": metadata}))
        store.add_effect(_effect(EffectKind(kind.value), name, job, asked.cents))
        if paid is not None:
            store.add_effect(_effect(EffectKind.CHARGE, f"ch_{asked.key}", job, paid))
            self.booked[job.id] = paid

    def sql(self, statement: str, *values: object) -> None:
        """Doctor Stripe's file."""
        with closing(sqlite3.connect(self.db)) as file, file:
            assert file.execute(statement, values).rowcount == 1

    def bind_to_500(self, job: Job) -> None:
        """Let the job's key answer 500 for good."""
        store = SqliteStore(self.db)
        with store.transaction():
            store.save("acct", idempotency_key(job.id, job.kind), Saved("mark", 500, b"{}", "req_1", 1.0))
        store.close()

    def first(self, kind: Kind = Kind.CHARGE, *, declines: bool = False) -> tuple[Submission, Job]:
        """The first submission of a kind, and its job."""
        asked = next(one for one in self.submitted.values() if one.kind is kind and one.declines is declines)
        return asked, self.jobs[job_of(asked).id]

    def change(self, job: Job, **fields: object) -> None:
        """Let the desk say something else of a job."""
        self.jobs[job.id] = replace(job, **fields)  # type: ignore[arg-type]  # each test names a field of a job

    def evidence(self, *, refused: Mapping[str, str] | None = None, without: tuple[str, ...] = (),
                 jobs_of: Mapping[str, frozenset[str]] | None = None, totals: int | None = None) -> Evidence:
        """All of it, as the drill would have it."""
        accepted = {key: frozenset({job_of(asked).id}) for key, asked in self.submitted.items() if key not in without}
        books = {Book.TEST: self.booked, Book.MOCK: self.mock_booked, Book.LIVE: {}}
        sums = {book: sum(entries.values()) for book, entries in books.items()}
        if totals is not None:
            sums[Book.TEST] = totals
        return Evidence(self.submitted, accepted | dict(jobs_of or {}), refused or {}, read_stripe(self.db),
                        AtTheDesk(self.jobs, books, sums, []))


def job_of(asked: Submission) -> Job:
    """The job that a desk makes of a submission."""
    request = REQUESTS[asked.kind].model_validate(asked.body)
    return new_job(request, job_id=IDS.job("local", asked.route, asked.key), caller="local", ids=IDS,
                   settings=SETTINGS).queued(1)


def _effect(kind: EffectKind, name: str, job: Job, cents: int | None) -> Effect:
    return Effect("acct", None, name, kind, cents, None, None, job.id, 1.0)

"""Runs combinations one after another on one store and one stand-in, and says what did not hold."""

import asyncio
import shutil
import time
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, TypeVar

import redis

from cli.servers import STORE, EmbeddedServer
from shared import failpoints
from shared.epoch import STAMP_FILE, Epoch
from shared.events import Log, Position, render
from shared.ids import Ids
from shared.jobs import Job
from shared.redis_calls import ROOT, RedisCalls
from shared.settings import Settings
from shared.store import JobStore
from shared.stripe_params import new_job, status_refresh_job
from standin.client import Standin
from tests.faults import invariants
from tests.faults.sweep.combinations import FAULTS, NO_NETWORK, Combination, Crash, Process, Shape, Stop
from tests.faults.sweep.forks import Ended, Forks
from tests.faults.sweep.jobs import request, submission, wrong_ends
from tests.faults.sweep.moved_store import Client, move_to, next_due_ms, now_ms
from tests.faults.sweep.passes import IMPATIENT_SECONDS, PATIENT_SECONDS, submit, work_once
from tests.shared.moved_clock import MovedClock

T = TypeVar("T")

KEY = "sk_test_fake"
_MOST_ROUNDS = 20
_STUCK_ROUNDS = 3
"""After so many rounds a job whose key Stripe answers for ever with the same 500 has been tried often enough: then the
clock is moved to where workers compare lists, and to where a list may end a doubt."""
_COMPARED_AFTER_MS = 11 * 60_000
_GIVEN_UP_AFTER_MS = 13 * 3_600_000
_EIGHT_DAYS_MS = 8 * 24 * 3_600_000
_ROUNDS_WITHOUT_NETWORK = 2
_RENEWED_AFTER = 50
"""Combinations after which the store's log is begun anew, so that it loads as fast as at first."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a combination."""

    combination: Combination
    reached: tuple[bool, ...]
    """Which of its stops were reached."""
    fault_played: bool
    broken: tuple[str, ...]
    rounds: int
    seconds: float
    passed: Counter[str] = field(default_factory=Counter)
    """When nothing was stopped: how often each failpoint was passed in one process, at most."""

    @property
    def fired(self) -> bool:
        """Whether everything that was combined did happen."""
        return all(self.reached) and self.fault_played


@dataclass(slots=True)
class _Run:
    """One combination under way."""

    combination: Combination
    accepted: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    reached: list[bool] = field(default_factory=list)
    rounds: int = 0
    passed: Counter[str] = field(default_factory=Counter)
    watched: bool = False

    @property
    def stop(self) -> Stop | None:
        """The next stop that was not reached yet."""
        at = len(self.reached)
        return self.combination.stops[at] if at < len(self.combination.stops) else None


class Rig:
    """A store and a stand-in of its own. No event loop runs in this process while it forks."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._store = EmbeddedServer(STORE, folder / "data")
        self._ids = Ids("sweep")
        self._begun = self._workers = 0

    def __enter__(self) -> Self:
        self._store.start()
        self._standin = Standin.start(db=self._folder / "standin.sqlite")
        self._forks = Forks(self._store, self._folder / "processes.log")
        self._redis: Client = redis.Redis.from_url(self._store.url, decode_responses=True)
        self._runner = asyncio.Runner()
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.close()
        self._redis.close()
        self._standin.stop()
        self._store.kill()

    def run(self, combination: Combination, *, watched: bool = False) -> Outcome:
        """Run one combination to the end of its jobs, and check what must hold then."""
        begun = time.monotonic()
        self._clean()
        run = _Run(combination, watched=watched)
        try:
            fault_played = self._play(run)
        except Exception:  # noqa: BLE001  # whatever it was, it is told with the combination
            run.broken.append(f"it could not be run: {traceback.format_exc()}")
            fault_played = False
        reached = (*run.reached, *[False] * (len(combination.stops) - len(run.reached)))
        return Outcome(combination, reached, fault_played, tuple(run.broken), run.rounds, time.monotonic() - begun,
                       run.passed)

    def _play(self, run: _Run) -> bool:
        settings = self._settings(run.combination.shape)
        struck = self._prepare(run, settings)
        self._begin_fault(run.combination.fault, struck)
        self._drain(run, settings)
        played = self._fault_played(run.combination.fault)
        self._standin.clear_faults()
        self._standin.accept()
        self._see_payments(run, settings)
        run.broken += self._ask(lambda calls: self._check(run, calls)) + self._logs()
        return played

    # -- before ---------------------------------------------------------------------------------------------------

    def _clean(self) -> None:
        self._begun += 1
        if self._begun % _RENEWED_AFTER == 0:
            self._store.kill()
            shutil.rmtree(self._store.folder / "appendonlydir")
            self._store.start()
        self._redis.flushall()
        self._standin.reset()
        self._standin.accept()
        shutil.rmtree(self._folder / "logs", ignore_errors=True)
        for name in ("processes.log", STAMP_FILE, f"{STAMP_FILE}.lock"):
            (self._folder / name).unlink(missing_ok=True)

    def _settings(self, shape: Shape) -> Settings:
        key = {} if shape is Shape.MOCK else {"stripe_secret_key": KEY}
        return Settings(_env_file=None, redis_url=self._store.url, broker_url=self._store.url, secret="sweep",
                        stripe_api_base=self._standin.base_url, stripe_rate_per_second=10_000,
                        data_dir=self._folder, **key)  # type: ignore[arg-type]  # checked by pydantic itself

    def _prepare(self, run: _Run, settings: Settings) -> str:
        """Bring the job to where the stops and the fault begin; answers the job whose requests the fault strikes."""
        shape = run.combination.shape
        made = self._submit(run, settings) if run.stop and run.stop.process is Process.WEB else self._accept(
            shape, settings)
        run.accepted.append(made)
        if shape is Shape.IN_DOUBT:
            self._round(settings, None, Stop(Process.WORKER, "read.before", Crash.EXIT))
        elif shape is Shape.ABANDONED:
            self._round(settings, None, None)
            created_ms = int(self._redis.hget(f"{ROOT}job:{made}", "created_ms"))
            self._redis.hset(f"{ROOT}job:{made}", "created_ms", created_ms - _EIGHT_DAYS_MS)
        elif shape in (Shape.REFRESH, Shape.LOOK):
            self._round(settings, None, None)
            intent = self._pay(made)
            if shape is Shape.REFRESH:
                self._accept_refresh(intent, 1, settings)
        return made

    def _pay(self, job_id: str) -> str:
        intent: str | None = self._redis.hget(f"{ROOT}job:{job_id}", "stripe_id")
        assert intent is not None, "the job that is looked at was not done"
        self._standin.pay(intent)
        return intent

    def _accept(self, shape: Shape, settings: Settings) -> str:
        new = new_job(request(shape), job_id=self._ids.job("local", "/sweep", str(self._begun)), caller="local",
                      ids=self._ids, settings=settings)
        self._ask(lambda calls: JobStore(calls).accept(new, delay_ms=0, deadline_seconds=5))
        return new.id

    def _accept_refresh(self, intent: str, window: int, settings: Settings) -> str:
        new = status_refresh_job(self._ids, payment_intent_id=intent, window=window, caller="local", settings=settings)
        self._ask(lambda calls: JobStore(calls).accept(new, delay_ms=0, deadline_seconds=5))
        return new.id

    def _submit(self, run: _Run, settings: Settings) -> str:
        """A client that sends again, under the same key, until it has its 202."""
        sent, note = submission(run.combination.shape, f"sweep-{self._begun}"), self._forks.note
        for _ in range(5):
            stop = run.stop if run.stop and run.stop.process is Process.WEB else None
            ended = self._forks.run(lambda arm: submit(settings, sent, arm, lambda status: note.write(status=status)),
                                    stop, watched=run.watched)
            self._note(run, ended, stop)
            if note.read().get("status") == 202:
                return self._ids.job("local", sent.path, sent.key)
        raise AssertionError("the front door answered nothing but errors")

    # -- the fault ------------------------------------------------------------------------------------------------

    def _begin_fault(self, name: str, job_id: str) -> None:
        fault = FAULTS[name]
        if name == NO_NETWORK:
            self._standin.refuse()
        elif fault.action == "reset_before_read":
            self._standin.fault(fault.action)
        elif fault.action is not None:
            self._standin.fault(fault.action, **fault.options, job_id=job_id)

    def _fault_played(self, name: str) -> bool:
        if name == NO_NETWORK:
            events = self._redis.xrange(f"{ROOT}events")
            return any(entry.get("error_code") in ("network_error", "stripe_unavailable") or entry.get("book") == "mock"
                       for _, entry in events)
        return all(fault["played"] for fault in self._standin.faults())

    # -- the rounds -----------------------------------------------------------------------------------------------

    def _drain(self, run: _Run, settings: Settings) -> None:
        while (due := next_due_ms(self._redis)) is not None:
            if run.rounds == _ROUNDS_WITHOUT_NETWORK and run.combination.fault == NO_NETWORK:
                self._standin.accept()
            if run.rounds >= _STUCK_ROUNDS and FAULTS[run.combination.fault].binds_the_key:
                due = now_ms(self._redis) + (_COMPARED_AFTER_MS if run.rounds == _STUCK_ROUNDS else _GIVEN_UP_AFTER_MS)
            if run.rounds >= _MOST_ROUNDS:
                run.broken.append(f"not all jobs had ended after {_MOST_ROUNDS} rounds")
                return
            run.rounds += 1
            stop = run.stop if run.stop and run.stop.process is Process.WORKER else None
            self._note(run, self._round(settings, due, stop, run), stop)
        if run.reached:  # what was stopped may have left lines unwritten
            self._round(settings, None, None)

    def _round(self, settings: Settings, due_ms: float | None, stop: Stop | None, run: _Run | None = None) -> Ended:
        """One worker's life, once something is due."""
        due_ms = next_due_ms(self._redis) if due_ms is None else due_ms
        if due_ms is not None:
            self._standin.advance(move_to(self._redis, due_ms))
        hangs = run is not None and FAULTS[run.combination.fault].hangs
        self._workers += 1
        return self._forks.run(
            lambda arm: work_once(settings, f"w{self._workers}", arm,
                                  patience_seconds=IMPATIENT_SECONDS if hangs else PATIENT_SECONDS),
            stop, watched=run is not None and run.watched and not run.combination.stops)

    def _note(self, run: _Run, ended: Ended, stop: Stop | None) -> None:
        run.passed |= ended.passed
        if ended.reached:
            run.reached.append(True)
        expected = {0} if stop is None else {0, failpoints.EXIT_CODE}
        if ended.exit_code not in expected:
            run.broken.append(f"a process ended with {ended.exit_code}: {self.told()}")
        if ended.store_died and (stop is None or stop.crash is Crash.EXIT):
            run.broken.append("the store died by itself")

    def told(self) -> str:
        log = self._folder / "processes.log"
        return log.read_text(errors="replace")[-2000:] if log.exists() else ""

    def _see_payments(self, run: _Run, settings: Settings) -> None:
        """A look that Stripe did not answer is asked for again, as a client would, so that the books are whole."""
        if run.combination.shape is not Shape.REFRESH:
            return
        intent, window = str(self._redis.hget(f"{ROOT}job:{run.accepted[0]}", "stripe_id")), 1
        while self._redis.hget(f"{ROOT}payment:{intent}", "status") != "succeeded":
            window += 1
            assert window <= _MOST_ROUNDS, "a paid intent is never seen to be paid"
            self._accept_refresh(intent, window, settings)
            self._round(settings, None, None)

    # -- the end --------------------------------------------------------------------------------------------------

    async def _check(self, run: _Run, calls: RedisCalls) -> list[str]:
        jobs = await self._jobs(calls)
        left = {job.id: job.status for job in jobs if not job.status.final}
        return wrong_ends(run.combination, jobs) + await invariants.violations(
            calls, self._standin, accepted=run.accepted, left=left)

    async def _jobs(self, calls: RedisCalls) -> list[Job]:
        """Every job, those too that are in no list because they only looked."""
        keys = [key async for key in calls.redis.scan_iter(f"{ROOT}job:*", count=1000)]
        found = [await JobStore(calls).get(key.removeprefix(f"{ROOT}job:")) for key in keys]
        return [job for job in found if job is not None]

    def _logs(self) -> list[str]:
        """I13, the other way round: the log files say what the streams say, each line once."""
        broken = []
        for log in Log:
            entries = self._redis.xrange(f"{ROOT}{log.stream}")
            places = ((Position.read(number), entry) for number, entry in entries)
            expected = "".join(line for place, entry in places if place and (line := render(log, place, entry)))
            file = self._folder / "logs" / log
            written = file.read_text() if file.exists() else ""
            if written != expected:
                broken.append(f"{log} has {len(written)} characters, its stream renders to {len(expected)}")
        return broken

    def _ask(self, question: Callable[[RedisCalls], Awaitable[T]]) -> T:
        async def ask() -> T:
            calls = MovedClock.connect(self._store.url, deadline_seconds=5)
            try:
                await Epoch(calls, self._ids, self._folder / STAMP_FILE).check()
                return await question(calls)
            finally:
                await calls.close()

        return self._runner.run(ask())

"""How long the desk took to recover from each kind of break, read afterwards from records, so that nobody is slowed."""

import statistics
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from drill.chaos import Met
from drill.plan import Break
from shared.jobs import Job

_WORKERS = (Break.WORKER_KILLED, Break.WORKER_PAUSED)
_SERVERS = (Break.STORE_KILLED, Break.BROKER_KILLED)


@dataclass(frozen=True, slots=True)
class Recovery:
    """Seconds until it was as before, over all breaks of a kind that can be told apart from the next one."""

    what: str
    measured: int
    median_seconds: float
    worst_seconds: float


@dataclass(frozen=True, slots=True)
class Traces:
    """When things happened, in milliseconds: jobs' ends, answers to clients, and faults that struck a job's call."""

    jobs: Mapping[str, Job]
    finished_ms: Sequence[int]
    accepted_ms: Sequence[int]
    struck_until_ms: Mapping[str, int]
    """By job, until when the stand-in last did wrong to it."""

    @classmethod
    def of(cls, jobs: Mapping[str, Job], accepted_ms: Sequence[int], requests: Sequence[Mapping[str, object]],
           ) -> "Traces":
        """Put them together; `requests` is the stand-in's log."""
        finished = sorted(job.finished_ms for job in jobs.values() if job.finished_ms)
        struck: dict[str, int] = {}
        for request in requests:
            job_id, until = request["job_id"], request["finished_at"] or request["started_at"]
            if request["fault"] and isinstance(job_id, str) and isinstance(until, float):
                struck[job_id] = max(struck.get(job_id, 0), int(until * 1000))
        return cls(jobs, finished, sorted(accepted_ms), struck)


def recoveries(met: Sequence[Met], traces: Traces) -> list[Recovery]:
    """One line for each kind of break that was measured at least once."""
    measures = {
        "worker killed: all its jobs done": (Break.WORKER_KILLED, _jobs_done),
        "worker frozen past its lease: all its jobs done": (Break.WORKER_PAUSED, _jobs_done),
        "store killed: back and loaded": (Break.STORE_KILLED, _back),
        "store killed: accepting again once loaded": (Break.STORE_KILLED, _accepting),
        "store killed: jobs ending again once loaded": (Break.STORE_KILLED, _moving),
        "broker killed: jobs ending again once back": (Break.BROKER_KILLED, _moving),
        "front door killed: accepting again": (Break.WEB_KILLED, _accepting),
        "Stripe back in reach: jobs ending again": (Break.OUTAGE, _moving)}
    lines = []
    for what, (kind, measure) in measures.items():
        seconds = [found for one in met if one.what is kind and (found := measure(one, met, traces)) is not None]
        if seconds:
            lines.append(Recovery(what, len(seconds), round(statistics.median(seconds), 2), round(max(seconds), 2)))
    return lines


def _jobs_done(one: Met, met: Sequence[Met], traces: Traces) -> float | None:
    """From the break to the end of the last job it met; without jobs that met another break or a fault after it."""
    ends = list(_undisturbed_ends(one, met, traces))
    return (max(ends) - one.at_ms) / 1000 if ends else None


def _undisturbed_ends(one: Met, met: Sequence[Met], traces: Traces) -> Iterator[int]:
    for job_id in one.jobs:
        job = traces.jobs.get(job_id)
        if job is None or (job.finished_ms or 0) < one.at_ms or traces.struck_until_ms.get(job_id, 0) >= one.at_ms:
            continue
        ended_ms = job.finished_ms or 0
        if not any(_disturbs(other, job_id, one.at_ms, ended_ms) for other in met if other is not one):
            yield ended_ms


def _disturbs(other: Met, job_id: str, since_ms: int, until_ms: int) -> bool:
    """Whether another break met the job between, or took away what every job needs."""
    if other.what in _SERVERS or other.what is Break.OUTAGE:
        return other.at_ms <= until_ms and (other.back_ms or other.at_ms) >= since_ms
    return job_id in other.jobs and since_ms <= other.at_ms <= until_ms


def _back(one: Met, _met: Sequence[Met], _traces: Traces) -> float | None:
    return None if one.back_ms is None else (one.back_ms - one.at_ms) / 1000


def _accepting(one: Met, _met: Sequence[Met], traces: Traces) -> float | None:
    return _first_after(traces.accepted_ms, one.back_ms or one.at_ms)


def _moving(one: Met, _met: Sequence[Met], traces: Traces) -> float | None:
    return None if one.back_ms is None else _first_after(traces.finished_ms, one.back_ms)


def _first_after(moments: Sequence[int], ms: int) -> float | None:
    place = bisect_left(moments, ms)
    return None if place == len(moments) else (moments[place] - ms) / 1000

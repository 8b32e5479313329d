"""Seconds to recover are read from records: of each break, only what no other break or fault had a part in."""

from dataclasses import replace

from drill.chaos import Met
from drill.plan import Break, Plan
from drill.recovery import Traces, recoveries
from shared.jobs import Job
from tests.drill.desk_and_stripe import job_of

JOBS = [job_of(one) for one, _ in zip(Plan.of(charges=3, seed=1, worker_kills=0, store_kills=0).submissions(), range(3),
                                      strict=False)]
KILLED = "worker killed: all its jobs done"


def ended(*at_ms: int) -> dict[str, Job]:
    return {job.id: replace(job, finished_ms=ms) for job, ms in zip(JOBS, at_ms, strict=False)}


def jobs(*places: int) -> frozenset[str]:
    return frozenset(JOBS[place].id for place in places)


def seconds(met: list[Met], traces: Traces) -> dict[str, tuple[int, float, float]]:
    return {one.what: (one.measured, one.median_seconds, one.worst_seconds) for one in recoveries(met, traces)}


def test_a_killed_worker_has_recovered_with_the_last_of_its_jobs() -> None:
    traces = Traces.of(ended(14_000, 16_000, 90_000), [], [])
    met = [Met(Break.WORKER_KILLED, 10_000, jobs(0, 1)), Met(Break.WORKER_KILLED, 80_000, jobs(2))]
    assert seconds(met, traces) == {KILLED: (2, 8.0, 10.0)}


def test_jobs_that_met_another_break_or_a_fault_afterwards_are_left_out() -> None:
    request = {"job_id": JOBS[1].id, "fault": "status:409", "started_at": 15.0, "finished_at": 15.1}
    earlier = {**request, "job_id": JOBS[0].id, "started_at": 9.0, "finished_at": 9.1}
    traces = Traces.of(ended(14_000, 16_000, 17_000), [], [request, earlier])
    cut = Met(Break.ANSWER_CUT, 13_000, jobs(2))
    assert seconds([Met(Break.WORKER_KILLED, 10_000, jobs(0, 1, 2)), cut], traces) == {KILLED: (1, 4.0, 4.0)}
    broker = Met(Break.BROKER_KILLED, 11_000, back_ms=11_500)
    assert KILLED not in seconds([Met(Break.WORKER_KILLED, 10_000, jobs(0, 1, 2)), broker], traces)


def test_a_server_has_recovered_when_the_desk_moves_once_it_is_back() -> None:
    traces = Traces.of(ended(4_000, 13_000, 20_000), [11_000, 12_500, 14_000], [])
    assert seconds([Met(Break.STORE_KILLED, 10_000, back_ms=12_000)], traces) == {
        "store killed: back and loaded": (1, 2.0, 2.0), "store killed: accepting again once loaded": (1, 0.5, 0.5),
        "store killed: jobs ending again once loaded": (1, 1.0, 1.0)}
    assert seconds([Met(Break.WEB_KILLED, 12_600)], traces) == {"front door killed: accepting again": (1, 1.4, 1.4)}

"""A sweep over several processes: what can fire is found out first, then planned, then run."""

import json
import queue
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.faults.sweep import plan
from tests.faults.sweep.combinations import Combination
from tests.faults.sweep.report import Report
from tests.faults.sweep.rig import Outcome

_ROOT = Path(__file__).resolve().parents[3]
_TOLD_EVERY = 100


def sweep(size: plan.Size, *, jobs: int, seed: int, tell: Callable[[Report], None]) -> Report:
    """Sweep; `tell` is given the report from time to time. The same seed draws the same sample."""
    report, dice = Report(), random.Random(seed)  # noqa: S311  # draws a sample
    processes = [_Process() for _ in range(jobs)]
    try:
        worker = plan.calibrations(size, dice)
        web = plan.front_door()
        _run_all(processes, [*worker, *web], report, tell, watched=True)
        passed = {one: report.outcomes[one].passed for one in [*worker, *web]}
        for one in web:
            del report.outcomes[one]
        planned = [*plan.singles({one: passed[one] for one in worker}, {one: passed[one] for one in web}, size, dice),
                   *plan.pairs(size, dice)]
        _run_all(processes, planned, report, tell, watched=False)
    finally:
        for process in processes:
            process.end()
    return report


class _Process:
    """One process of a sweep, with a store and a stand-in of its own."""

    def __init__(self) -> None:
        self._process = subprocess.Popen([sys.executable, "-m", "tests.faults.sweep", "--serve"], cwd=_ROOT, text=True,
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def run(self, combination: Combination, *, watched: bool) -> Outcome:
        """Run one there."""
        to, back = self._process.stdin, self._process.stdout
        assert to is not None
        assert back is not None
        to.write(f"{combination}\t{'watched' if watched else ''}\n")
        to.flush()
        said = json.loads(back.readline())
        return Outcome(combination, tuple(said["reached"]), said["fault_played"], tuple(said["broken"]), said["rounds"],
                       said["seconds"], Counter(said["passed"]))

    def end(self) -> None:
        """Let it put away what it has."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _run_all(processes: list[_Process], combinations: Iterable[Combination], report: Report,
             tell: Callable[[Report], None], *, watched: bool) -> None:
    waiting: queue.SimpleQueue[Combination] = queue.SimpleQueue()
    for one in combinations:
        waiting.put(one)
    report.planned += waiting.qsize()
    done: queue.SimpleQueue[Outcome | Exception] = queue.SimpleQueue()

    def run(process: _Process) -> None:
        try:
            while not waiting.empty():
                done.put(process.run(waiting.get_nowait(), watched=watched))
        except queue.Empty:
            pass
        except Exception as failure:  # noqa: BLE001  # told to who waits
            done.put(failure)

    expected = waiting.qsize()
    threads = [threading.Thread(target=run, args=(process,), daemon=True) for process in processes]
    for thread in threads:
        thread.start()
    for _ in range(expected):
        outcome = done.get()
        if isinstance(outcome, Exception):
            raise outcome
        report.add(outcome)
        if outcome.broken or len(report.outcomes) % _TOLD_EVERY == 0:
            tell(report)
    for thread in threads:
        thread.join()

"""Many seeds: shared out over processes, each with a store of its own, and what they came to together."""

import hashlib
import multiprocessing
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

from tests.faults.simulator.run import Report, simulate
from tests.faults.simulator.store import StoreServer

_SHOWN = ("charges", "attempts", "calls to Stripe", "kills", "kills at work", "freezes", "clock steps", "mocked",
          "store requests lost", "store replies lost", "requests lost", "answers lost", "requests doubled",
          "hints lost", "hints doubled", "conflicts", "given up")
_SEEDS_TOGETHER = 4


@contextmanager
def own_server() -> Iterator[StoreServer]:
    """A store for as long as it is needed, in a folder whose name is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="sim-") as folder:
        server = StoreServer(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.kill()


def run_seeds(seeds: Sequence[int], charges: int, jobs: int) -> Iterator[Report]:
    """Run seeds in so many processes, and give each's report when it is there."""
    parts = [seeds[first:first + _SEEDS_TOGETHER] for first in range(0, len(seeds), _SEEDS_TOGETHER)]
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        for done in as_completed([pool.submit(_run_part, part, charges) for part in parts]):
            yield from done.result()


def run_one(seed: int, charges: int, tell: Callable[[str], None] | None) -> Report:
    """Run one seed here."""
    with own_server() as server:
        return simulate(seed, charges, server, tell=tell)


def _run_part(seeds: Sequence[int], charges: int) -> list[Report]:
    with own_server() as server:
        return [simulate(seed, charges, server) for seed in seeds]


def failure(report: Report, charges: int) -> str:
    """What went wrong in a seed, what came before, and how to see it again."""
    return "\n".join([f"seed {report.seed} of {charges} charges is broken; the end of its trace:", *report.tail,
                      f"seed {report.seed}:", *report.violations,
                      f"again: python -m tests.faults.simulator --seed {report.seed} --charges {charges} --trace"])


def summary(reports: Sequence[Report]) -> str:
    """All seeds in a few lines."""
    total: Counter[str] = sum((report.counts for report in reports), Counter())
    broken = [report.seed for report in reports if report.violations]
    digests = hashlib.blake2b("".join(sorted(report.digest for report in reports)).encode(), digest_size=16).hexdigest()
    lines = [f"{'seeds':<20} {len(reports):>12,}", *(f"{name:<20} {total[name]:>12,}" for name in _SHOWN),
             *(f"{name:<20} {count:>12,}" for name, count in sorted(total.items()) if name.startswith("left ")),
             f"{'virtual hours':<20} {sum(report.virtual_seconds for report in reports) / 3600:>12,.1f}",
             f"{'digest':<20} {reports[0].digest if len(reports) == 1 else digests}",
             f"{'seconds':<20} {sum(report.real_seconds for report in reports):>12,.1f}",
             f"{'seeds with violations':<20} {len(broken):>11,} {broken or ''}"]
    return "\n".join(lines)

"""The simulator: seeds without a violation, the same trace for the same seed, and desks that are wrong are caught."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from shared.jobs import Job
from tests.faults.desk_processes import ROOT_FOLDER
from tests.faults.simulator.many import failure, own_server
from tests.faults.simulator.run import Variant, simulate
from tests.faults.simulator.store import StoreServer
from worker.processor import NotSent, Outcome, Processor, Unknown

CHARGES = 60
SEEDS = range(1, 13)
LONG_SEEDS, LONG_CHARGES = 500, 1000
MOST_SEEDS_TO_A_CATCH = 25


@pytest.fixture(scope="module")
def server() -> Iterator[StoreServer]:
    """One store for all seeds; each begins by emptying it."""
    with own_server() as running:
        yield running


@pytest.mark.timeout(300)
def test_no_seed_breaks_a_promise(server: StoreServer) -> None:
    for seed in SEEDS:
        report = simulate(seed, CHARGES, server)
        assert not report.violations, failure(report, CHARGES)
        assert report.counts["charges"] >= CHARGES / 2


@pytest.mark.timeout(120)
def test_a_seed_replays_exactly_in_any_process(server: StoreServer) -> None:
    here = simulate(7, 20, server)
    elsewhere = [subprocess.run(
        [sys.executable, "-m", "tests.faults.simulator", "--seed", "7", "--charges", "20"], cwd=ROOT_FOLDER,
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT_FOLDER)}, capture_output=True, text=True,
        timeout=100, check=True).stdout for hash_seed in ("1", "2")]
    assert [here.digest in said for said in elsewhere] == [True, True]
    assert simulate(8, 20, server).digest != here.digest


class _Before:
    """Stripe's processor with something wrong in front of it."""

    def __init__(self, stripe: Processor) -> None:
        self._stripe = stripe

    async def send(self, job: Job) -> Outcome:
        return await self._stripe.send(job)

    async def look(self, job: Job) -> Outcome:
        return await self._stripe.look(job)

    async def cancel(self, job: Job) -> Outcome:
        return await self._stripe.cancel(job)

    async def close(self) -> None:
        await self._stripe.close()


class _NewKeyPerAttempt(_Before):
    async def send(self, job: Job) -> Outcome:
        return await super().send(replace(job, id=f"{job.id}-{job.attempts}"))


class _TakesSilenceForProof(_Before):
    async def send(self, job: Job) -> Outcome:
        outcome = await super().send(job)
        return NotSent("timeout") if isinstance(outcome, Unknown) and not outcome.answered else outcome


def _edited(script: str, part: str, instead: str = "") -> Callable[[str, str], str]:
    def edit(name: str, text: str) -> str:
        assert name != script or part in text, f"{script} has changed: this no longer breaks anything"
        return text.replace(part, instead) if name == script else text

    return edit


WRONG = (
    Variant("a new key at each attempt", wrap_processor=_NewKeyPerAttempt),
    Variant("silence taken for proof", wrap_processor=_TakesSilenceForProof),
    Variant("a claim without its doubt",
            _edited("claim", "tonumber(job.doubts or '0') + 1", "tonumber(job.doubts or '0')")),
    Variant("a release that clears every doubt",
            _edited("release", "doubts - tonumber(job.own_doubt or '0')", "0")),
    Variant("money booked as often as it is told",
            _edited("record", "if redis.call('HEXISTS', root .. 'ledger:seen', seen) == 1 then return end")),
    Variant("a live lease taken over",
            _edited("claim", "then return 'running' end", "then end")),
    Variant("an end that stays due", _edited("record", "    never_due(id, job)\n")),
    Variant("a fence that nobody asks for",
            _edited("release", "if not leased or job.fence ~= fence then", "if not leased then")),
)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("variant", WRONG, ids=lambda variant: variant.name)
def test_a_desk_that_is_wrong_is_caught(server: StoreServer, variant: Variant) -> None:
    for seed in range(1, MOST_SEEDS_TO_A_CATCH + 1):
        if simulate(seed, CHARGES, server, variant=variant).violations:
            return
    pytest.fail(f"{MOST_SEEDS_TO_A_CATCH} seeds do not notice {variant.name}")


@pytest.mark.long
@pytest.mark.timeout(4 * 3600)
def test_no_seed_of_many_breaks_a_promise() -> None:
    done = subprocess.run([sys.executable, "-m", "tests.faults.simulator", "--seeds", str(LONG_SEEDS), "--charges",
                           str(LONG_CHARGES), "--jobs", "2"],
                          cwd=ROOT_FOLDER, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-20_000:]

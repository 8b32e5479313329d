"""`paydesk drill` as its user runs it, small; and a desk that breaks its promise, which the drill must not pass."""

import json
import signal
import subprocess
from pathlib import Path

import pytest

from cli.drill import parts
from cli.servers import Role
from drill.plan import Break, Plan
from drill.run import drill
from tests.cli.verbs import command, surroundings

FORGETFUL = Role("store", "1gb", durable=False)


@pytest.mark.timeout(240)
def test_a_small_drill_holds_every_promise_and_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        command("drill", "--charges", "200", "--worker-kills", "4", "--store-kills", "1", "--seed", "4", "--json"),
        cwd=tmp_path, env=surroundings("", STRIPE_SECRET_KEY="sk_test_of_the_user", TMPDIR=str(tmp_path)),
        capture_output=True, text=True, timeout=220, check=False, stdin=subprocess.DEVNULL)
    found = json.loads(done.stdout)
    assert (done.returncode, found["passed"], found["violations"], found["cases"]) == (0, True, {}, []), done.stderr
    assert found["missed_breaks"] == {}
    assert (found["breaks"]["worker killed"], found["breaks"]["store killed"]) == (4, 1)
    assert found["accepted"] == found["submitted"] >= 200
    assert found["charged_at_stripe"] > 50
    assert found["faulty_calls"] > 20
    assert sum(found["outcomes"].values()) == found["accepted"]
    assert "Drill with seed 4" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.timeout(180)
def test_a_drill_that_is_interrupted_judges_what_was_done(tmp_path: Path) -> None:
    drilling = subprocess.Popen(
        command("drill", "--charges", "100000", "--worker-kills", "0", "--store-kills", "0", "--seed", "1", "--json"),
        cwd=tmp_path, env=surroundings("", TMPDIR=str(tmp_path)), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, stdin=subprocess.DEVNULL)
    try:
        assert drilling.stderr is not None
        while "under load" not in drilling.stderr.readline():  # its first line of progress; the timeout is the deadline
            assert drilling.poll() is None
        drilling.send_signal(signal.SIGINT)
        out, err = drilling.communicate(timeout=150)
    finally:
        drilling.kill()
    found = json.loads(out)
    assert (drilling.returncode, found["passed"], found["ended_early"]) == (0, True, True), err
    assert 0 <= found["accepted"] == found["submitted"] < 100_000
    assert list(tmp_path.iterdir()) == []


@pytest.mark.anyio
@pytest.mark.timeout(180)
async def test_a_desk_whose_store_forgets_is_not_passed(tmp_path: Path) -> None:
    plan = Plan(charges=60, seed=1, seconds=6, breaks={Break.STORE_KILLED: 1}, workers=1, still_seconds=20,
                patience_seconds=5)
    report = await drill(plan, parts(store=FORGETFUL), tmp_path, lambda _: None)
    assert not report.passed
    assert report.breaks == {Break.STORE_KILLED: 1}
    assert report.verdict.violations["lost"] > 0
    assert any("is gone" in case for case in report.verdict.lost)

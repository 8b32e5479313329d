"""How a drill's end is told: a table for people, JSON for programs, and an exit code that does not hide anything."""

import json
from dataclasses import replace

import pytest

from cli.drill import show
from drill.oracle import Verdict
from drill.plan import Break, Plan
from drill.recovery import Recovery
from drill.run import Report

VERDICT = Verdict(submitted=1200, accepted=1200, outcomes={"failed": 50, "succeeded": 1150}, charged_at_stripe=1000,
                  charged_cents=12_345_678, mocked=3)
REPORT = Report(plan=Plan.of(charges=1000, seed=7, worker_kills=4, store_kills=1), verdict=VERDICT,
                breaks={Break.WORKER_KILLED: 4, Break.STORE_KILLED: 1}, missed={}, calls=1500, faulty_calls=300,
                asked_again=40, revived=0, ended_by_list=2,
                recoveries=[Recovery("store killed: back and loaded", 1, 0.5, 0.5)],
                seconds=61.2)

Capture = pytest.CaptureFixture[str]


def test_a_passed_drill_tells_its_figures_and_ends_with_0(capsys: Capture) -> None:
    assert show(REPORT, as_json=False) == 0
    out, err = capsys.readouterr()
    lines = {line.split("  ")[0]: line for line in out.splitlines()}
    assert lines["Submitted by clients"].split()[3] == "1,200"
    assert "1,000" in lines["Charged at Stripe"]
    assert "$123,456.78" in lines["Charged at Stripe"]
    for what in ("Charged twice", "Lost", "Unfinished", "Mocked although sent", "Otherwise wrong", "Never accepted",
                 "Verify, reconcile"):
        assert lines[what].split("  ", 1)[1].split()[0] == "0"
    assert "ledger and Stripe agree" in lines["Cents off"]
    assert "300 of 1,500 (20 %)" in out
    assert "store killed: back and loaded" in out
    assert out.splitlines()[-1] == "Every promise held, in 61 s with seed 7."
    assert err == ""


def test_a_violation_is_told_with_its_seed_and_ends_with_1(capsys: Capture) -> None:
    broken = replace(REPORT, verdict=replace(VERDICT, double=["job_1 has 2 effects of kind charge"],
                                             cents_off={"test": 5000}))
    assert show(broken, as_json=False) == 1
    out, err = capsys.readouterr()
    assert "NOT every promise held, in 61 s with seed 7." in out
    assert "  job_1 has 2 effects of kind charge\n" in out
    assert err == "paydesk: the drill found 1 double, 5000 cents off; draw it again with --seed 7.\n"


def test_a_drill_that_was_ended_early_says_so(capsys: Capture) -> None:
    assert show(replace(REPORT, ended_early=True), as_json=False) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "Every promise held, in 61 s with seed 7, ended early."


def test_programs_get_the_same_as_json(capsys: Capture) -> None:
    assert show(REPORT, as_json=True) == 0
    found = json.loads(capsys.readouterr().out)
    assert {name: found[name] for name in ("passed", "seed", "submitted", "accepted", "charged_at_stripe", "double",
                                           "lost", "unfinished", "cents_off", "violations")} == {
        "passed": True, "seed": 7, "submitted": 1200, "accepted": 1200, "charged_at_stripe": 1000, "double": 0,
        "lost": 0, "unfinished": 0, "cents_off": {}, "violations": {}}
    assert found["ended_early"] is False
    assert found["breaks"] == {"worker killed": 4, "store killed": 1}
    assert found["recovery"] == [{"what": "store killed: back and loaded", "measured": 1, "median_seconds": 0.5,
                                  "worst_seconds": 0.5}]

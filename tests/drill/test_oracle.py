"""The drill's oracle calls out what is planted in its evidence, by name, and nothing else."""

from dataclasses import replace
from pathlib import Path

import pytest

from drill.oracle import judge
from shared.jobs import Book, Kind, Status, job_error
from tests.drill.desk_and_stripe import PLAN, Drilled


@pytest.fixture
def drilled(tmp_path: Path) -> Drilled:
    """A drill that went well."""
    return Drilled(tmp_path / "stripe.sqlite")


def test_a_drill_that_went_well_is_passed(drilled: Drilled) -> None:
    verdict = judge(drilled.evidence())
    assert verdict.violations == {}
    assert (verdict.submitted, verdict.accepted) == (PLAN.total, PLAN.total)
    assert verdict.charged_at_stripe == len(drilled.booked) > 30
    assert verdict.charged_cents == sum(drilled.booked.values())
    assert verdict.outcomes == {"failed": PLAN.total - verdict.outcomes["succeeded"],
                                "succeeded": verdict.outcomes["succeeded"]}


def test_a_doubled_charge_is_called_out_and_costs_its_cents(drilled: Drilled) -> None:
    asked, job = drilled.first()
    drilled.sql("INSERT INTO effects (account, object_id, kind, amount, job_id, created) "
                "SELECT account, 'ch_twice', kind, amount, job_id, created FROM effects WHERE kind = 'charge' "
                "AND job_id = ?", job.id)
    verdict = judge(drilled.evidence())
    assert verdict.violations == {"double": 1, "cents_off": asked.cents}
    assert verdict.double == [f"{job.id} has 2 effects of kind charge"]


def test_a_second_object_under_another_job_of_one_client_key_is_double(drilled: Drilled) -> None:
    asked, _ = drilled.first()
    drilled.sql("INSERT INTO objects (account, id, kind, created, lookup, body, notes) SELECT account, 'pi_twice', "
                "kind, created, lookup, json_set(body, '$.id', 'pi_twice', '$.metadata.paydesk_job_id', 'job_other'), "
                "notes FROM objects WHERE id = ?", f"pi_{asked.key}")
    assert f"client key {asked.key} has 2 objects at Stripe" in judge(drilled.evidence()).double


def test_two_jobs_for_one_client_key_are_double(drilled: Drilled) -> None:
    asked, job = drilled.first()
    other = drilled.first(Kind.CUSTOMER)[1]
    verdict = judge(drilled.evidence(jobs_of={asked.key: frozenset({job.id, other.id})}))
    assert f"client key {asked.key} was answered with 2 jobs" in verdict.double


def test_a_missing_cent_is_called_out(drilled: Drilled) -> None:
    _, job = drilled.first()
    drilled.booked[job.id] -= 1
    verdict = judge(drilled.evidence())
    assert verdict.violations == {"cents_off": 1}
    assert verdict.cents_off == {Book.TEST: 1}


def test_two_mistakes_do_not_cancel_out(drilled: Drilled) -> None:
    first, second = list(drilled.booked)[:2]
    drilled.booked[first] -= 7
    drilled.booked[second] += 7
    assert judge(drilled.evidence()).violations == {"cents_off": 14}


def test_totals_that_are_not_the_sum_are_called_out(drilled: Drilled) -> None:
    assert judge(drilled.evidence(totals=sum(drilled.booked.values()) + 3)).violations == {"cents_off": 3}


def test_another_amount_at_stripe_is_called_out(drilled: Drilled) -> None:
    asked, _ = drilled.first()
    drilled.sql("UPDATE objects SET body = json_set(body, '$.amount_received', 1) WHERE id = ?", f"pi_{asked.key}")
    assert judge(drilled.evidence()).wrong == [f"pi_{asked.key} took 1 cents, which {asked.key} did not ask for"]


def test_a_job_that_was_accepted_and_is_gone_is_lost(drilled: Drilled) -> None:
    asked, job = drilled.first(Kind.CUSTOMER)
    del drilled.jobs[job.id]
    verdict = judge(drilled.evidence())
    assert verdict.lost == [f"{job.id} was accepted for {asked.key} and is gone"]
    assert verdict.violations == {"lost": 1, "wrong": 1}  # and Stripe has a customer of nobody


@pytest.mark.parametrize("status", [Status.QUEUED, Status.RUNNING, Status.RETRYING, Status.UNKNOWN, Status.PARKED])
def test_a_job_without_an_end_is_unfinished(drilled: Drilled, status: Status) -> None:
    _, job = drilled.first(Kind.CUSTOMER)
    drilled.change(job, status=status)
    assert judge(drilled.evidence()).violations == {"unfinished": 1}


def test_what_is_given_up_must_have_reached_nobody_for_a_reason_that_stripe_bears_out(drilled: Drilled) -> None:
    asked, job = drilled.first(Kind.CUSTOMER)
    drilled.change(job, status=Status.FAILED, error=job_error("never_reached_stripe", "Nothing of it."))
    given_up = f"{job.id} of {asked.key} is failed (never_reached_stripe)"
    assert judge(drilled.evidence()).wrong == [given_up]  # its key is bound to no 500
    drilled.bind_to_500(job)
    assert judge(drilled.evidence()).wrong == [given_up]  # Stripe has its customer
    drilled.sql("DELETE FROM effects WHERE job_id = ?", job.id)
    assert judge(drilled.evidence()).violations == {}


def test_a_mocked_job_that_stripe_knows_is_called_out(drilled: Drilled) -> None:
    _, job = drilled.first(Kind.CUSTOMER)
    drilled.change(job, book=Book.MOCK)
    assert judge(drilled.evidence()).violations == {"mocked_although_sent": 1}


def test_the_mocks_book_is_held_against_what_it_answered(drilled: Drilled) -> None:
    asked, job = drilled.first()
    drilled.sql("DELETE FROM objects WHERE id = ?", f"pi_{asked.key}")
    for kind in ("charge", "payment_intent"):
        drilled.sql("DELETE FROM effects WHERE job_id = ? AND kind = ?", job.id, kind)
    drilled.change(job, book=Book.MOCK)
    drilled.mock_booked[job.id] = drilled.booked.pop(job.id)
    assert judge(drilled.evidence()).violations == {}
    drilled.mock_booked[job.id] -= 1
    assert judge(drilled.evidence()).cents_off == {Book.MOCK: 1}


def test_a_success_without_a_charge_is_called_out(drilled: Drilled) -> None:
    asked, job = drilled.first()
    drilled.sql("UPDATE objects SET body = json_set(body, '$.amount_received', 0) WHERE id = ?", f"pi_{asked.key}")
    assert judge(drilled.evidence()).wrong == [f"{job.id} is succeeded, and Stripe has no charge of it"]


def test_a_failure_that_the_card_did_not_earn_is_called_out(drilled: Drilled) -> None:
    asked, job = drilled.first(Kind.CUSTOMER)
    drilled.change(job, status=Status.FAILED)
    assert judge(drilled.evidence()).wrong == [f"{job.id} of {asked.key} is failed (no error)"]


def test_who_was_refused_or_never_answered_is_called_out(drilled: Drilled) -> None:
    first, second = list(drilled.submitted)[:2]
    verdict = judge(drilled.evidence(refused={first: "400 no"}, without=(first, second)))
    assert verdict.violations == {"wrong": 1, "unaccepted": 1}


def test_what_verify_finds_counts(drilled: Drilled) -> None:
    seen = drilled.evidence()
    verdict = judge(replace(seen, desk=replace(seen.desk, differences=["totals: says 1, counted 2"])))
    assert verdict.violations == {"differences": 1}

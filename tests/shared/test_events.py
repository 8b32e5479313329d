"""The streams as log lines: one order, the same bytes, no personal data, and a gap that is said once."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cli.servers import free_port
from shared.errors import StoreUnavailable
from shared.events import PAGE, START, Events, Log, Page, Position, gap, render
from shared.ids import Ids
from shared.jobs import Job, Mode, Status, job_error
from shared.redis_calls import ROOT, RedisCalls
from shared.requests import ChargeRequest, CustomerRequest
from shared.settings import Settings
from shared.store import Answer
from shared.stripe_params import new_job
from tests.shared.till import Till, new, succeeded, waiting
from tests.worker.streams import add_events

pytestmark = pytest.mark.anyio

PLACE = Position(1_795_420_800_123, 7)
NUMBERS = st.integers(0, 2**63 - 1)
ODD = ["5000", "-1", "", "NaN", "1e5", "9" * 30, "\n", "\u2028", "ledger.captured"]
TEXTS = st.one_of(st.text(), st.sampled_from(ODD))
FIELDS = st.sampled_from(["event", "job_id", "kind", "status", "amount_cents", "total_cents", "path", "method", "ms",
                          "status_code", "error_code", "id", "ts"])


async def pages(calls: RedisCalls, log: Log, after: Position = START) -> list[Page]:
    return [page async for page in Events(calls).pages(log, after)]


async def text(calls: RedisCalls, log: Log, after: Position = START) -> str:
    return "".join(page.text for page in await pages(calls, log, after))


async def test_lines_are_these_bytes() -> None:
    job = {"job_id": "job_a", "kind": "charge", "status": "failed", "amount_cents": "5000", "currency": "usd",
           "book": "test", "payment_intent_id": "pi_1", "error_code": "card_declined", "attempt": "1"}
    assert render(Log.PAYMENTS, PLACE, {"event": "job.failed", **job}) == (
        '{"ts":"2026-11-23T08:00:00.123Z","event":"job.failed","job_id":"job_a","kind":"charge","status":"failed",'
        '"amount_cents":5000,"currency":"usd","book":"test","payment_intent_id":"pi_1","error_code":"card_declined",'
        '"id":"1795420800123-7"}\n')
    assert render(Log.REVENUE, PLACE, {"event": "ledger.captured", "total_cents": "7500", **job}) == (
        '{"ts":"2026-11-23T08:00:00.123Z","event":"revenue","amount_cents":5000,"currency":"usd","book":"test",'
        '"total_cents":7500,"job_id":"job_a","payment_intent_id":"pi_1","id":"1795420800123-7"}\n')
    call = {"event": "api_call", "method": "GET", "path": "/api/stripe/stats", "status_code": "200", "ms": "4"}
    assert render(Log.REVENUE, PLACE, call) == (
        '{"ts":"2026-11-23T08:00:00.123Z","event":"api_call","method":"GET","path":"/api/stripe/stats","status":200,'
        '"ms":4,"job_id":null,"id":"1795420800123-7"}\n')
    assert render(Log.PAYMENTS, PLACE, {"event": "ledger.captured"}) is None


@pytest.mark.parametrize("path", ["/api/stripe/customer@example.com", "/api/stripe/%40x", "/api/stripe/+1234567890",
                                  "/api/stripe/John Doe", "/api/stripe/stats?email=x", "/" + "a" * 300, "a\nb", ""])
async def test_a_path_that_may_hold_somebodys_address_is_not_shown(path: str) -> None:
    line = render(Log.REVENUE, PLACE, {"event": "api_call", "path": path})
    assert line is not None
    assert json.loads(line)["path"] is None


@settings(max_examples=300, deadline=None)
@given(log=st.sampled_from(list(Log)), ms=st.integers(0, 4_000_000_000_000), sequence=NUMBERS,
       entry=st.dictionaries(FIELDS, TEXTS))
async def test_any_entry_is_one_line_that_names_its_place(log: Log, ms: int, sequence: int,
                                                          entry: dict[str, str]) -> None:
    place = Position(ms, sequence)
    line = render(log, place, entry)
    if line is not None:
        assert line.isascii()
        assert line.index("\n") == len(line) - 1
        assert Position.of_line(line[:-1]) == place
        assert all(Position.of_line(line[:end]) is None for end in range(len(line) - 1))


@settings(max_examples=300, deadline=None)
@given(line=st.one_of(st.text(), st.text().map('{{"ts":"{}'.format), st.recursive(
    st.none() | st.integers() | st.text(), lambda inner: st.dictionaries(st.just("id"), inner)).map(
        lambda said: '{"ts":"x","id":' + json.dumps(said) + "}")))
async def test_whatever_stands_in_a_file_is_a_place_or_none(line: str) -> None:
    place = Position.of_line(line)
    assert place is None or place.number in line or "-0" in line


@given(ms=st.integers(1, 2**62), sequence=st.integers(0, 2**64 - 1))
async def test_places_are_ordered_as_the_store_orders_them(ms: int, sequence: int) -> None:
    place = Position(ms, sequence)
    assert Position.read(place.number) == place
    assert place.before < place < Position(ms + 1, 0)
    assert place > START


async def test_pages_join_without_a_seam_wherever_one_begins(calls: RedisCalls) -> None:
    await add_events(calls, 3 * PAGE + 1)
    for log in Log:
        lines = (await text(calls, log)).splitlines(keepends=True)
        assert len(await pages(calls, log)) >= 3
        assert len({Position.of_line(line) for line in lines}) == 3 * PAGE + 1
        for cut in (1, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE, 3 * PAGE, 3 * PAGE + 1):
            after = Position.of_line(lines[cut - 1])
            assert after is not None
            assert await text(calls, log, after) == "".join(lines[cut:])


async def test_calls_and_entries_have_the_order_in_which_the_store_took_them(till: Till) -> None:
    events = Events(till.calls)
    call = {"method": "POST", "path": "/api/stripe/process-charge", "status_code": "202", "ms": "3"}
    for job_id in ("job_a", "job_b"):
        await events.add_calls([call | {"job_id": job_id}])
        await till.record(succeeded(await till.started(new(job_id))))
    await events.add_calls([call, call])
    said = [json.loads(line)["event"] for line in (await text(till.calls, Log.REVENUE)).splitlines()]
    assert said == ["api_call", "revenue"] * 2 + ["api_call"] * 2
    totals = [json.loads(line).get("total_cents") for line in (await text(till.calls, Log.REVENUE)).splitlines()]
    assert totals == [None, 5000, None, 10_000, None, None]


async def test_a_clock_that_jumped_back_delays_and_loses_nothing(calls: RedisCalls) -> None:
    """Whatever was written while the clock was an hour ahead is followed by what comes after, at once."""
    for log in Log:
        ahead = Position(4_000_000_000_000, 0)
        await calls.call("XADD", ROOT + log.stream, ahead.number, "event", "api_call")
        assert (await pages(calls, log))[-1].last == ahead
        await calls.call("XADD", ROOT + log.stream, "*", "event", "api_call")
        [page] = await pages(calls, log, ahead)
        assert (page.lines, page.last) == (1, Position(ahead.ms, 1))
        assert await text(calls, log, page.last) == ""


async def test_a_gap_is_said_once_and_resumed_behind(calls: RedisCalls) -> None:
    await add_events(calls, 10)
    numbers = [Position.of_line(line) for line in (await text(calls, Log.PAYMENTS)).splitlines()]
    await calls.call("XTRIM", f"{ROOT}events", "MAXLEN", "=", 4)
    after, first = numbers[2], numbers[6]
    assert after is not None
    assert first is not None
    whole = await text(calls, Log.PAYMENTS, after)
    assert whole == gap(after, first) + await text(calls, Log.PAYMENTS)
    behind_gap = Position.of_line(whole.splitlines()[0])
    assert behind_gap is not None
    assert await text(calls, Log.PAYMENTS, behind_gap) == await text(calls, Log.PAYMENTS)
    assert '"gap"' not in await text(calls, Log.PAYMENTS, first)


async def test_a_gap_before_the_first_entry_of_a_millisecond_loses_none_of_it(calls: RedisCalls) -> None:
    await calls.call("XADD", f"{ROOT}events", "1000-0", "event", "job.queued")
    whole = await text(calls, Log.PAYMENTS, Position(10, 3))
    place = Position.of_line(whole.splitlines()[0])
    assert place is not None
    assert (await text(calls, Log.PAYMENTS, place)).count("job.queued") == 1


async def test_calls_that_cannot_be_added_say_so() -> None:
    away = RedisCalls.connect(f"redis://127.0.0.1:{free_port()}/0", deadline_seconds=1)
    with pytest.raises(StoreUnavailable):
        await Events(away).add_calls([{"method": "GET"}] * 3)
    await away.close()


async def test_many_calls_are_added_in_their_order(calls: RedisCalls) -> None:
    await Events(calls).add_calls({"method": "GET", "status_code": str(number)} for number in range(2 * PAGE + 1))
    said = [json.loads(line)["status"] for line in (await text(calls, Log.REVENUE)).splitlines()]
    assert said == list(range(2 * PAGE + 1))


CANARIES = ("canary@example.com", "Canary Customer", "+15550001111", "canary description", "canary metadata",
            "pi_x_secret_canary", "canary message")


async def test_no_personal_data_reaches_a_line_or_a_stream(till: Till) -> None:
    email, name, phone, description, metadata, secret, message = CANARIES
    desk = Settings.load(secret="logs", stripe_secret_key="", data_dir="unused")
    charge = ChargeRequest.model_validate({"amount": "50.00", "payment_method_id": "pm_card_visa", "email": email,
                                           "description": description, "metadata": {"note": metadata}})
    customer = CustomerRequest.model_validate({"email": email, "name": name, "phone": phone,
                                               "metadata": {"note": metadata}})
    result: dict[str, Any] = {"success": True, "email": email, "name": name, "client_secret": None}
    error = job_error("card_declined", message)
    answers: list[tuple[ChargeRequest | CustomerRequest, Callable[[Job], Answer]]] = [
        (charge, lambda job: succeeded(job, result=result, client_secret=secret)),
        (customer, lambda job: succeeded(job, result=result, payment=None, entries=[])),
        (charge, lambda job: succeeded(job, status=Status.FAILED, error=error)),
        (charge, lambda job: waiting(job, client_secret=secret))]
    for number, (request, answer) in enumerate(answers):
        job_id = f"job_{number}"
        await till.accept(new_job(request, job_id=job_id, caller=email, ids=Ids("a secret"), settings=desk))
        [job] = await till.claim(job_id, account="", mode=Mode.NONE)
        await till.record(answer(job))
    await till.record(succeeded(await till.job("job_2"), result=result))
    streams = str([await till.calls.call("XRANGE", ROOT + log.stream, "-", "+") for log in Log])
    written = "".join([await text(till.calls, log) for log in Log])
    for stage in ("queued", "running", "succeeded", "failed", "pending", "contradicted"):
        assert f'"event":"job.{stage}"' in written, stage
    assert '"event":"revenue"' in written
    for canary in CANARIES:
        assert canary not in streams + written

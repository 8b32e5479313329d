"""`paydesk reconcile`, run as its user does, on a real store and a stand-in."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.servers import EmbeddedServer, free_port
from shared.redis_calls import ROOT, RedisCalls
from shared.settings import Settings
from standin.client import Standin
from tests.cli.verbs import Done, paydesk
from tests.shared.till import Till, emptied, new, succeeded

pytestmark = pytest.mark.anyio

KEY = "sk_test_fake"
HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def standin() -> Iterator[Standin]:
    with Standin.start(memory=True) as made:
        yield made


@pytest.fixture
async def calls(store: EmbeddedServer, anyio_backend: str) -> RedisCalls:
    made = RedisCalls.connect(store.url, deadline_seconds=5)
    await emptied(made)
    return made


def run(folder: Path, store: EmbeddedServer, base: str, *arguments: str, **more: str) -> Done:
    """The verb, as far from the desk of whoever runs the tests as can be."""
    return paydesk(folder, "http://127.0.0.1:1", "reconcile", *arguments, REDIS_URL=store.url, STRIPE_SECRET_KEY=KEY,
                   STRIPE_API_BASE=base, PAYDESK_SECRET="a secret", **more)


async def lost_there(calls: RedisCalls) -> str:
    """A job of an hour ago whose object Stripe does not have."""
    till = Till(calls)
    account = Settings(_env_file=None, stripe_secret_key=KEY).account
    await till.accept(new(account=account))
    [job] = await till.claim("job_a", account=account)
    await till.record(succeeded(job))
    ago_ms = await till.now_ms() - HOUR_MS
    await till.put("job_a", first_sent_ms=ago_ms, created_ms=ago_ms)
    await calls.call("ZADD", f"{ROOT}jobs", ago_ms, "job_a")
    await calls.close()
    return f"pi_{job.id.removeprefix('job_')}"


async def test_a_desk_in_order_ends_with_0_and_one_honest_sentence(tmp_path: Path, store: EmbeddedServer,
                                                                    standin: Standin) -> None:
    done = run(tmp_path, store, standin.base_url, "--since", "7d")
    assert (done.code, done.out) == (0, "")
    assert done.err.startswith("Everything created from 2")
    assert done.err.endswith("was compared; 0 of this desk, 0 foreign; found no discrepancy.\n")


async def test_what_is_left_is_shown_and_ends_with_1(tmp_path: Path, store: EmbeddedServer, standin: Standin,
                                                     calls: RedisCalls) -> None:
    run(tmp_path, store, standin.base_url)  # the desk's first look makes the store its own
    payment_id = await lost_there(calls)
    done = run(tmp_path, store, standin.base_url, "--fix")
    assert done.code == 1
    assert done.out.splitlines()[1].split() == [
        "missing_there", "job_a", payment_id, "succeeded", "50.00", "nothing", "noted", "on", "the", "job"]
    assert "found 1 missing_there" in done.err
    told = json.loads(run(tmp_path, store, standin.base_url, "--json").out)
    assert (told["complete"], told["left"], told["found"]) == (True, 1, {"missing_there": 1})
    assert [finding["object_id"] for finding in told["findings"]] == [payment_id]


async def test_a_stripe_that_cannot_be_reached_ends_with_4_and_says_what_was_not_compared(
        tmp_path: Path, store: EmbeddedServer) -> None:
    done = run(tmp_path, store, f"http://127.0.0.1:{free_port()}")
    assert (done.code, done.out) == (4, "")
    assert done.err.startswith("NOT everything")
    assert "stopped in payment_intents: connect_econnrefused; run it again" in done.err


@pytest.mark.parametrize(("environment", "arguments", "code", "sentence"), [
    ({"STRIPE_SECRET_KEY": ""}, (), 78, "paydesk: There is no Stripe to compare with: STRIPE_SECRET_KEY is not set.\n"),
    ({"STRIPE_SECRET_KEY": KEY, "REDIS_URL": "redis://127.0.0.1:1/0"}, (), 4, None),
    ({"STRIPE_SECRET_KEY": KEY}, ("--since", "yesterday"), 2, None)])
def test_what_keeps_it_from_comparing_is_one_sentence(tmp_path: Path, environment: dict[str, str],
                                                      arguments: tuple[str, ...], code: int,
                                                      sentence: str | None) -> None:
    done = paydesk(tmp_path, "http://127.0.0.1:1", "reconcile", *arguments, PAYDESK_SECRET="a secret", **environment)
    assert (done.code, done.out) == (code, "")
    assert sentence is None or done.err == sentence
    assert "Traceback" not in done.err

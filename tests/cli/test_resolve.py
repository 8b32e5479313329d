"""`paydesk jobs resolve` works at the store, without a web, and says in one sentence what it did or would not do."""

import asyncio
import json
from pathlib import Path

import pytest

from cli.servers import EmbeddedServer, free_port
from shared.jobs import Status
from shared.operator import AUDIT_STREAM
from tests.cli.verbs import Done, paydesk
from tests.shared.till import Till, new

pytestmark = pytest.mark.anyio

QUEUED = "The job is queued (waiting for its first attempt)"
WHY = ("--why", "Nothing at Stripe.")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


async def resolve(valkey: EmbeddedServer, folder: Path, *arguments: str, **environment: str) -> Done:
    """Run the verb; no desk answers where it would ask for one."""
    return await asyncio.to_thread(paydesk, folder, f"http://127.0.0.1:{free_port()}", "jobs", "resolve", *arguments,
                                   **({"REDIS_URL": valkey.url} | environment))


async def parked(till: Till, *, in_doubt: bool) -> None:
    await till.release(await till.started(new()), park=True, unsent=not in_doubt)


async def audit(till: Till) -> list[dict[str, str]]:
    return [fields for _, fields in await till.calls.call("XRANGE", AUDIT_STREAM, "-", "+")]


async def test_a_parked_job_ends_as_failed(valkey: EmbeddedServer, till: Till, folder: Path) -> None:
    await parked(till, in_doubt=False)
    done = await resolve(valkey, folder, "job_a", "--as", "failed", *WHY, "--who", "ann")
    assert done == Done(0, "job_a is failed now.\n", "")
    assert (await till.job()).status is Status.FAILED
    [entry] = await audit(till)
    assert (entry["who"], entry["why"], entry["verb"]) == ("ann", "Nothing at Stripe.", "resolve")


async def test_one_in_doubt_needs_a_look_at_stripe(valkey: EmbeddedServer, till: Till, folder: Path) -> None:
    await parked(till, in_doubt=True)
    arguments = ("job_a", "--as", "failed", *WHY, "--who", "ann", "--json")
    done = await resolve(valkey, folder, *arguments)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("paydesk: The job is parked and in doubt: Stripe may have it. Look at Stripe first")
    assert (await till.job()).status is Status.PARKED
    done = await resolve(valkey, folder, *arguments, "--confirmed-at-stripe")
    assert (done.code, json.loads(done.out), done.err) == (0, {"job_id": "job_a", "status": "failed"}, "")


async def test_a_parked_job_is_handed_back_by_the_systems_user(valkey: EmbeddedServer, till: Till, folder: Path,
                                                               ) -> None:
    await parked(till, in_doubt=True)
    done = await resolve(valkey, folder, "job_a", "--as", "ask-again", *WHY, LOGNAME="ben")
    assert done == Done(0, "job_a is unknown now.\n", "")
    assert await till.feed() == ["job_a"]
    assert [entry["who"] for entry in await audit(till)] == ["ben"]


@pytest.mark.parametrize(("arguments", "sentence"), [
    (("job_none", "--as", "failed"), "There is no job with this id."),
    (("job_a", "--as", "failed"), f"{QUEUED}; only a parked one can be helped so."),
    (("job_a", "--as", "ask-again"), f"{QUEUED}; only an unknown or a parked one can be helped so.")])
async def test_what_cannot_be_done_is_one_sentence(valkey: EmbeddedServer, till: Till, folder: Path,
                                                   arguments: tuple[str, ...], sentence: str) -> None:
    await till.accept(new())
    assert await resolve(valkey, folder, *arguments, *WHY, "--who", "ann") == Done(1, "", f"paydesk: {sentence}\n")
    assert await audit(till) == []


@pytest.mark.parametrize("arguments", [
    (), ("job_a",), ("job_a", "--as", "failed"), ("job_a", *WHY), ("job_a", "--as", "succeeded", *WHY),
    ("job_a", "--as", "failed", "--why", " ", "--who", "ann"), ("job_a", "--as", "failed", *WHY, "--who", "a" * 65),
    ("job_a", "--as", "ask-again", *WHY, "--who", "ann", "--confirmed-at-stripe")])
async def test_wrong_usage_does_nothing(valkey: EmbeddedServer, till: Till, folder: Path, arguments: tuple[str, ...],
                                        ) -> None:
    await parked(till, in_doubt=False)
    done = await resolve(valkey, folder, *arguments)
    assert (done.code, done.out, "Traceback" in done.err) == (2, "", False)
    assert (await till.job()).status is Status.PARKED


async def test_without_a_store_it_says_so(valkey: EmbeddedServer, folder: Path) -> None:
    done = await resolve(valkey, folder, "job_a", "--as", "failed", *WHY, "--who", "ann",
                         REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
    assert (done.code, done.out, done.err.count("\n")) == (4, "", 1)

"""`paydesk watch`: follow one job until it has come to rest."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from cli.desk_client import DeskClient, DeskUnreachable, JsonOption, KeyOption, Reply, UrlOption, job_address
from cli.tables import printable, write_table
from shared.jobs import FINAL, Status

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130
POLL_SECONDS = 25
"""How long the desk is asked to wait in one request; its own limit is 30."""
LEAST_SECONDS = 1.0
"""Between two requests: a desk with too many waiters answers at once."""
RESTS = FINAL | {Status.PENDING, Status.PARKED}

EXAMPLE = "paydesk watch job_2k7c4v6q3n5m7p2r4t6w2y3z5b7d4f6h"


def watch(job_id: Annotated[str, typer.Argument(metavar="JOB_ID", help="The job's id, job_….")], *,
          url: UrlOption = None, api_key: KeyOption = None, as_json: JsonOption = False) -> None:
    """Follow a job until it rests. Exit 0 only if it succeeded. Ctrl-C detaches (130), the job goes on."""
    client = DeskClient.open(url, api_key, as_json=as_json)
    with detaching(job_id):
        reply = client.get(job_address(job_id))
        finish(client, follow(client, reply, seconds=None))


@contextmanager
def detaching(job_id: str) -> Iterator[None]:
    """Ctrl-C, or a desk that went away, leaves the job alone: say how to return to it."""
    back = f"Return to it with: paydesk watch {printable(job_id)}\n"
    try:
        yield
    except KeyboardInterrupt:
        sys.stderr.write(f"\nDetached; the job goes on. {back}")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except DeskUnreachable:
        sys.stderr.write(back)
        raise


def follow(client: DeskClient, reply: Reply, *, seconds: float | None) -> Reply:
    """The job once it rests, or as it stands after so many seconds; each change of its status is told on stderr."""
    end = None if seconds is None else time.monotonic() + seconds
    _tell(reply.says["status"])
    while reply.says["status"] not in RESTS:
        asked = time.monotonic()
        left = POLL_SECONDS if end is None else min(POLL_SECONDS, int(end - asked) + 1)
        if end is not None and asked >= end:
            break
        before = reply.says["status"]
        reply = client.get(job_address(reply.says["id"]), {"wait": left}, wait_seconds=left)
        if reply.says["status"] != before:
            _tell(reply.says["status"])
        elif (early := LEAST_SECONDS - (time.monotonic() - asked)) > 0:
            time.sleep(early)
    return reply


def _tell(status: str) -> None:
    if status not in RESTS:
        sys.stderr.write(f"{printable(status)} …\n")


def finish(client: DeskClient, reply: Reply) -> None:
    """Write the job to stdout and end: with 0 only if it succeeded."""
    show(client, reply)
    if reply.says["status"] not in RESTS:
        sys.stderr.write(f"Not at rest yet. Return to it with: paydesk watch {printable(reply.says['id'])}\n")
    raise typer.Exit(0 if reply.says["status"] == Status.SUCCEEDED else EXIT_FAILED)


def show(client: DeskClient, reply: Reply) -> None:
    """Write a job to stdout."""
    if client.as_json:
        sys.stdout.write(f"{reply.text}\n")
    else:
        write_table(_rows(reply.says))


def _rows(job: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "job", job["id"]
    yield "kind", job["kind"]
    yield "status", job["status"]
    if (amount := amount_text(job)) is not None:
        yield "amount", f"{amount} USD"
    for name, value in (job["result"] or {}).items():
        if name in ("payment_intent_id", "customer_id"):
            yield name.removesuffix("_id").replace("_", " "), str(value)
    if job["book"] is not None:
        yield "book", job["book"] + (" (no money moved)" if job["mock_mode"] else "")
    if job["error"] is not None:
        yield "error", f"{job['error']['code']}: {job['error']['message']}"
    if job["next_attempt_at"] is not None:
        yield "next attempt", job["next_attempt_at"]


def amount_text(job: dict[str, Any]) -> str | None:
    """A job's amount with two decimals."""
    return None if job["amount"] is None else f"{job['amount']:.2f}"

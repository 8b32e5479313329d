"""`paydesk jobs`: the newest jobs of a running desk; its sub-verb `resolve` is in a file of its own."""

import sys
from typing import Annotated

import typer

from cli import resolve
from cli.desk_client import DeskClient, JsonOption, KeyOption, UrlOption
from cli.examples import example
from cli.tables import printable, write_table
from cli.watch import amount_text
from shared.jobs import Kind, Status

EXAMPLE = "paydesk jobs --status failed --limit 50"


def create_jobs_app() -> typer.Typer:
    """The verbs about jobs: listing them, which needs no second word, and what a human does to one."""
    app = typer.Typer(invoke_without_command=True, epilog=example(EXAMPLE))
    app.callback()(_jobs)
    app.command("resolve", epilog=example(resolve.EXAMPLE))(resolve.resolve)
    return app


def _jobs(context: typer.Context, *,
          status: Annotated[Status | None, typer.Option(help="Only jobs that stand so.")] = None,
          kind: Annotated[Kind | None, typer.Option(help="Only jobs of this kind.")] = None,
          limit: Annotated[int, typer.Option(min=1, max=100, help="How many.")] = 10,
          starting_after: Annotated[str | None, typer.Option(metavar="JOB_ID", help="Go on behind this job.")] = None,
          url: UrlOption = None, api_key: KeyOption = None, as_json: JsonOption = False) -> None:
    """List jobs, newest first."""
    if context.invoked_subcommand is not None:
        return
    client = DeskClient.open(url, api_key, as_json=as_json)
    reply = client.get("/api/jobs", {"status": status and status.value, "kind": kind and kind.value, "limit": limit,
                                     "starting_after": starting_after})
    found = reply.says["data"]
    if as_json:
        sys.stdout.write(f"{reply.text}\n")
    elif found:
        write_table([(job["id"], job["created_at"], job["kind"], job["status"], amount_text(job) or "-",
                      job["book"] or "-", job["error"]["code"] if job["error"] else "") for job in found],
                    ("job", "created", "kind", "status", "USD", "book", "error"))
    else:
        sys.stderr.write("No jobs.\n")
    if reply.says["has_more"]:
        sys.stderr.write(f"There are more: --starting-after {printable(found[-1]['id'])}\n")

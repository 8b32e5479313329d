"""The verbs of `paydesk`, each in its own file, registered here; a fault becomes one sentence and an exit code."""

import sys
from typing import Annotated

import typer

from cli import bench, charge, drill, jobs, reconcile, stats, up, verify, watch
from cli.desk_client import DeskUnreachable
from cli.examples import example
from cli.log import create_log_app
from shared.errors import PaydeskError, SettingsRefused, StoreUnavailable

EXIT_FAILED = 1
EXIT_UNREACHABLE = 4
EXIT_REFUSED = 78

EXIT_CODES: dict[type[PaydeskError], int] = {SettingsRefused: EXIT_REFUSED, StoreUnavailable: EXIT_UNREACHABLE,
                                             DeskUnreachable: EXIT_UNREACHABLE}
"""What a fault ends with, by its class; any other ends with 1. Wrong usage is 2, an interruption 130."""


def create_app() -> typer.Typer:
    """The command line with every verb."""
    app = typer.Typer(name="paydesk", add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False,
                      rich_markup_mode=None, help="Hand it a charge and it is never lost and never made twice.",
                      epilog="`paydesk test` passes the tests. Data goes to stdout, everything else to stderr. Exit "
                             "codes: 0 ok, 1 failure, 2 usage, 4 not reachable, 78 refused to start, 130 interrupted.")
    app.callback()(_options)
    app.command("up", epilog=example(up.EXAMPLE))(up.up)
    app.command("charge", epilog=example(charge.EXAMPLE))(charge.charge)
    app.command("watch", epilog=example(watch.EXAMPLE))(watch.watch)
    app.add_typer(jobs.create_jobs_app(), name="jobs")
    app.command("stats", epilog=example(stats.EXAMPLE))(stats.stats)
    app.command("verify", epilog=example(verify.EXAMPLE))(verify.verify)
    app.command("reconcile", epilog=example(reconcile.EXAMPLE))(reconcile.reconcile)
    app.add_typer(create_log_app(), name="log")
    app.command("bench", epilog=example(bench.EXAMPLE))(bench.bench)
    app.command("drill", epilog=example(drill.EXAMPLE))(drill.drill)
    return app


def _options(*, version: Annotated[bool, typer.Option("--version", is_eager=True, callback=lambda asked: _tell_version(
        asked=asked), help="Tell the version.")] = False) -> None:
    """What may stand before a verb."""


def _tell_version(*, asked: bool) -> None:
    if asked:
        from api.openapi import VERSION  # only now: it loads the web framework, which no verb needs

        sys.stdout.write(f"paydesk {VERSION}\n")
        raise typer.Exit


def run() -> int:
    """Run the verb in sys.argv. An expected fault is one sentence on stderr, never a traceback."""
    try:
        create_app()(prog_name="paydesk")
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else EXIT_FAILED
    except PaydeskError as fault:
        sys.stderr.write(f"paydesk: {fault}\n")
        return next((code for kind, code in EXIT_CODES.items() if isinstance(fault, kind)), EXIT_FAILED)
    except OSError as fault:
        sys.stderr.write(f"paydesk: {fault.strerror or fault}{f': {fault.filename}' if fault.filename else ''}.\n")
        return EXIT_FAILED
    return 0

"""The verbs of `paydesk`, each in its own file, registered here; a fault becomes one sentence and an exit code."""

import sys

import typer

from cli.bench import bench
from cli.log import create_log_app
from cli.up import up
from cli.verify import verify
from shared.errors import PaydeskError, SettingsRefused, StoreUnavailable

EXIT_FAILED = 1
EXIT_UNREACHABLE = 4
EXIT_REFUSED = 78

EXIT_CODES: dict[type[PaydeskError], int] = {SettingsRefused: EXIT_REFUSED, StoreUnavailable: EXIT_UNREACHABLE}
"""What a fault ends with, by its class; any other ends with 1. Wrong usage is 2, an interruption 130."""


def create_app() -> typer.Typer:
    """The command line with every verb."""
    app = typer.Typer(name="paydesk", add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False,
                      rich_markup_mode=None, help="Hand it a charge and it is never lost and never made twice.")
    app.command("up")(up)
    app.command("verify")(verify)
    app.add_typer(create_log_app(), name="log")
    app.command("bench")(bench)
    return app


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

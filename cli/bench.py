"""`paydesk bench`: measure the desk on this machine; it starts everything that it needs itself."""

import asyncio
import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.servers import STORE, EmbeddedServer, free_port
from shared.errors import PaydeskError

if TYPE_CHECKING:
    from bench.figure import Figure

ROUNDS = 200
QUICK_ROUNDS = 20
SECONDS = 20.0
"""Two freshness windows, so that asking once in each can be told from asking once in all."""
QUICK_SECONDS = 3.0
QUICK_EVENTS = 2_000
QUICK_OBJECTS, QUICK_PLANTED = 200, 24
NO_SUCH_NAME = "https://stripe.invalid"

EXAMPLE = "paydesk bench --quick"


class OnlyInCheckout(PaydeskError):
    """What measures the desk is not in its image."""

    code = "only_in_checkout"


def bench(*, quick: Annotated[bool, typer.Option(help="Few rounds: only whether it runs.")] = False,
          as_json: Annotated[bool, typer.Option("--json", help="Write the figures as JSON.")] = False) -> None:
    """Measure start-up, latency and the cost of a charge. Exit 1 when a goal is missed (never with --quick)."""
    figures = []
    with tempfile.TemporaryDirectory(prefix="paydesk-bench-") as folder:
        for figure in _figures(Path(folder), quick=quick):
            figures.append(figure)
            if not as_json:
                sys.stdout.write(_line(figure))
                sys.stdout.flush()
    if as_json:
        sys.stdout.write(json.dumps([asdict(figure) for figure in figures]) + "\n")
    raise typer.Exit(0 if quick or all(figure.reached for figure in figures) else 1)


def _figures(folder: Path, *, quick: bool) -> Iterator["Figure"]:
    try:  # only now: these load the worker and Stripe's SDK, which no other verb needs
        from bench import logs, reach, reconcile, single
    except ModuleNotFoundError:
        raise OnlyInCheckout("`paydesk bench` runs in a checkout, not in an image.") from None

    rounds = QUICK_ROUNDS if quick else ROUNDS
    if not quick:
        yield from single.from_nothing(folder)
    yield from single.waiting_through_stripe(folder, rounds)
    yield from single.without_network(folder, "names do not resolve", NO_SUCH_NAME, rounds)
    yield from single.without_network(folder, "port refused", f"http://127.0.0.1:{free_port()}", rounds)
    seconds = QUICK_SECONDS if quick else SECONDS
    yield from reach.black_holed(folder, seconds)
    yield from reach.polled(folder, seconds)
    with _store(folder / "cost") as url:
        yield from asyncio.run(single.store_cost(url, rounds))
    with _store(folder / "logs") as url:
        yield from logs.rebuilding(url, folder / "logs", QUICK_EVENTS if quick else logs.ENTRIES)
    with _store(folder / "reconcile") as url:
        yield from (reconcile.comparing(url, QUICK_OBJECTS, QUICK_PLANTED) if quick
                    else reconcile.comparing(url, reconcile.OBJECTS, reconcile.PLANTED))


@contextlib.contextmanager
def _store(folder: Path) -> Iterator[str]:
    """An empty embedded store, and where it is."""
    server = EmbeddedServer(STORE, folder)
    server.start()
    try:
        yield server.url
    finally:
        server.stop()


def _line(figure: "Figure") -> str:
    goal = "" if figure.goal is None else f"goal {figure.goal:g} {figure.unit}".rstrip()
    mark = "" if figure.reached else "  MISSED"
    return f"{figure.name:<50} {figure.value:>9.2f} {figure.unit:<2}  {goal}{mark}".rstrip() + "\n"

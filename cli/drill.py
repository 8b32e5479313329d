"""`paydesk drill`: break a desk of its own on purpose, under load, and count whether every promise held."""

import asyncio
import json
import secrets
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer
from rich.console import Console
from rich.status import Status as Spinner

from cli import processes
from cli.bench import OnlyInCheckout
from cli.servers import BROKER, STORE, EmbeddedServer, Role
from cli.supervisor import die_with_parent
from cli.tables import write_table

if TYPE_CHECKING:
    from drill.desk import Parts
    from drill.plan import Plan
    from drill.run import Progress, Report

CHARGES, WORKER_KILLS, STORE_KILLS = 1_500, 15, 3
LONG_CHARGES, LONG_WORKER_KILLS, LONG_STORE_KILLS = 50_000, 500, 60
PLAIN_LINE_EVERY_SECONDS = 10.0

EXAMPLE = "paydesk drill --charges 3000 --seed 7 --json"


def drill(*, charges: Annotated[int | None, typer.Option(min=1, help="How many charges; 1500.")] = None,
          seed: Annotated[int | None, typer.Option(min=0, help="Draws the same again; else a new one.")] = None,
          minutes: Annotated[float | None, typer.Option(min=0.1, help="How long the load lasts; else as long as the "
                                                                      "charges and kills need.")] = None,
          long: Annotated[bool, typer.Option("--long", help="50,000 charges, 500 kills of workers, 60 of the store: "
                                                            "about 35 minutes.")] = False,
          worker_kills: Annotated[int | None, typer.Option(min=0, help="How often a worker is killed; 15.")] = None,
          store_kills: Annotated[int | None, typer.Option(min=0, help="How often the store is killed; 3.")] = None,
          as_json: Annotated[bool, typer.Option("--json", help="Write the result as JSON.")] = False,
          keep: Annotated[Path | None, typer.Option(help="An empty or new directory to leave everything in.")] = None,
          ) -> None:
    """Prove it here: a desk of its own is loaded, broken on purpose, and counted. Exit 1 if anything is amiss."""
    try:  # only now: it loads what no other verb needs
        from drill.plan import Plan
        from drill.run import drill as run_drill
    except ModuleNotFoundError:
        raise OnlyInCheckout("`paydesk drill` runs in a checkout, not in an image.") from None

    usual = (LONG_CHARGES, LONG_WORKER_KILLS, LONG_STORE_KILLS) if long else (CHARGES, WORKER_KILLS, STORE_KILLS)
    given = (charges, worker_kills, store_kills)
    size = [usual[place] if value is None else value for place, value in enumerate(given)]
    plan = Plan.of(charges=size[0], worker_kills=size[1], store_kills=size[2], minutes=minutes,
                   seed=secrets.randbelow(10**6) if seed is None else seed)
    with _folder(keep) as folder, _Teller(plan) as tell:
        report = asyncio.run(_until_enough(lambda enough: run_drill(plan, parts(), Path(folder), tell, enough=enough)))
    raise typer.Exit(show(report, as_json=as_json))


async def _until_enough(run: Callable[[asyncio.Event], Awaitable["Report"]]) -> "Report":
    """The first Ctrl-C or SIGTERM ends the load, and what was done is judged; the next Ctrl-C ends everything."""
    enough, loop = asyncio.Event(), asyncio.get_running_loop()

    def ask() -> None:
        enough.set()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ask)
    return await run(enough)


def show(report: "Report", *, as_json: bool) -> int:
    """Write how the drill ended; answers the exit code."""
    if as_json:
        sys.stdout.write(json.dumps(_shown(report)) + "\n")
    else:
        _write(report)
    if report.passed:
        return 0
    broken = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in report.verdict.violations.items())
    sys.stderr.write(f"paydesk: the drill found {broken}; draw it again with --seed {report.plan.seed}.\n")
    return 1


def _folder(keep: Path | None) -> AbstractContextManager[str | Path]:
    if keep is None:
        return tempfile.TemporaryDirectory(prefix="paydesk-drill-")
    keep.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(keep.iterdir()):
        raise typer.BadParameter("the directory must be empty", param_hint="--keep")
    return nullcontext(keep.resolve())


def parts(store: Role = STORE) -> "Parts":
    """What a drilled desk is made of: the same servers and lines as `up` runs."""
    from drill.desk import Parts

    return Parts(store=partial(EmbeddedServer, store), broker=partial(EmbeddedServer, BROKER), web=_line(processes.WEB),
                 worker=_line(processes.WORKER), standin=lambda options: (sys.executable, "-m", "standin", *options),
                 in_child=die_with_parent())


def _line(line: str) -> Callable[[Mapping[str, str]], Sequence[str]]:
    return partial(processes.command, line)


class _Teller:
    """Tells how far the drill is, on stderr: a line that changes on a terminal, a line now and then elsewhere."""

    def __init__(self, plan: "Plan") -> None:
        self._plan = plan
        self._console = Console(stderr=True, highlight=False)
        self._spinner: Spinner | None = None
        self._last = -PLAIN_LINE_EVERY_SECONDS

    def __enter__(self) -> Self:
        self._say(f"Drill with seed {self._plan.seed}: {self._plan.charges} charges, "
                  f"{sum(self._plan.breaks.values())} breaks in {self._plan.seconds:.0f} s. Starting a desk…")
        if self._console.is_terminal:
            self._spinner = self._console.status("starting")
            self._spinner.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._spinner is not None:
            self._spinner.stop()

    def __call__(self, now: "Progress") -> None:
        """Tell it."""
        waits = "" if now.unfinished is None else f", {now.unfinished} under way"
        line = (f"{now.seconds:4.0f} s  {now.phase}: {now.accepted} of {now.total} accepted{waits}, "
                f"{now.breaks} of {now.all_breaks} breaks")
        if self._spinner is not None:
            self._spinner.update(line)
        elif now.seconds - self._last >= PLAIN_LINE_EVERY_SECONDS:
            self._last = now.seconds
            self._say(line)

    @staticmethod
    def _say(line: str) -> None:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def _shown(report: "Report") -> dict[str, Any]:
    verdict = report.verdict
    return {
        "passed": report.passed, "seed": report.plan.seed, "seconds": report.seconds, "ended_early": report.ended_early,
        "charges": report.plan.charges,
        "submitted": verdict.submitted, "accepted": verdict.accepted, "outcomes": dict(verdict.outcomes),
        "charged_at_stripe": verdict.charged_at_stripe, "charged_cents": verdict.charged_cents,
        "mocked": verdict.mocked, "ended_by_list": report.ended_by_list, "double": len(verdict.double),
        "lost": len(verdict.lost), "unfinished": len(verdict.unfinished),
        "mocked_although_sent": len(verdict.mocked_although_sent), "wrong": len(verdict.wrong),
        "unaccepted": len(verdict.unaccepted),
        "differences": list(verdict.differences), "cents_off": dict(verdict.cents_off),
        "violations": verdict.violations, "cases": _cases(report), "breaks": dict(report.breaks),
        "missed_breaks": dict(report.missed), "calls": report.calls, "faulty_calls": report.faulty_calls,
        "asked_again": report.asked_again, "revived": report.revived,
        "recovery": [asdict(one) for one in report.recoveries]}


def _cases(report: "Report") -> list[str]:
    """The first cases of each kind, as they are told to people too."""
    verdict = report.verdict
    kinds = (verdict.double, verdict.lost, verdict.unfinished, verdict.mocked_although_sent, verdict.wrong,
             verdict.unaccepted, verdict.differences)
    return [case for kind in kinds for case in kind[:5]]


def _write(report: "Report") -> None:
    verdict, share = report.verdict, 100 * report.faulty_calls / max(1, report.calls)
    rows = [
        ("Submitted by clients", f"{verdict.submitted:,}",
         f"accepted {verdict.accepted:,}; asked again {report.asked_again:,} times"),
        ("Settled", f"{sum(verdict.outcomes.values()) - verdict.outcomes.get('unknown', 0):,}",
         ", ".join(f"{count:,} {name}" for name, count in verdict.outcomes.items())),
        ("Charged at Stripe", f"{verdict.charged_at_stripe:,}",
         f"{_dollars(verdict.charged_cents)}, counted in the stand-in's own file"),
        ("Answered by the mock", f"{verdict.mocked:,}", "no money moved: Stripe was out of everybody's reach"),
        ("Ended by Stripe's list", f"{report.ended_by_list:,}", "their keys answered 500 for good"),
        ("Charged twice", f"{len(verdict.double):,}", ""), ("Lost", f"{len(verdict.lost):,}", ""),
        ("Unfinished", f"{len(verdict.unfinished):,}", ""),
        ("Mocked although sent", f"{len(verdict.mocked_although_sent):,}", ""),
        ("Otherwise wrong", f"{len(verdict.wrong):,}", "amounts, outcomes, charges that nobody asked for"),
        ("Never accepted", f"{len(verdict.unaccepted):,}", "clients that gave up"),
        ("Cents off", f"{sum(map(abs, verdict.cents_off.values())):,}", ", ".join(
            f"{book} book" for book in verdict.cents_off) or "ledger and Stripe agree, job by job"),
        ("Verify, reconcile", f"{len(verdict.differences):,}", "differences: the desk's own books, and Stripe's list"),
    ]
    write_table(rows)
    sys.stdout.write("\n")
    write_table([(what, str(count)) for what, count in sorted(report.breaks.items())]
                + [("calls to Stripe that went wrong", f"{report.faulty_calls:,} of {report.calls:,} ({share:.0f} %)")],
                ("broken on purpose, with jobs in flight", "times"))
    sys.stdout.write("\n")
    write_table([(one.what, f"{one.median_seconds:.2f}", f"{one.worst_seconds:.2f}", str(one.measured))
                 for one in report.recoveries], ("seconds to recover", "median", "worst", "measured"))
    early = ", ended early" if report.ended_early else ""
    verdict_line = "Every promise held" if report.passed else "NOT every promise held"
    sys.stdout.write(f"\n{verdict_line}, in {report.seconds:.0f} s with seed {report.plan.seed}{early}.\n")
    sys.stdout.writelines(f"  {case}\n" for case in _cases(report))


def _dollars(cents: int) -> str:
    return f"${cents // 100:,}.{cents % 100:02d}"

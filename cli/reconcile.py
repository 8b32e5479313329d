"""`paydesk reconcile`: compare the desk with Stripe's lists, and mend what is safe."""

import asyncio
import json
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.store_loss import accept_loss, epoch_of
from cli.tables import write_table
from cli.verify import ANSWER_SECONDS, store_url
from shared.errors import PaydeskError, SettingsRefused
from shared.ids import token
from shared.jobs import Mode, timestamp
from shared.reconcile_state import Discrepancy, Finding, LeaseLost, Progress, Run
from shared.redis_calls import RedisCalls
from shared.settings import Settings

if TYPE_CHECKING:
    from worker.desk import Desk
    from worker.processor import Lists
    from worker.reconcile import Reconcile

EXAMPLE = "paydesk reconcile --since 7d --fix"
EXIT_LEFT = 1
EXIT_INCOMPLETE = 4
WAIT_SECONDS = 90.0
"""For another process that compares: a worker's round is short, and a silent one is taken over in less than this."""
_TELL_EVERY_SECONDS = 2.0
_AGO = re.compile(r"([1-9][0-9]{0,4})([hd])")
_HOURS = {"h": 1, "d": 24}


class ReconcileBusy(PaydeskError):
    """Another process compares the desk with Stripe, and does not end."""

    code = "reconcile_busy"


class RebuildIncomplete(PaydeskError):
    """A lost store could not be rebuilt to the end."""

    code = "rebuild_incomplete"


def since(text: str) -> str:
    """A day in UTC (2026-11-01), or how long ago (24h, 7d). Raises typer.BadParameter."""
    try:
        _since_ms(text, now_ms=0)
    except ValueError:
        raise typer.BadParameter("a day like 2026-11-01, or how long ago, like 24h or 7d") from None
    return text


def _since_ms(text: str, *, now_ms: int) -> int:
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return now_ms - int(ago[1]) * _HOURS[ago[2]] * 3_600_000
    return int(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp() * 1000)


def reconcile(*, since_text: Annotated[str, typer.Option("--since", parser=since, metavar="DAY|24h|7d", help=(
                  "Compare what was created since."))] = "24h",
              fix: Annotated[bool, typer.Option("--fix", help="Record what only Stripe knows.")] = False,
              loss_accepted: Annotated[bool, typer.Option("--accept-loss", help=(
                  "Without a Stripe key: go on with a store that lost what was in it."))] = False,
              as_json: Annotated[bool, typer.Option("--json", help="Write the findings as JSON.")] = False,
              data_dir: Annotated[Path | None, typer.Option(help="The desk's directory; PAYDESK_DATA_DIR, else "
                                                                 ".paydesk.")] = None) -> None:
    """Compare the desk with Stripe's lists, also while it works; goes on where it was stopped.

    A store that was lost is first rebuilt from all that Stripe has of this desk. Exit 1 when a discrepancy is left, 4
    when not everything could be compared.
    """
    settings = Settings.load(**({} if data_dir is None else {"data_dir": data_dir}))
    if loss_accepted:
        losses = asyncio.run(accept_loss(settings, store_url(settings)))
        sys.stderr.write(f"The desk goes on with what its store has now; it is loss number {losses}.\n")
        return
    if settings.mode is Mode.NONE:
        raise SettingsRefused("There is no Stripe to compare with: STRIPE_SECRET_KEY is not set.")
    progress, findings = asyncio.run(_reconcile(settings, since_text, fix=fix))
    _show(progress, findings, as_json=as_json)
    if not progress.complete:
        raise typer.Exit(EXIT_INCOMPLETE)
    raise typer.Exit(EXIT_LEFT if progress.left else 0)


async def _reconcile(settings: Settings, since_text: str, *, fix: bool) -> tuple[Progress, list[Finding]]:
    from shared.circuit import Circuit  # only now: these load Stripe's SDK, which no other verb needs
    from worker.main import create_desk
    from worker.reconcile import Reconcile
    from worker.stripe_processor import StripeProcessor

    calls = RedisCalls.connect(store_url(settings), deadline_seconds=ANSWER_SECONDS)
    try:
        desk = create_desk(settings, calls, Circuit(calls), worker=f"reconcile:{token()}")
        if not isinstance(desk.stripe, StripeProcessor):
            raise SettingsRefused("There is no Stripe to compare with.")
        comparing = Reconcile(desk, desk.stripe, calls)
        try:
            async with epoch_of(settings, calls).rebuilding() as lost:
                if lost:
                    await _rebuild(desk, desk.stripe, calls)
            return await _hold_and_run(comparing, since_text, fix=fix), await comparing.state.findings(Run.ASKED)
        finally:
            await desk.stripe.close()
    finally:
        await calls.close()


async def _rebuild(desk: "Desk", lists: "Lists", calls: RedisCalls) -> None:
    """Make again what was lost. Raises RebuildIncomplete; until it is complete the desk stays on hold."""
    from worker.reconcile import rebuild

    sys.stderr.write("The store lost what was in it: rebuilding it from what Stripe has of this desk.\n")
    try:
        progress = await rebuild(desk, lists, calls, tell=Teller())
    except LeaseLost:
        raise ReconcileBusy("Another process compares the desk with Stripe; try again in a minute.") from None
    if not progress.complete:
        raise RebuildIncomplete(f"Stripe did not list everything ({progress.stopped_by}), so the desk stays on hold: "
                                "run it again, and it goes on there.")
    sys.stderr.write(f"Rebuilt: {progress.compared} objects of this desk, {sum(progress.fixed.values())} made again.\n")


async def _hold_and_run(comparing: "Reconcile", since_text: str, *, fix: bool) -> Progress:
    """Wait for who compares now, then compare. Raises ReconcileBusy."""
    end = time.monotonic() + WAIT_SECONDS
    said = False
    while True:
        async with comparing.holding() as held:
            if held:
                since_ms = _since_ms(since_text, now_ms=(await comparing.state.look()).now_ms)
                try:
                    return await comparing.run(Run.ASKED, since_ms=since_ms, fix=fix, asked=since_text, tell=Teller())
                except LeaseLost:
                    raise ReconcileBusy("Another process took over, because this one was silent for too long: "
                                        "run it again, and it goes on there.") from None
        if time.monotonic() > end:
            raise ReconcileBusy("Another process compares the desk with Stripe; try again later.")
        if not said:
            sys.stderr.write("Another process compares now; waiting for it.\n")
            said = True
        await asyncio.sleep(1)


class Teller:
    """Tells on stderr, now and then, how far the comparison is."""

    def __init__(self) -> None:
        self._told = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        if time.monotonic() - self._told >= _TELL_EVERY_SECONDS:
            self._told = time.monotonic()
            sys.stderr.write(f"{progress.compared} compared ({progress.phase}), {progress.left} discrepancies left\n")


def _show(progress: Progress, findings: Sequence[Finding], *, as_json: bool) -> None:
    if as_json:
        told = {"complete": progress.complete, "stopped_by": progress.stopped_by or None, "fix": progress.fix,
                "since": timestamp(progress.since_ms), "until": timestamp(progress.until_ms),
                "compared": progress.compared, "in_motion": progress.in_motion, "found": progress.found,
                "fixed": progress.fixed, "left": progress.left, "findings": [asdict(one) for one in findings]}
        sys.stdout.write(json.dumps(told) + "\n")
    elif findings:
        write_table([(one.kind, one.job_id or "-", one.object_id or "-", one.here, one.there, _became(one))
                     for one in findings], ("found", "job", "object", "the desk", "Stripe", "now"))
    sys.stderr.write(f"{_sentence(progress)}\n")


def _became(finding: Finding) -> str:
    if finding.fixed:
        return "fixed"
    return "noted on the job" if finding.noted else "left"


def _sentence(progress: Progress) -> str:
    """What was compared, up to when, and what is left: no more than is so."""
    window = f"created from {timestamp(progress.since_ms)} to {timestamp(progress.until_ms)}"
    counts = ", ".join(f"{count} {kind}" for kind, count in progress.found.items()
                       if kind != Discrepancy.FOREIGN) or "no discrepancy"
    foreign = progress.found.get(Discrepancy.FOREIGN, 0)
    parts = [f"{'Everything' if progress.complete else 'NOT everything'} {window} was compared",
             f"{progress.compared} of this desk, {foreign} foreign", f"found {counts}"]
    if progress.fixed:
        parts.append(f"{sum(progress.fixed.values())} fixed, {progress.left} left")
    if progress.in_motion:
        parts.append(f"{progress.in_motion} left out because a worker has them")
    if not progress.complete:
        parts.append(f"stopped in {progress.phase}: {progress.stopped_by}; run it again, and it goes on there")
    return "; ".join(parts) + "."

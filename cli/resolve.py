"""`paydesk jobs resolve`: a human's decision about a parked job, straight at the store, also while the web is down."""

import asyncio
import getpass
import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cli.store_loss import epoch_of
from cli.verify import ANSWER_SECONDS, store_url
from shared.jobs import Status
from shared.operator import WHO_MOST, WHY_MOST, Operator, Signed
from shared.redis_calls import RedisCalls
from shared.settings import Settings

EXAMPLE = "paydesk jobs resolve job_… --as failed --why not-at-stripe --confirmed-at-stripe"


class Decision(StrEnum):
    """How a parked job leaves."""

    FAILED = "failed"
    ASK_AGAIN = "ask-again"


def resolve(job_id: Annotated[str, typer.Argument(metavar="JOB_ID", help="The job.")], *,
            decision: Annotated[Decision, typer.Option("--as", help="failed: it ends so, for good. ask-again: the desk "
                                                                    "goes on with it, under the same key.")],
            why: Annotated[str, typer.Option(help=f"Why, at most {WHY_MOST} characters, without a customer's data: the "
                                                  "audit keeps it for ever.")],
            who: Annotated[str | None, typer.Option(help=f"Who decides, at most {WHO_MOST} characters. Default: the "
                                                         "name of the system's user.")] = None,
            confirmed_at_stripe: Annotated[bool, typer.Option("--confirmed-at-stripe", help="I looked at Stripe, and "
                                           "the job has nothing there. Needed to fail a job in doubt.")] = False,
            as_json: Annotated[bool, typer.Option("--json", help="Write the outcome as JSON.")] = False,
            data_dir: Annotated[Path | None, typer.Option(help="The desk's directory; PAYDESK_DATA_DIR, else "
                                                               ".paydesk.")] = None) -> None:
    """Lead a parked job out: end it as failed, or have it asked again (an unknown one too)."""
    if confirmed_at_stripe and decision is Decision.ASK_AGAIN:
        raise typer.BadParameter("It goes with --as failed only.", param_hint="--confirmed-at-stripe")
    try:
        signed = Signed(_user() if who is None else who, why)
    except ValueError as refused:
        raise typer.BadParameter(str(refused), param_hint="--who, --why") from None
    settings = Settings.load(**({} if data_dir is None else {"data_dir": data_dir}))
    status = asyncio.run(_resolve(settings, job_id, decision, signed, confirmed=confirmed_at_stripe))
    if as_json:
        sys.stdout.write(json.dumps({"job_id": job_id, "status": status}) + "\n")
    else:
        sys.stdout.write(f"{job_id} is {status} now.\n")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        raise typer.BadParameter("Say who decides: this system's user has no name.", param_hint="--who") from None


async def _resolve(settings: Settings, job_id: str, decision: Decision, signed: Signed, *, confirmed: bool) -> Status:
    calls = RedisCalls.connect(store_url(settings), deadline_seconds=ANSWER_SECONDS)
    try:
        await epoch_of(settings, calls).check()
        operator = Operator(calls)
        if decision is Decision.ASK_AGAIN:
            return await operator.ask_again(job_id, signed)
        return await operator.resolve_as_failed(job_id, signed, confirmed_at_stripe=confirmed)
    finally:
        await calls.close()

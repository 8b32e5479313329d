"""`paydesk verify`: recount the books of a desk, also while it works."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from cli.servers import STORE, running_url
from shared.errors import StoreUnavailable
from shared.ledger import Difference
from shared.redis_calls import RedisCalls
from shared.settings import Settings
from shared.verify import differences

ANSWER_SECONDS = 10.0

EXAMPLE = "paydesk verify --data-dir .paydesk --json"


def verify(*, data_dir: Annotated[Path | None, typer.Option(help="The desk's directory; PAYDESK_DATA_DIR, else "
                                                                 ".paydesk.")] = None,
           as_json: Annotated[bool, typer.Option("--json", help="Write the differences as JSON.")] = False) -> None:
    """Recount the books, the jobs and what is due. Exit 1 on any difference."""
    settings = Settings.load(**({} if data_dir is None else {"data_dir": data_dir}))
    found = asyncio.run(_verify(store_url(settings)))
    if as_json:
        sys.stdout.write(json.dumps([{"where": one.where, "says": one.says, "counted": one.counted} for one in found])
                         + "\n")
    else:
        sys.stdout.writelines(f"{one.where}: says {one.says}, counted {one.counted}\n" for one in found)
    sys.stderr.write("Everything adds up.\n" if not found else f"{len(found)} differences.\n")
    raise typer.Exit(1 if found else 0)


def store_url(settings: Settings) -> str:
    """Where the desk's store is: REDIS_URL, else the embedded store of a running `up`. Raises StoreUnavailable."""
    if "redis_url" in settings.model_fields_set:
        return settings.redis_url.get_secret_value()
    url = running_url(STORE, settings.data_dir)
    if url is None:
        raise StoreUnavailable(f"No desk has run in {settings.data_dir}: start it with `paydesk up`, or set REDIS_URL.")
    return url


async def _verify(url: str) -> list[Difference]:
    calls = RedisCalls.connect(url, deadline_seconds=ANSWER_SECONDS)
    try:
        await calls.call("PING")
        return await differences(calls)
    finally:
        await calls.close()

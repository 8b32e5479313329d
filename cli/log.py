"""`paydesk log rebuild`: write the log files anew from the streams, the same bytes that the follower wrote."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from cli.verify import ANSWER_SECONDS, store_url
from shared.errors import PaydeskError
from shared.events import START, Events, Log
from shared.redis_calls import RedisCalls
from shared.settings import Settings


class FileExists(PaydeskError):
    """A log is never written over."""

    code = "file_exists"


def create_log_app() -> typer.Typer:
    """The verbs about logs."""
    app = typer.Typer(no_args_is_help=True, help="The desk's log files.")
    app.callback()(_only_verbs)
    app.command("rebuild")(rebuild)
    return app


def _only_verbs() -> None:
    """Keeps a single verb a verb."""


def rebuild(to: Annotated[Path, typer.Argument(help="The folder to write them in; nothing there is written over.")], *,
            data_dir: Annotated[Path | None, typer.Option(help="The desk's directory; PAYDESK_DATA_DIR, else "
                                                               ".paydesk.")] = None) -> None:
    """Write both log files anew from what the store keeps."""
    settings = Settings.load(**({} if data_dir is None else {"data_dir": data_dir}))
    to.mkdir(parents=True, exist_ok=True)
    for which in Log:
        if (to / which).exists():
            raise FileExists(f"{to / which} exists: choose an empty folder.")
    for which, lines in asyncio.run(_rebuild(store_url(settings), to)).items():
        sys.stdout.write(f"{to / which}: {lines} lines\n")


async def _rebuild(url: str, to: Path) -> dict[Log, int]:
    calls = RedisCalls.connect(url, deadline_seconds=ANSWER_SECONDS)
    try:
        await calls.call("PING")
        return {which: await _write(Events(calls), which, to / which) for which in Log}
    finally:
        await calls.close()


async def _write(events: Events, which: Log, path: Path) -> int:
    written = 0
    with path.open("x", encoding="utf-8", newline="") as file:
        async for page in events.lines(which, START):
            file.write("".join(line for _, line in page))
            written += len(page)
    return written

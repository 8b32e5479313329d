"""`paydesk log rebuild`: write the log files anew from the streams, the same bytes that the follower wrote."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from cli.examples import example
from cli.verify import ANSWER_SECONDS, store_url
from shared.errors import PaydeskError
from shared.events import START, Events, Log
from shared.redis_calls import RedisCalls
from shared.settings import Settings
from worker.log_file import LogFolder

EXAMPLE = "paydesk log rebuild logs-rebuilt --data-dir .paydesk"


class FileExists(PaydeskError):
    """A log is never written over."""

    code = "file_exists"


class FolderInUse(PaydeskError):
    """A log is never written where a desk writes its own."""

    code = "folder_in_use"


def create_log_app() -> typer.Typer:
    """The verbs about logs."""
    app = typer.Typer(no_args_is_help=True, help="The desk's log files.")
    app.callback()(_only_verbs)
    app.command("rebuild", epilog=example(EXAMPLE))(rebuild)
    return app


def _only_verbs() -> None:
    """Keeps a single verb a verb."""


def rebuild(to: Annotated[Path, typer.Argument(help="The folder to write them in; nothing there is written over.")], *,
            data_dir: Annotated[Path | None, typer.Option(help="The desk's directory; PAYDESK_DATA_DIR, else "
                                                               ".paydesk.")] = None) -> None:
    """Write both log files anew from what the store keeps."""
    settings = Settings.load(**({} if data_dir is None else {"data_dir": data_dir}))
    folder = LogFolder(to)
    if not folder.hold():
        raise FolderInUse(f"A desk writes its logs in {to}: choose another folder.")
    try:
        for which in Log:
            if which in folder.names():
                raise FileExists(f"{to / which} exists: choose an empty folder.")
        written = asyncio.run(_rebuild(store_url(settings), folder))
    finally:
        folder.let_go()
    for which, lines in written.items():
        sys.stdout.write(f"{to / which}: {lines} lines\n")


async def _rebuild(url: str, folder: LogFolder) -> dict[Log, int]:
    calls = RedisCalls.connect(url, deadline_seconds=ANSWER_SECONDS)
    made: list[str] = []
    try:
        await calls.call("PING")
        return {which: await _write(Events(calls), which, folder, made) for which in Log}
    except BaseException:
        folder.remove(*made)  # half a log looks like a whole one, and would stand in the way of the next try
        raise
    finally:
        await calls.close()


async def _write(events: Events, which: Log, folder: LogFolder, made: list[str]) -> int:
    written = 0
    with os.fdopen(folder.open(which, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
        made.append(which)
        async for page in events.pages(which, START):
            file.write(page.text.encode())
            written += page.lines
    return written

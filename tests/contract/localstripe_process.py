"""localstripe as a process on loopback, its disk switched off: its own command listens to every interface.

It is GPL-3.0, so it is only ever run, never imported: a second peer that nobody of us wrote.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

PYTHON = os.environ.get("PAYDESK_LOCALSTRIPE_PYTHON") or sys.executable
"""Which interpreter has it; one outside this environment will do."""

_SERVE = """
import socket, sys
from aiohttp import web
from localstripe import resources, server
resources.Store.dump_to_disk = lambda store: None
listening = socket.create_server(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
web.run_app(server.app, sock=listening, print=None, access_log=None)
"""
_START_SECONDS = 20.0
# loopback is never asked through a proxy
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def has_localstripe() -> bool:
    """Say whether the interpreter can import it."""
    probe = subprocess.run([PYTHON, "-c", "import localstripe"], capture_output=True, check=False, timeout=30)
    return probe.returncode == 0


@contextmanager
def running() -> Iterator[str]:
    """Give its base URL; the process ends with the block. Skips, saying so, where it is not installed."""
    if not has_localstripe():
        pytest.skip(
            f"localstripe is not importable by {os.path.basename(PYTHON)}: NO second peer has been asked. "  # noqa: PTH119 - a name, not a path
            "Install it beside the development set, or name an interpreter that has it in PAYDESK_LOCALSTRIPE_PYTHON"
        )
    with subprocess.Popen([PYTHON, "-c", _SERVE], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as peer:
        try:
            assert peer.stdout is not None
            port = peer.stdout.readline().strip()
            assert port, "localstripe did not start"
            url = f"http://127.0.0.1:{port}"
            _await_answer(url)
            yield url
        finally:
            peer.terminate()


def _await_answer(url: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            OPENER.open(url, timeout=5).close()
        except urllib.error.HTTPError as answered:
            answered.close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return

"""python -m standin --port N: serves a Stripe stand-in on loopback until SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import signal
import sys
import tempfile
from pathlib import Path

from standin.memory import MemoryStore
from standin.peer import Peer
from standin.records import Store
from standin.server import Server
from standin.store import SqliteStore


def main(arguments: list[str] | None = None) -> int:
    """Serve until told to stop; a database that nobody named is removed at the end."""
    asked = _read(arguments)
    if asked.memory:
        return asyncio.run(_serve(MemoryStore(), None, asked))
    if asked.db is not None:
        return asyncio.run(_serve(SqliteStore(asked.db), str(asked.db.absolute()), asked))
    with tempfile.TemporaryDirectory(prefix="standin-") as folder:
        path = Path(folder) / "standin.sqlite"
        return asyncio.run(_serve(SqliteStore(path), str(path), asked))


def _read(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="standin", description="A stateful Stripe stand-in with scripted faults.")
    parser.add_argument("--port", type=int, required=True, help="the peer's port; 0 takes a free one")
    parser.add_argument("--control-port", type=int, default=0, help="the control port; 0 takes a free one")
    parser.add_argument("--host", type=_loopback, default="127.0.0.1", help="a loopback address")
    kept = parser.add_mutually_exclusive_group()
    kept.add_argument("--db", type=Path, help="the SQLite file; without it, one that is removed at the end")
    kept.add_argument(
        "--memory", action="store_true", help="keep nothing on disk, play no faults and make no events, for the bench"
    )
    return parser.parse_args(arguments)


def _loopback(text: str) -> str:
    try:
        if ipaddress.IPv4Address(text).is_loopback:
            return text
    except ValueError:
        pass
    raise argparse.ArgumentTypeError("only an IPv4 loopback address is listened on")


async def _serve(store: Store, database: str | None, asked: argparse.Namespace) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = Server(Peer(store), database, plays_faults=not asked.memory)
    try:
        await server.start(asked.host, asked.port, asked.control_port)
        sys.stderr.write(f"stand-in ready on http://{asked.host}:{server.gate.port}\n")
        sys.stderr.flush()
        await stop.wait()
    except OSError as error:
        sys.stderr.write(f"stand-in: {error.strerror}\n")
        return 1
    finally:
        await server.stop()
        store.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())

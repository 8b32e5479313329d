"""`paydesk`, with three small programs in the place of web, worker and Flower; the servers are the real ones.

Each stub writes down how it was started and that it was told to end, into files where it stands.
"""

import json
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from cli import processes
from cli.main import run


def stub(role: str) -> None:
    name = os.environ.get("PAYDESK_WORKER_NAME", role)

    def end(*_: object) -> None:
        with Path("ends").open("a") as ends:
            ends.write(f"{name}\n")
        sys.exit(0)

    signal.signal(signal.SIGTERM, signal.SIG_IGN if Path(f"{name}.stubborn").exists() else end)
    draft = Path(f"{name}.draft")
    draft.write_text(json.dumps(dict(os.environ)))
    draft.rename(f"{name}.json")
    if role != "web":
        while True:
            signal.pause()

    class Ready(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            lost = Path("store.lost").exists()
            self.send_response(503 if lost else 200 if self.path == "/readyz" else 404)
            self.end_headers()
            if lost:
                self.wfile.write(b'{"checks": {"store": "store_lost"}}')

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    HTTPServer((os.environ["PAYDESK_HOST"], int(os.environ["PAYDESK_PORT"])), Ready).serve_forever()


if __name__ == "__main__":
    if sys.argv[1] == "stub":
        stub(sys.argv[2])
    for line in ("WEB", "WORKER", "FLOWER"):
        setattr(processes, line, f"python -m tests.cli.desk_of_stubs stub {line.lower()}")
    sys.exit(run())

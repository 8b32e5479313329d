"""The command of each process of the desk, once: `up` runs these lines, and so do the Procfile and the images."""

import shlex
import sys
from collections.abc import Mapping
from string import Template

WEB = ("python -m uvicorn --factory api.main:create_app --host $PAYDESK_HOST --port $PAYDESK_PORT "
       "--timeout-graceful-shutdown 5 --no-access-log --no-server-header --log-level warning")
"""Without a limit on the graceful stop, an open event stream keeps it from ever stopping."""
WORKER = ("python -m celery -A worker.app worker --pool threads --concurrency $PAYDESK_WORKER_THREADS "
          "--queues interactive,bulk --task-events --without-gossip --without-mingle "
          "--hostname $PAYDESK_WORKER_NAME@%h --loglevel WARNING")
FLOWER = "python -m celery -A worker.app flower"
"""Its options come by FLOWER_* in the environment, so that its password is in no argument."""


def command(line: str, environment: Mapping[str, str]) -> tuple[str, ...]:
    """A line above as arguments for this very Python, its $NAMES taken from the environment it will run in."""
    program, *arguments = (Template(part).substitute(environment) for part in shlex.split(line))
    return (sys.executable if program == "python" else program, *arguments)

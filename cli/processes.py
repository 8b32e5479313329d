"""The command of each process of the desk, once: `up` runs these lines, Procfile and images have the same."""

import re
import shlex
import sys
from collections.abc import Mapping

WEB = ("python -m uvicorn --factory api.main:create_app --host ${PAYDESK_HOST:-127.0.0.1} "
       "--port ${PAYDESK_PORT:-${PORT:-8000}} --timeout-graceful-shutdown 5 --no-access-log --no-server-header "
       "--log-level warning")
"""Without a limit on the graceful stop, an open event stream keeps it from ever stopping."""
WORKER = ("python -m celery -A worker.app worker --pool threads --concurrency ${PAYDESK_WORKER_THREADS:-16} "
          "--queues interactive,bulk --task-events --without-gossip --without-mingle "
          "--hostname ${PAYDESK_WORKER_NAME:-worker}@%h --loglevel WARNING")
FLOWER = "python -m celery -A worker.app flower"
"""Its options are in flowerconfig.py, so that its password is in no argument."""

_VARIABLE = re.compile(r"\$\{(\w+):-([^${}]*)\}")


def command(line: str, environment: Mapping[str, str]) -> tuple[str, ...]:
    """A line above as arguments for this very Python, its variables taken from the environment it will run in.

    `${NAME:-default}`, also nested, means what it means to a shell, so that the lines can stand in a Procfile.
    """
    program, *arguments = (_fill(part, environment) for part in shlex.split(line))
    return (sys.executable if program == "python" else program, *arguments)


def _fill(part: str, environment: Mapping[str, str]) -> str:
    while (filled := _VARIABLE.sub(lambda name: environment.get(name[1]) or name[2], part)) != part:
        part = filled
    return part

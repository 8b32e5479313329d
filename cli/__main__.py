"""`python -m cli` is `paydesk`."""

import sys

from cli.main import run

sys.exit(run())

"""What Celery's command line loads (`celery -A worker.app worker`): the only module that builds something at import."""

import sys

from shared.errors import SettingsRefused
from shared.settings import Settings
from worker.main import REFUSED_EXIT_CODE, create_worker

try:
    app = create_worker(Settings.load())
except SettingsRefused as refused:
    sys.stderr.write(f"{refused}\n")
    sys.exit(REFUSED_EXIT_CODE)

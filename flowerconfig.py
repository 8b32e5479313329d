"""Flower's options, read by Flower itself from the folder it starts in: loopback, a password, and no way to act.

With a password but without `read_only`, Flower's API would run any task with any argument. Its `/metrics` and
`/healthcheck` answer without a password (flower 2.2, docs/auth.rst): they tell names and counts of tasks.
"""

from shared.settings import Settings

_settings = Settings.load()
address = _settings.flower_host
port = _settings.flower_port
basic_auth = [":".join(_settings.flower_credentials())]
read_only = True
max_tasks = 5000

"""Structured log lines on standard error: one JSON object each, in UTC, from our own loggers and every library's."""

import logging
import sys
from typing import Any

import structlog

_QUIET = ("stripe", "aiohttp.access", "httpx", "asyncio", "celery.worker.strategy", "celery.app.trace")
"""Libraries whose lines may carry bodies or keys, or say each job once more: only their warnings are written."""


def configure_logging(process: str) -> None:
    """Send every log line of this process to standard error as JSON. Called once, by a composition root."""
    added: list[Any] = [structlog.stdlib.add_log_level, structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
                        structlog.contextvars.merge_contextvars]
    rendered: list[Any] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, _name_process(process),
                           structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    formatter = structlog.stdlib.ProcessorFormatter(foreign_pre_chain=added, processors=rendered)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    structlog.configure(processors=[*added, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
                        logger_factory=structlog.stdlib.LoggerFactory(), cache_logger_on_first_use=True)


def _name_process(process: str) -> Any:
    def add(_: object, __: str, line: dict[str, Any]) -> dict[str, Any]:
        return {"process": process, **line}

    return add

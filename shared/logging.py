"""Logging: named events and library logs as lines, colored on a terminal and JSON elsewhere."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Mapping, MutableMapping
from functools import partial
from typing import Any

import structlog
from structlog.typing import Processor

from shared import console
from shared.events import current_context, subscribe
from shared.settings import Settings

#: Events that an operator should see; all others are `info`.
_WARNINGS = frozenset(
    {
        "broker.unavailable",
        "checkpoint.quarantined",
        "database.unavailable",
        "forkserver.died",
        "forkserver.failed",
        "job.rescued",
        "lease.lost",
        "tick.failed",
        "tracing.unavailable",
        "webhook.dead",
        "worker.broker_left_behind",
    }
)
_ERRORS = frozenset({"job.failed", "maintenance.failed", "schedule.failed"})
#: Frequent events, logged at `debug`.
_DETAILS = frozenset(
    {
        "checkpoint.committed",
        "doorbell.rung",
        "runner.entered",
        "runner.started",
        "attempt.settling",
        "forkserver.said",
        "maintenance.ran",
    }
)
#: Libraries whose `info` messages are not useful.
_CHATTY = (
    "alembic", "asyncio", "celery.app.trace", "celery.beat", "celery.worker.strategy", "httpx", "httpcore", "kombu",
    "matplotlib", "PIL", "tornado.access",
)  # fmt: skip

_unsubscribe: Callable[[], None] | None = None


def configure_logging(settings: Settings, process: str | None = None) -> None:
    """Configure logging of this process; a second call replaces the first.

    Each line has the `process` (api, worker, beat, flower) and the facts of `log_context`.
    """
    global _unsubscribe
    shared: list[Processor] = [
        partial(_stamp, process),
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    _install_handler(settings, shared)
    console.configure(process, not uses_console_format(settings))
    logger = structlog.stdlib.get_logger("nightshift")
    if _unsubscribe is not None:
        _unsubscribe()
    _unsubscribe = subscribe(lambda event, fields: _write(logger, event, fields))
    logging.captureWarnings(True)
    threading.excepthook = _thread_died


def uses_console_format(settings: Settings) -> bool:
    """Return whether lines are formatted for a terminal rather than as JSON objects."""
    return settings.log_format == "console" or (settings.log_format == "auto" and sys.stderr.isatty())


def _install_handler(settings: Settings, shared: list[Processor]) -> None:
    """Install one handler on the root logger, for our lines and those of libraries."""
    as_console = uses_console_format(settings)
    renderer: Processor = (
        structlog.dev.ConsoleRenderer() if as_console else structlog.processors.JSONRenderer(default=str)
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *([] if as_console else [structlog.processors.format_exc_info]),
                renderer,
            ],
        )
    )
    level = settings.log_level.upper()
    logging.basicConfig(handlers=[handler], level=level, force=True)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(level)))


def _stamp(process: str | None, _logger: Any, _method: str, line: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Add the process and the log context to a line; fields of the line itself take precedence."""
    facts = {"process": process, **current_context()} if process else current_context()
    for name, value in facts.items():
        line.setdefault(name, value)
    return line


def _thread_died(died: threading.ExceptHookArgs) -> None:
    """Log the uncaught exception of a thread."""
    name = died.thread.name if died.thread else "?"
    error = died.exc_value if died.exc_value is not None else died.exc_type()
    logging.getLogger("nightshift").error("the thread %s died", name, exc_info=error)


def level_of(event: str) -> int:
    """Return the log level of an event."""
    if event in _ERRORS:
        return logging.ERROR
    if event in _WARNINGS:
        return logging.WARNING
    return logging.DEBUG if event in _DETAILS else logging.INFO


def _write(logger: Any, event: str, fields: dict[str, Any]) -> None:
    logger.log(level_of(event), event, **fields)

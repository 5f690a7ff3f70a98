"""The one place that turns named events and library logs into lines: coloured on a terminal, JSON elsewhere."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Mapping, MutableMapping
from functools import partial
from typing import Any

import structlog
from structlog.typing import Processor

from shared.console import speak_as
from shared.events import current_context, subscribe
from shared.settings import Settings

#: Events that an operator should see; all others are `info`.
_WARNINGS = frozenset(
    {
        "broker.unavailable",
        "checkpoint.quarantined",
        "database.unavailable",
        "forkserver.died",
        "job.rescued",
        "lease.lost",
        "tick.failed",
        "tracing.unavailable",
        "webhook.dead",
    }
)
_ERRORS = frozenset({"job.failed", "maintenance.failed", "schedule.failed"})
#: Too many to be worth a line unless somebody looks for them.
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
#: Libraries whose information nobody needs at `info`.
_CHATTY = (
    "alembic", "asyncio", "celery.app.trace", "celery.beat", "celery.worker.strategy", "httpx", "httpcore", "kombu",
    "matplotlib", "PIL", "tornado.access",
)  # fmt: skip

_unsubscribe: Callable[[], None] | None = None


def configure_logging(settings: Settings, process: str | None = None) -> None:
    """Once per process; a second call replaces the first. `process` (api, worker, beat, flower) marks each line, and so
    does what the work is `about`."""
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
    speak_as(process, not is_for_people(settings))
    logger = structlog.stdlib.get_logger("nightshift")
    if _unsubscribe is not None:
        _unsubscribe()
    _unsubscribe = subscribe(lambda event, fields: _write(logger, event, fields))
    logging.captureWarnings(True)
    threading.excepthook = _thread_died


def is_for_people(settings: Settings) -> bool:
    """Or for machines, one JSON object per line."""
    return settings.log_format == "console" or (settings.log_format == "auto" and sys.stderr.isatty())


def _install_handler(settings: Settings, shared: list[Processor]) -> None:
    """One handler on the root logger, for our lines and for those of libraries."""
    as_console = is_for_people(settings)
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
    """Which process speaks, and what about; what the line says itself comes first."""
    facts = {"process": process, **current_context()} if process else current_context()
    for name, value in facts.items():
        line.setdefault(name, value)
    return line


def _thread_died(died: threading.ExceptHookArgs) -> None:
    """A thread's last words go where all others go."""
    name = died.thread.name if died.thread else "?"
    told = died.exc_value if died.exc_value is not None else died.exc_type()
    logging.getLogger("nightshift").error("the thread %s died", name, exc_info=told)


def level_of(event: str) -> int:
    if event in _ERRORS:
        return logging.ERROR
    if event in _WARNINGS:
        return logging.WARNING
    return logging.DEBUG if event in _DETAILS else logging.INFO


def _write(logger: Any, event: str, fields: dict[str, Any]) -> None:
    logger.log(level_of(event), event, **fields)

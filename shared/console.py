"""Output of a process outside its log: its address, errors at start, uncaught exceptions.

Plain text, or a line of JSON if the log is JSON, so that log collectors can parse every line.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

_OUT, _ERR = 1, 2
_process: str | None = None
#: From the environment until settings are read, since reading them may fail.
_as_json = os.environ.get("NIGHTSHIFT_LOG_FORMAT", "").lower() == "json"


def configure(process: str | None, as_json: bool = _as_json) -> None:
    """Set the process name and the format of later lines; with JSON, uncaught exceptions are lines of JSON too."""
    global _process, _as_json
    _process, _as_json = process, as_json
    sys.excepthook = _uncaught if as_json else sys.__excepthook__
    sys.unraisablehook = _unraisable if as_json else sys.__unraisablehook__


def print_line(text: str) -> None:
    """Write a line to stdout. Takes no lock, so signal handlers may call it."""
    _write(_OUT, text, "info")


def print_error(text: str, level: str = "error") -> None:
    """Write a line to stderr."""
    _write(_ERR, text, level)


def as_line(process: str | None, text: str, level: str, **facts: Any) -> str:
    """Return a line of JSON in the format of the log."""
    at = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    return json.dumps({"event": text, "process": process, "level": level, "at": at, **facts})


def _write(file: int, text: str, level: str, **facts: Any) -> None:
    line = as_line(_process, text.strip(), level, **facts) if _as_json else text
    os.write(file, f"{line}\n".encode(errors="replace"))


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    text = "".join(traceback.format_exception(kind, error, trace))
    _write(_ERR, f"died of {kind.__name__}", "critical", exception=text)


def _unraisable(unraisable: Any) -> None:
    text = "".join(traceback.format_exception(unraisable.exc_type, unraisable.exc_value, unraisable.exc_traceback))
    _write(_ERR, unraisable.err_msg or "exception ignored", "error", exception=text)

"""What a process says outside its log: the address it listens on, why it cannot start, how it died.

Plain text, unless its log is JSON: then this is a line of JSON too, so that whoever collects the lines can read each of
them.
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
#: Until settings are read, for they may be what is wrong.
_as_json = os.environ.get("NIGHTSHIFT_LOG_FORMAT", "").lower() == "json"


def speak_as(process: str | None, as_json: bool = _as_json) -> None:
    """From now on; with JSON, exceptions that nobody catches are told so too."""
    global _process, _as_json
    _process, _as_json = process, as_json
    sys.excepthook = _uncaught if as_json else sys.__excepthook__
    sys.unraisablehook = _unraisable if as_json else sys.__unraisablehook__


def print_line(text: str) -> None:
    """On stdout. May be called by a signal handler: it takes no lock."""
    _write(_OUT, text, "info")


def print_error(text: str, level: str = "error") -> None:
    """On stderr."""
    _write(_ERR, text, level)


def as_line(process: str | None, text: str, level: str, **facts: Any) -> str:
    """The same shape as a line of the log."""
    at = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    return json.dumps({"event": text, "process": process, "level": level, "at": at, **facts})


def _write(file: int, text: str, level: str, **facts: Any) -> None:
    line = as_line(_process, text.strip(), level, **facts) if _as_json else text
    os.write(file, f"{line}\n".encode(errors="replace"))


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    told = "".join(traceback.format_exception(kind, error, trace))
    _write(_ERR, f"died of {kind.__name__}", "critical", exception=told)


def _unraisable(unraisable: Any) -> None:
    told = "".join(traceback.format_exception(unraisable.exc_type, unraisable.exc_value, unraisable.exc_traceback))
    _write(_ERR, unraisable.err_msg or "exception ignored", "error", exception=told)

"""Checks of what a program passes to its run. Each raises ValueError that names the value."""

from __future__ import annotations

import math
from collections.abc import Mapping
from operator import index

#: Widths of the columns in SQL.
LONGEST_METRIC, LONGEST_ARTIFACT = 64, 200
#: Longest name of a file on common file systems, in bytes, with room for a suffix.
LONGEST_FILE = 200
#: Largest number of a step that JSON keeps exactly.
LAST_STEP = 2**53
#: Most metrics in one call.
MOST_METRICS = 1_000
_SHOWN = 80


def step(number: int) -> int:
    """Return the number of a step; numpy's integers are ones, too."""
    try:
        found = index(number)
    except TypeError:
        raise ValueError(f"a step must be an integer, not {number!r}") from None
    if not 0 <= found <= LAST_STEP:
        raise ValueError(f"a step must be between 0 and {LAST_STEP:,}, not {found}")
    return found


def metrics(values: Mapping[str, float], where: str = "") -> dict[str, float]:
    """Return the metrics as floats by name."""
    if len(values) > MOST_METRICS:
        raise ValueError(f"{len(values):,} metrics{where}; at most {MOST_METRICS:,} at once")
    return {_metric_name(name): _finite(name, value, where) for name, value in values.items()}


def file_name(name: str) -> str:
    """Return the name of a file of a checkpoint, which is no path."""
    fits = 0 < len(name.encode(errors="replace")) <= LONGEST_FILE and name.isprintable()
    if not fits or "/" in name or name.startswith("."):
        raise ValueError(
            f"a file of a checkpoint needs a plain name of at most {LONGEST_FILE} bytes, not {_brief(name)}"
        )
    return name


def artifact_name(name: str) -> str:
    """Return the name of an artifact; whether it stays below its folder is checked elsewhere."""
    parts = name.split("/")
    if not name.isprintable() or not all(0 < len(part.encode(errors="replace")) <= LONGEST_FILE for part in parts):
        raise ValueError(f"an artifact needs printable names of at most {LONGEST_FILE} bytes, not {_brief(name)}")
    if len(name) > LONGEST_ARTIFACT:
        raise ValueError(f"the path of an artifact has at most {LONGEST_ARTIFACT} characters; {_brief(name)} has more")
    return name


def _metric_name(name: object) -> str:
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST_METRIC or not name.isprintable():
        raise ValueError(
            f"the name of a metric is a text of 1 to {LONGEST_METRIC} printable characters, not {_brief(name)}"
        )
    return name


def _finite(name: str, value: float, where: str) -> float:
    try:
        found = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} is {_brief(value)}{where}; a metric must be a number") from None
    if not math.isfinite(found):
        raise ValueError(f"{name} is {found}{where}; metrics must be finite")
    return found


def _brief(value: object) -> str:
    """Return the value, or how long it is: it is never cut, because half of a secret would not be hidden."""
    text = ascii(value)
    return text if len(text) <= _SHOWN else f"one of {len(text):,} characters"

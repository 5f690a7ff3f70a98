"""Processes whose database clock a test moves: `python -m tests.support.shifted_clock FILE MODULE [ARGUMENT …]`.

Runs a module with SQLite's clock ahead by the seconds in FILE, which is read at every query of the clock.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from pathlib import Path

from shared.clock import sqlite_clock


class Clock:
    """Moves the clock of all processes that follow the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.advance(0.0)

    def now(self) -> float:
        return time.time() + _ahead(self.path)

    def advance(self, seconds: float) -> None:
        ahead = _ahead(self.path) + seconds if self.path.exists() else seconds
        aside = self.path.with_suffix(".new")
        aside.write_text(str(ahead))
        os.replace(aside, self.path)


def _ahead(path: Path) -> float:
    return float(path.read_text())


def follow(path: Path) -> None:
    """Install the clock. Call it before the first connection, which keeps the function it was given."""
    sqlite_clock.now = lambda: time.time() + _ahead(path)  # type: ignore[method-assign]


def main() -> int:
    _, file, module, *arguments = sys.argv
    follow(Path(file))
    sys.argv = [module, *arguments]
    return int(importlib.import_module(module).main())


if __name__ == "__main__":
    sys.exit(main())

"""The report of a check: a JSON document with the outcome and the reason of each test."""

from __future__ import annotations

import json
import platform
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from nightshift.names import FRAMEWORKS
from nightshift.versions import installed_of

#: Longest reason that is kept.
MAX_REASON = 2_000
FORMAT = 1


@dataclass
class Recorder:
    """Collects outcomes while pytest runs, and writes them at its end."""

    path: Path
    checks: list[dict[str, Any]] = field(default_factory=list)
    shows: dict[str, str] = field(default_factory=dict)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Note what each test shows: the first line of its docstring."""
        for item in items:
            text = getattr(getattr(item, "function", None), "__doc__", None) or ""
            self.shows[item.nodeid] = text.strip().partition("\n")[0]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record a test once: its call, or the step before or after it that did not pass."""
        if report.when != "call" and report.passed:
            return
        name = report.nodeid.rpartition("::")[2].removeprefix("test_")
        self.checks.append(
            {
                "check": name,
                "shows": self.shows.get(report.nodeid, ""),
                "outcome": "error" if report.failed and report.when != "call" else report.outcome,
                "reason": _reason(report),
                "seconds": round(report.duration, 2),
            }
        )

    def pytest_sessionfinish(self) -> None:
        """Write the document."""
        document = {
            "format": FORMAT,
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "python": platform.python_version(),
            "versions": installed_of(("nightshift", *FRAMEWORKS, "keras", "numpy")),
            "passed": bool(self.checks) and all(one["outcome"] in ("passed", "skipped") for one in self.checks),
            "checks": self.checks,
        }
        self.path.write_text(json.dumps(document, indent=1) + "\n")


def _reason(report: pytest.TestReport) -> str | None:
    """Return why a test did not pass, in one paragraph."""
    if report.passed:
        return None
    if report.skipped:
        found = report.longrepr
        return str(found[2] if isinstance(found, tuple) else found).removeprefix("Skipped: ")[:MAX_REASON]
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(crash.message if crash is not None else report.longrepr)[:MAX_REASON]

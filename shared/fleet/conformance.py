"""Reports of the conformance kit, and what they make of the promise of a family or program.

A report counts for one version of a package: the hash of its list of files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from nightshift.programs import Promise
from shared.clock import db_now
from shared.db.schema import conformance_reports


def store(conn: Connection, plugin: str, record: str, package: str, report: Mapping[str, Any]) -> None:
    """Store a report in the place of an older one of the same version."""
    table = conformance_reports
    conn.execute(delete(table).where(table.c.plugin == plugin, table.c.record == record))
    row = {
        "plugin": plugin, "record": record, "package": package, "passed": bool(report["passed"]),
        "report": dict(report), "checked_at": db_now(),
    }  # fmt: skip
    conn.execute(insert(table).values(**row))


def green(conn: Connection) -> frozenset[tuple[str, str]]:
    """Return the plug-ins, each with the hash of its package, that passed all checks."""
    table = conformance_reports
    rows = conn.execute(select(table.c.plugin, table.c.record).where(table.c.passed))
    return frozenset((row.plugin, row.record) for row in rows)


def graded(declared: str | None, is_green: bool) -> Promise:
    """Return what a resumed run is worth.

    `declared`: a program's promise; families declare none, because their state is saved by Nightshift. What is not
    shown to be exact counts as resumable.
    """
    if declared == "restart":
        return "restart"
    return "exact" if is_green and declared in (None, "exact") else "resumable"

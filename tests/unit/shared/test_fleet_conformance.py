"""Reports of the conformance kit: one for each version of a package, and what they make of a promise."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, select

from shared.db.engine import read, write
from shared.db.schema import conformance_reports
from shared.fleet import conformance


def test_the_newest_report_of_a_version_counts(engine: Engine) -> None:
    for passed in (False, True):
        with write(engine) as conn:
            report = {"passed": passed, "checks": [{"check": "a"}]}
            conformance.store(conn, "family pebble", "r", "nightshift-pebble 1.0", report)
            conformance.store(conn, "family pebble", "s", "nightshift-pebble 2.0", {"passed": False})
    with read(engine) as conn:
        assert conformance.green(conn) == {("family pebble", "r")}
        rows = conn.execute(select(conformance_reports).order_by(conformance_reports.c.record)).all()
    assert [(row.record, row.package, row.passed) for row in rows] == [
        ("r", "nightshift-pebble 1.0", True),
        ("s", "nightshift-pebble 2.0", False),
    ]
    assert rows[0].report["checks"] == [{"check": "a"}]
    assert rows[0].checked_at > 0


@pytest.mark.parametrize(
    ("declared", "is_green", "promise"),
    [
        (None, True, "exact"),
        (None, False, "resumable"),
        ("exact", True, "exact"),
        ("exact", False, "resumable"),
        ("resumable", True, "resumable"),
        ("restart", True, "restart"),
    ],
)
def test_only_what_is_shown_counts_as_exact(declared: str | None, is_green: bool, promise: str) -> None:
    assert conformance.graded(declared, is_green) == promise

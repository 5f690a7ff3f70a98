"""Export a job's metrics and log as files, page by page, so that memory does not grow with their length."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Engine

from shared.db.engine import read
from shared.jobs import queries

#: Rows read from SQL at a time.
PAGE = 5_000
COLUMNS = ("name", "step", "epoch", "value", "at")


def metrics_csv(engine: Engine, job_id: str) -> Iterator[bytes]:
    """Yield RFC 4180 CSV with a header: name, step, epoch, value, at; by name and step."""
    yield _csv([COLUMNS])
    after: tuple[str, int] | None = None
    while True:
        with read(engine) as conn:
            points = queries.metrics(conn, job_id, limit=PAGE, after=after)
        if points:
            yield _csv([tuple(point[column] for column in COLUMNS) for point in points])
            after = points[-1]["name"], points[-1]["step"]
        if len(points) < PAGE:
            return


def log_text(engine: Engine, job_id: str) -> Iterator[bytes]:
    """Yield one line per log line: time, attempt, level, message."""
    after = 0
    while True:
        with read(engine) as conn:
            lines = queries.logs(conn, job_id, after, PAGE)
        if lines:
            yield "".join(f"{x['at']} #{x['attempt']} {x['level']:<7} {x['message']}\n" for x in lines).encode()
            after = lines[-1]["seq"]
        if len(lines) < PAGE:
            return


def _csv(rows: list[tuple[Any, ...]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()

"""Writes of a running attempt: progress, metrics, logs, samples, checkpoints and artifacts.

Each is one transaction whose first statement renews the lease under its fence, so a stale attempt writes nothing.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from functools import partial
from typing import Any

from sqlalchemy import Connection, case, delete, func, select, update
from sqlalchemy import insert as plain_insert

from shared.db.engine import insert, on_commit
from shared.db.schema import (
    artifacts,
    checkpoints,
    curve_summaries,
    job_events,
    job_logs,
    jobs,
    metrics,
    system_samples,
)
from shared.events import emit
from shared.failpoints import failpoint
from shared.job_files.checkpoint_record import CheckpointRecord
from shared.jobs.transitions import sharding
from shared.jobs.transitions.statements import add_event, renew_and_update
from shared.jobs.transitions.values import ArtifactRecord, AttemptStatus, Lease, LogRow, MetricRow, SampleRow

#: Longest line kept of a log (characters); the rest is cut.
MAX_LOG_LINE = 10_000


def record(
    conn: Connection,
    lease: Lease,
    *,
    progress: dict[str, Any] | None = None,
    metrics: list[MetricRow] | None = None,
    logs: list[LogRow] | None = None,
    samples: list[SampleRow] | None = None,
) -> AttemptStatus:
    """Write a batch of a runner's messages. Raises LeaseLost; ValueError for a metric that is not finite."""
    points, lines = metrics or [], logs or []
    numbers = (progress is not None) + len(points) + len(lines)
    values: dict[str, Any] = {}
    if progress is not None:
        values = {"progress": progress, "progress_seq": jobs.c.event_seq + numbers}
    status, seq = renew_and_update(conn, lease, numbers=numbers, **values)
    if lines:
        conn.execute(plain_insert(job_logs), _log_rows(lease, lines, seq, status.now))
    if points:
        _upsert_metrics(conn, _metric_rows(lease, points, seq + len(lines), status.now))
    if samples:
        _insert_samples(conn, lease, samples, status.now)
    if progress is not None and status.part_of is not None:
        sharding.roll_up(conn, status.part_of)
    failpoint("effect.before_commit")
    return status


def _insert_samples(conn: Connection, lease: Lease, samples: list[SampleRow], now: float) -> None:
    rows = []
    for sample in samples:
        values = asdict(sample)
        rows.append({**_of(lease), "at": now - values.pop("age"), **values})
    conn.execute(insert(conn, system_samples).on_conflict_do_nothing(), rows)


def _of(lease: Lease) -> dict[str, Any]:
    """Return the columns that say which attempt wrote a row."""
    return {"job_id": lease.job_id, "fence": lease.fence}


def _log_rows(lease: Lease, lines: list[LogRow], seq: int, at: float) -> list[dict[str, Any]]:
    rows = ({"level": line.level, "message": storable(line.message[:MAX_LOG_LINE])} for line in lines)
    return [{**_of(lease), "seq": number, "at": at, **row} for number, row in enumerate(rows, seq)]


def storable(text: str) -> str:
    """Replace characters that databases reject: NUL by ␀, lone surrogates by a question mark."""
    return text.replace("\0", "␀").encode("utf-8", "replace").decode("utf-8")


def _metric_rows(lease: Lease, points: list[MetricRow], seq: int, at: float) -> list[dict[str, Any]]:
    for point in points:
        if not math.isfinite(point.value):
            raise ValueError(f"metric {point.name} at step {point.step} is {point.value}; fail the attempt instead")
    return [{**_of(lease), "seq": number, "at": at, **vars(point)} for number, point in enumerate(points, seq)]


def _upsert_metrics(conn: Connection, rows: list[dict[str, Any]]) -> None:
    statement = insert(conn, metrics)
    new = statement.excluded
    conn.execute(
        statement.on_conflict_do_update(
            index_elements=["job_id", "name", "step"],
            set_={"epoch": new.epoch, "value": new.value, "at": new.at, "fence": new.fence, "seq": new.seq},
        ),
        rows,
    )
    _summarize(conn, rows)


def _summarize(conn: Connection, rows: list[dict[str, Any]]) -> None:
    """Update the last, lowest and highest value of each curve: one row per name."""
    curves: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        curves.setdefault(row["name"], []).append(row)
    statement = insert(conn, curve_summaries)
    old, new = curve_summaries.c, statement.excluded
    changing = {
        "step": case((new.step >= old.step, new.step), else_=old.step),
        "last": case((new.step >= old.step, new.last), else_=old.last),
        "lowest": case((new.lowest < old.lowest, new.lowest), else_=old.lowest),
        "highest": case((new.highest > old.highest, new.highest), else_=old.highest),
    }
    conn.execute(
        statement.on_conflict_do_update(index_elements=["job_id", "name"], set_=changing),
        [summary(points) for points in curves.values()],
    )


def summary(points: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the row of `curve_summaries` for points of one curve."""
    last, values = max(points, key=lambda point: point["step"]), [point["value"] for point in points]
    ends = {"step": last["step"], "last": last["value"], "lowest": min(values), "highest": max(values)}
    return {"job_id": last["job_id"], "name": last["name"], **ends}


def rebuild_summaries(conn: Connection, job_id: str) -> None:
    """Recompute all summaries of a job from its remaining points, after some were deleted."""
    ends = (
        select(
            metrics.c.name,
            func.max(metrics.c.step).label("step"),
            func.min(metrics.c.value).label("lowest"),
            func.max(metrics.c.value).label("highest"),
        )
        .where(metrics.c.job_id == job_id)
        .group_by(metrics.c.name)
        .subquery()
    )
    last = (metrics.c.job_id == job_id) & (metrics.c.name == ends.c.name) & (metrics.c.step == ends.c.step)
    found = select(
        metrics.c.job_id, ends.c.name, ends.c.step, metrics.c.value, ends.c.lowest, ends.c.highest
    ).select_from(ends.join(metrics, last))
    columns = ["job_id", "name", "step", "last", "lowest", "highest"]
    conn.execute(delete(curve_summaries).where(curve_summaries.c.job_id == job_id))
    conn.execute(plain_insert(curve_summaries).from_select(columns, found))


def commit_checkpoint(conn: Connection, lease: Lease, checkpoint: CheckpointRecord) -> AttemptStatus:
    """List a checkpoint that is renamed into place and synced; the job resumes from it. Raises LeaseLost.

    A new best checkpoint replaces the previous best. A checkpoint is progress, so `lost_streak` is reset.
    """
    status, seq = renew_and_update(conn, lease, numbers=1, checkpoint_id=checkpoint.id, lost_streak=0)
    given = {name: getattr(checkpoint, name) for name in CheckpointRecord.model_fields}
    row = {**_of(lease), **given, "state": "ready", "created_at": status.now}
    if checkpoint.is_best:
        conn.execute(update(checkpoints).where(checkpoints.c.job_id == lease.job_id).values(is_best=False))
    conn.execute(insert(conn, checkpoints).values(**row).on_conflict_do_nothing(index_elements=["id"]))
    data = {name: value for name, value in given.items() if name != "path"}
    add_event(conn, lease.job_id, seq, status.now, "checkpoint", lease.fence, data)
    failpoint("checkpoint.before_commit")
    on_commit(conn, partial(failpoint, "checkpoint.row_committed"))
    on_commit(conn, partial(emit, "checkpoint.committed", job_id=lease.job_id, step=checkpoint.step))
    return status


def delete_checkpoints(conn: Connection, lease: Lease, ids: list[str]) -> AttemptStatus:
    """Mark rows deleted before the files are removed, so a listed checkpoint exists. Raises LeaseLost."""
    status, _ = renew_and_update(conn, lease)
    conn.execute(
        update(checkpoints)
        .where(checkpoints.c.job_id == lease.job_id, checkpoints.c.id.in_(ids), checkpoints.c.state == "ready")
        .values(state="deleted")
    )
    return status


def commit_artifacts(conn: Connection, lease: Lease, records: list[ArtifactRecord]) -> AttemptStatus:
    """List files before the job ends, e.g. sample images of each epoch. Raises LeaseLost."""
    status, seq = renew_and_update(conn, lease, numbers=len(records))
    write_artifacts(conn, lease, records, seq, status.now)
    return status


def write_artifacts(conn: Connection, lease: Lease, records: list[ArtifactRecord], seq: int, at: float) -> None:
    """Write rows and events of artifacts. The caller holds the row lock and has drawn the sequence numbers."""
    if not records:
        return
    rows = [{**_of(lease), **vars(record), "created_at": at} for record in records]
    statement = insert(conn, artifacts)
    changing = {column: statement.excluded[column] for column in rows[0] if column not in ("job_id", "path")}
    conn.execute(statement.on_conflict_do_update(index_elements=["job_id", "path"], set_=changing), rows)
    shown = [{key: row[key] for key in ("path", "sha256", "size_bytes", "media_type")} for row in rows]
    event = {**_of(lease), "type": "artifact", "at": at}
    conn.execute(plain_insert(job_events), [{**event, "seq": n, "data": data} for n, data in enumerate(shown, seq)])

"""What a runner said since the last write, and how it goes into SQL."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from shared.db.engine import on_commit
from shared.jobs import transitions
from shared.jobs.checkpoint_retention import needs_all_checkpoints, superseded
from shared.jobs.transitions import (
    ArtifactRecord,
    AttemptStatus,
    CheckpointRecord,
    Claimed,
    Lease,
    LogRow,
    MetricRow,
    SampleRow,
)
from worker.runners.messages import ArtifactSaved, Started


@dataclass
class Batch:
    """What the runner said since the last write; written in this order, in one transaction."""

    started: Started | None = None
    progress: dict[str, Any] | None = None
    metrics: list[MetricRow] = field(default_factory=list)
    logs: list[LogRow] = field(default_factory=list)
    samples: list[SampleRow] = field(default_factory=list)
    checkpoints: list[CheckpointRecord] = field(default_factory=list)
    #: Of the attempt, written as it starts.
    environment: dict[str, Any] | None = None

    def __bool__(self) -> bool:
        return bool(self.started or self.recorded or self.checkpoints)

    @property
    def is_urgent(self) -> bool:
        return bool(self.checkpoints or self.started)

    @property
    def recorded(self) -> bool:
        return bool(self.progress or self.metrics or self.logs or self.samples)

    def words(self) -> Batch:
        """What may still be said when an earlier batch could not be written: a checkpoint would leave its rows out."""
        return Batch(logs=self.logs)


def write_batch(conn: Connection, lease: Lease, batch: Batch) -> AttemptStatus:
    """Metrics go before the checkpoint they belong to, in its transaction: no checkpoint ever knows more than SQL."""
    standing = None
    if batch.started is not None:
        standing = transitions.begin(
            conn,
            lease,
            device_label=batch.started.device,
            resumed_from=batch.started.resumed_from,
            resumed_step=batch.started.resumed_step,
            quarantined=batch.started.quarantined,
            environment=batch.environment,
        )
    if batch.recorded:
        standing = transitions.record(
            conn, lease, progress=batch.progress, metrics=batch.metrics, logs=batch.logs, samples=batch.samples
        )
    for checkpoint in batch.checkpoints:
        standing = transitions.commit_checkpoint(conn, lease, checkpoint)
    return standing or transitions.renew(conn, lease)


def artifact_records(artifacts: dict[str, ArtifactSaved], folder: str) -> list[ArtifactRecord]:
    """`folder`: the attempt's artifacts, relative to the storage root."""
    return [
        ArtifactRecord(a.path, f"{folder}/{a.path}", a.sha256, a.size_bytes, a.media_type) for a in artifacts.values()
    ]


class Retention:
    """The checkpoints of a job that are listed and on disk, and which of them may go when a new one came."""

    def __init__(self, claimed: Claimed, job_dir: Path) -> None:
        policy = claimed.spec.get("checkpoint") or {}
        self._keep_last, self._keep_best = policy.get("keep_last", 2), policy.get("keep_best", True)
        if needs_all_checkpoints(claimed.kind):
            self._keep_last = sys.maxsize
        self._lease, self._job_dir = claimed.lease, job_dir
        self._kept = claimed.checkpoints

    def retire(self, conn: Connection, new: list[CheckpointRecord]) -> AttemptStatus | None:
        """Rows of superseded checkpoints first, their folders after the commit: what is listed exists."""
        if not new:
            return None
        kept = self._with(new)
        gone = superseded(kept, keep_last=self._keep_last, keep_best=self._keep_best)
        on_commit(conn, partial(self._retired, kept, gone))
        return transitions.delete_checkpoints(conn, self._lease, gone) if gone else None

    def needless(self, waiting: list[CheckpointRecord]) -> set[str]:
        """Ids of those that would be superseded by the others as soon as all that wait for the storage had come
        there."""
        gone = superseded(self._with(waiting), keep_last=self._keep_last, keep_best=self._keep_best)
        return {c.id for c in waiting} & set(gone)

    def _with(self, new: list[CheckpointRecord]) -> list[CheckpointRecord]:
        before = self._kept
        if any(c.is_best for c in new):  # the mark has moved
            before = [c.model_copy(update={"is_best": False}) for c in before]
        return [*before, *new]

    def _retired(self, kept: list[CheckpointRecord], gone: list[str]) -> None:
        self._kept = [c for c in kept if c.id not in gone]
        for checkpoint in kept:
            if checkpoint.id in gone:
                shutil.rmtree(self._job_dir / checkpoint.path, ignore_errors=True)


class BatchWriter:
    """Writes the batches of an attempt, and lets the checkpoints go that newer ones supersede."""

    def __init__(self, lease: Lease, retention: Retention) -> None:
        self._lease, self._retention = lease, retention
        #: What the attempt runs on; written as it starts.
        self.environment: dict[str, Any] | None = None

    def write(self, conn: Connection, batch: Batch) -> AttemptStatus:
        if batch.started is not None:
            batch.environment = self.environment
        standing = write_batch(conn, self._lease, batch)
        return self._retention.retire(conn, batch.checkpoints) or standing

    def writing(self, batch: Batch) -> Callable[[Connection], AttemptStatus]:
        """Return the write of a batch, for a thread that has a connection."""
        return partial(self.write, batch=batch)

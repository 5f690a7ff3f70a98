"""Batches of runner messages and how they are written to the database."""

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
    """The runner's messages since the last write; written in this order, in one transaction."""

    started: Started | None = None
    progress: dict[str, Any] | None = None
    metrics: list[MetricRow] = field(default_factory=list)
    logs: list[LogRow] = field(default_factory=list)
    samples: list[SampleRow] = field(default_factory=list)
    checkpoints: list[CheckpointRecord] = field(default_factory=list)
    #: Of the attempt, written when it starts.
    environment: dict[str, Any] | None = None

    def __bool__(self) -> bool:
        return bool(self.started or self.recorded or self.checkpoints)

    @property
    def is_urgent(self) -> bool:
        """Whether the batch is written without waiting for the flush interval."""
        return bool(self.checkpoints or self.started)

    @property
    def recorded(self) -> bool:
        """Whether there is something for `transitions.record`."""
        return bool(self.progress or self.metrics or self.logs or self.samples)

    def logs_only(self) -> Batch:
        """Return a batch of the logs alone, for when an earlier batch was lost.

        A checkpoint must not be listed without the metrics of that batch.
        """
        return Batch(logs=self.logs)


def write_batch(conn: Connection, lease: Lease, batch: Batch) -> AttemptStatus:
    """Write the batch: metrics before their checkpoint, in the same transaction."""
    status = None
    if batch.started is not None:
        status = transitions.begin(
            conn,
            lease,
            device_label=batch.started.device,
            resumed_from=batch.started.resumed_from,
            resumed_step=batch.started.resumed_step,
            quarantined=batch.started.quarantined,
            environment=batch.environment,
        )
    if batch.recorded:
        status = transitions.record(
            conn, lease, progress=batch.progress, metrics=batch.metrics, logs=batch.logs, samples=batch.samples
        )
    for checkpoint in batch.checkpoints:
        status = transitions.commit_checkpoint(conn, lease, checkpoint)
    return status or transitions.renew(conn, lease)


def artifact_records(artifacts: dict[str, ArtifactSaved], folder: str) -> list[ArtifactRecord]:
    """Return the rows of artifacts; `folder` is that of the attempt, relative to the storage root."""
    return [
        ArtifactRecord(a.path, f"{folder}/{a.path}", a.sha256, a.size_bytes, a.media_type) for a in artifacts.values()
    ]


class Retention:
    """The listed checkpoints of a job, and which of them a new one supersedes."""

    def __init__(self, claimed: Claimed, job_dir: Path) -> None:
        policy = claimed.spec.get("checkpoint") or {}
        self._keep_last, self._keep_best = policy.get("keep_last", 2), policy.get("keep_best", True)
        if needs_all_checkpoints(claimed.kind):
            self._keep_last = sys.maxsize
        self._lease, self._job_dir = claimed.lease, job_dir
        self._kept = claimed.checkpoints

    def retire(self, conn: Connection, new: list[CheckpointRecord]) -> AttemptStatus | None:
        """Delete the rows of superseded checkpoints, and their folders after the commit.

        In this order every listed checkpoint exists.
        """
        if not new:
            return None
        kept = self._with(new)
        gone = superseded(kept, keep_last=self._keep_last, keep_best=self._keep_best)
        on_commit(conn, partial(self._remove_folders, kept, gone))
        return transitions.delete_checkpoints(conn, self._lease, gone) if gone else None

    def superseded_in_queue(self, waiting: list[CheckpointRecord]) -> set[str]:
        """Return the ids of queued uploads that the other ones will supersede once they are stored."""
        gone = superseded(self._with(waiting), keep_last=self._keep_last, keep_best=self._keep_best)
        return {c.id for c in waiting} & set(gone)

    def _with(self, new: list[CheckpointRecord]) -> list[CheckpointRecord]:
        before = self._kept
        if any(c.is_best for c in new):  # the earlier best one no longer is
            before = [c.model_copy(update={"is_best": False}) for c in before]
        return [*before, *new]

    def _remove_folders(self, kept: list[CheckpointRecord], gone: list[str]) -> None:
        self._kept = [c for c in kept if c.id not in gone]
        for checkpoint in kept:
            if checkpoint.id in gone:
                shutil.rmtree(self._job_dir / checkpoint.path, ignore_errors=True)


class BatchWriter:
    """Writes the batches of an attempt and removes superseded checkpoints."""

    def __init__(self, lease: Lease, retention: Retention) -> None:
        self._lease, self._retention = lease, retention
        #: Written when the attempt starts.
        self.environment: dict[str, Any] | None = None

    def write(self, conn: Connection, batch: Batch) -> AttemptStatus:
        """Write a batch and delete what its checkpoints supersede."""
        if batch.started is not None:
            batch.environment = self.environment
        status = write_batch(conn, self._lease, batch)
        return self._retention.retire(conn, batch.checkpoints) or status

    def writing(self, batch: Batch) -> Callable[[Connection], AttemptStatus]:
        """Return a function that writes the batch."""
        return partial(self.write, batch=batch)

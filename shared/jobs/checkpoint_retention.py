"""Checkpoint retention. Pure functions: the caller marks the rows deleted first, then removes the folders."""

from __future__ import annotations

from collections.abc import Iterable

from nightshift.names import BATCH_INFER, SHARD
from shared.job_files.checkpoint_record import CheckpointRecord


def superseded(checkpoints: Iterable[CheckpointRecord], *, keep_last: int, keep_best: bool) -> list[str]:
    """Return the ids of all but the newest `keep_last` and, with `keep_best`, the newest best one."""
    newest_first = sorted(checkpoints, key=lambda kept: kept.step, reverse=True)
    best = next((kept.id for kept in newest_first if kept.is_best), None) if keep_best else None
    return [kept.id for kept in newest_first[keep_last:] if kept.id != best]


def needs_all_checkpoints(kind: str) -> bool:
    """Return whether every checkpoint is kept: those of a batch inference are parts of one output."""
    return kind in (BATCH_INFER, SHARD)

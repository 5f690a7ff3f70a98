"""Batch inference in shards, one after the other in one process, and their merge."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nightshift.testing.attempts import THREADS, Disturbance, KilledReporter, lead_group
from tests.support.unpainted import leave_plots_blank
from worker import kinds
from worker.run_job import make_assignment
from worker.runners.messages import Assignment, Result, Shard, ShardParts


@dataclass(frozen=True)
class Division:
    """A job to compute in shards, in folders below `root`; the merge is in `root / "whole"`."""

    spec: dict[str, Any]
    root: Path
    data_set: Path
    model: Path
    shards: int


def divided(order: Division) -> None:
    """Run all shards and merge them, in this process."""
    lead_group()
    leave_plots_blank()
    for place in range(order.shards):
        folder = order.root / str(place)
        shard = Shard(place=place, shards=order.shards)
        _run(_assignment(order, folder).model_copy(update={"shard": shard}), folder)
    folders = [order.root / str(place) for place in range(order.shards)]
    left = [ShardParts(job_dir=str(one), parts=_assignment(order, one).resume) for one in folders]
    whole = order.root / "whole"
    _run(_assignment(order, whole).model_copy(update={"divided": left, "part": "merging"}), whole)


def _assignment(order: Division, folder: Path) -> Assignment:
    return make_assignment(order.spec, folder, order.data_set, THREADS, order.model)


def _run(assignment: Assignment, folder: Path) -> None:
    ended = kinds.run_part(assignment, KilledReporter(folder, Disturbance(), keep_last=10**6))
    assert isinstance(ended, Result)
    (folder / "outcome.json").write_text(ended.model_dump_json())


def files(folders: Iterable[Path]) -> list[dict[str, bytes]]:
    """Return the artifacts in each folder by their name."""
    return [{path.name: path.read_bytes() for path in (folder / "artifacts").iterdir()} for folder in folders]

"""What an attempt may still write when a write of it failed for good."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
from sqlalchemy import Engine

from shared.db.engine import write
from shared.jobs.transitions import LogRow, MetricRow
from tests.support.factories import claim_job, make_checkpoint, submit_job
from worker.runners.messages import Started
from worker.supervisor.batch import Batch, Retention, write_batch


def test_after_a_batch_that_is_lost_no_checkpoint_of_a_later_one_is_listed() -> None:
    """It would know of steps whose metrics SQL has never seen, and the next attempt would not make them again."""
    batch = Batch(
        started=Started(pid=1, device="cpu"),
        progress={"step": 12},
        metrics=[MetricRow("loss", 12, 0, 0.5)],
        logs=[LogRow("error", "what it said")],
        checkpoints=[make_checkpoint(12)],
    )
    left = batch.logs_only()
    assert left.logs == batch.logs
    assert [field.name for field in fields(left) if getattr(left, field.name)] == ["logs"]


def test_superseded_checkpoints_leave_the_disk_when_their_rows_are_gone_and_not_before(
    sqlite_engine: Engine, tmp_path: Path
) -> None:
    submit_job(sqlite_engine, checkpoint={"keep_last": 1, "keep_best": False})
    claimed = claim_job(sqlite_engine)
    new = [make_checkpoint(step) for step in (4, 8)]
    for checkpoint in new:
        (tmp_path / checkpoint.path).mkdir(parents=True)
    retention = Retention(claimed, tmp_path)

    def left_after_writing(fails: bool) -> list[bool]:
        with write(sqlite_engine) as conn:
            write_batch(conn, claimed.lease, Batch(checkpoints=new))
            retention.retire(conn, new)
            if fails:
                raise OSError("the commit failed")
        return [(tmp_path / checkpoint.path).exists() for checkpoint in new]

    with pytest.raises(OSError, match="commit"):
        left_after_writing(fails=True)
    assert all((tmp_path / checkpoint.path).exists() for checkpoint in new)
    assert left_after_writing(fails=False) == [False, True]

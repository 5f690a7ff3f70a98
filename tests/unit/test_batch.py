"""What an attempt may still write when a write of it failed for good."""

from __future__ import annotations

from dataclasses import fields

from shared.jobs.transitions import LogRow, MetricRow
from tests.support.factories import make_checkpoint
from worker.batch import Batch
from worker.protocol import Started


def test_after_a_batch_that_is_lost_no_checkpoint_of_a_later_one_is_listed() -> None:
    """It would know of steps whose metrics SQL has never seen, and the next attempt would not make them again."""
    batch = Batch(
        started=Started(pid=1, device="cpu"),
        progress={"step": 12},
        metrics=[MetricRow("loss", 12, 0, 0.5)],
        logs=[LogRow("error", "what it said")],
        checkpoints=[make_checkpoint(12)],
    )
    left = batch.words()
    assert left.logs == batch.logs
    assert [field.name for field in fields(left) if getattr(left, field.name)] == ["logs"]

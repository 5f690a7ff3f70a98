"""The event file, read back by TensorFlow's own reader."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.training.tensorboard import write_events

tensorflow = pytest.importorskip("tensorflow")


def test_every_row_of_the_history_is_a_scalar_event(tmp_path: Path) -> None:
    history = {"loss": [[5, 2.5], [300, 1.25]], "val_accuracy": [[300, 0.5], [70_000, 1e-9]]}
    path = write_events(history, tmp_path / "tensorboard" / "events.out.tfevents.abc", at=1.5e9)
    first, *events = tensorflow.compat.v1.train.summary_iterator(str(path))
    assert first.file_version == "brain.Event:2"
    assert {event.wall_time for event in events} == {1.5e9}
    found = [(event.step, value.tag, value.simple_value) for event in events for value in event.summary.value]
    assert found == [
        (5, "loss", 2.5),
        (300, "loss", 1.25),
        (300, "val_accuracy", 0.5),
        (70_000, "val_accuracy", pytest.approx(1e-9)),
    ]

"""What a run says of itself: how often, and that it counts right."""

from __future__ import annotations

from typing import Any

import pytest

from nightshift.families.learner import LearnerSetup
from nightshift.families.training import Training
from nightshift.testing.attempts import NullReporter
from shared.specs.jobs import job_spec_adapter
from worker import families
from worker.training import training_log


class RecordingReporter(NullReporter):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, message: str, level: str = "info") -> None:
        self.lines.append(message)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def epochs(seconds: float, count: int) -> list[str]:
    reporter, clock = RecordingReporter(), Clock()
    told = training_log.TrainingLog(reporter, count, clock)
    for number in range(1, count + 1):
        clock.now += seconds
        told.epoch(number, {"loss": 1 / number, "learning_rate": 0.1}, best=number == 2, last=number == count)
    return reporter.lines


def test_long_epochs_are_all_told() -> None:
    assert epochs(10.0, 3) == [
        "epoch 1/3: loss 1, 10.0 s",
        "epoch 2/3: loss 0.5, 10.0 s, the best so far",
        "epoch 3/3: loss 0.3333, 10.0 s",
    ]


def test_short_epochs_are_told_now_and_then_and_the_last_one_always() -> None:
    lines = epochs(0.5, 20)
    assert [line.split(":")[0] for line in lines] == [
        "epoch 1/20",
        "epoch 7/20 (5 more since the last line)",
        "epoch 13/20 (5 more since the last line)",
        "epoch 19/20 (5 more since the last line)",
        "epoch 20/20",
    ]


def test_a_long_run_fills_no_log() -> None:
    assert len(epochs(1.0, 100_000)) < 2_000


def test_a_long_epoch_says_where_it_is() -> None:
    reporter, clock = RecordingReporter(), Clock()
    told = training_log.TrainingLog(reporter, 2, clock)
    for step in range(1, 101):
        clock.now += 1.0
        told.step(step, 1_000, 1, {"loss": 2.5}, 64.0)
    assert reporter.lines[0] == "epoch 1/2, step 30/1,000: loss 2.5, 64 samples/s"
    assert len(reporter.lines) == 3


@pytest.mark.parametrize(
    ("model", "facts", "expected"),
    [
        (
            {"family": "cnn", "preset": "mnist-1conv-linear"},
            {"classes": list("0123456789")},
            320 + 13 * 13 * 32 * 10 + 10,
        ),
        ({"family": "gan", "preset": "dense"}, {}, 100 * 128 + 128 + 128 * 784 + 784 + 784 * 128 + 128 + 128 + 1),
    ],
)
def test_parameters_are_counted_from_the_shapes(model: dict[str, Any], facts: dict[str, Any], expected: int) -> None:
    spec: Any = job_spec_adapter.validate_python({"kind": "train", "dataset": "digits", "model": model})
    setup = LearnerSetup(spec.model, Training(), 1, "cpu", 1, facts)
    assert training_log.parameters(families.load(spec.model.family, "torch")(setup)) == expected

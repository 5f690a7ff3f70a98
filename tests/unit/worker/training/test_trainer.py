"""The loop with a learner that counts: which rows are left, when it validates, stops, keeps the best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift.families.learner import LearnerState, Splits
from nightshift.families.training import Training
from nightshift.testing.attempts import NullReporter
from shared.errors import NonFiniteLoss, UnsupportedJob
from shared.job_files.checkpoint_record import CheckpointRecord
from shared.specs.training import CheckpointPolicy
from worker.training.checkpoints import CheckpointWriter, restore, run_facts, run_state
from worker.training.progress import ProgressMeter
from worker.training.state import Plateau, RunState
from worker.training.trainer import Plan, Trainer

NEVER = CheckpointPolicy(every_seconds=None)


class Counting:
    """Its only weight is the number of steps; its validation losses are given."""

    def __init__(self, val_losses: Sequence[float] = (), bad_step: int | None = None) -> None:
        self.steps, self.read_at, self.seen = 0, 0, list[list[int]]()
        self.val_losses, self.bad_step = list(val_losses), bad_step

    def set_data(self, split: Mapping[str, Any]) -> None: ...

    def train_step(self, rows: Any, step: int) -> None:
        assert step == self.steps
        self.steps += 1
        self.seen.append(rows.tolist())

    def read_metrics(self) -> dict[str, float]:
        bad = self.bad_step is not None and self.read_at < self.bad_step <= self.steps
        self.read_at = self.steps
        return {"loss": float("nan") if bad else 1 / self.steps, "learning_rate": 0.1}

    def evaluate(self, split: Any, batch_size: int) -> dict[str, float]:
        return {"loss": self.val_losses.pop(0)}

    def weights(self) -> dict[str, Any]:
        return {"steps": np.float32([self.steps])}

    def state(self) -> LearnerState:
        return LearnerState(self.weights())


def run(
    folder: Path,
    learner: Counting,
    training: Mapping[str, Any],
    *,
    length: int = 20,
    policy: CheckpointPolicy = NEVER,
    stops: dict[int, str] | None = None,
    state: RunState | None = None,
) -> tuple[str, RunState, NullReporter]:
    reporter, state = NullReporter(stops), state or RunState()
    how = Training.model_validate({"batch_size": 4, **training})
    splits = Splits({}, {} if learner.val_losses else None, None, {}, length)
    writer = CheckpointWriter(folder, 1, reporter)
    any_learner: Any = learner
    ending = Trainer(any_learner, splits, how, policy, writer, reporter, state).run()
    writer.wait()
    return ending, state, reporter


def names(reporter: NullReporter, name: str) -> list[int]:
    return [step for found, step, _ in reporter.rows if found == name]


def test_every_row_of_every_epoch_is_trained_on(tmp_path: Path) -> None:
    learner = Counting()
    ending, state, _ = run(tmp_path, learner, {"epochs": 2}, length=18)
    assert ending == "completed"
    assert state.step == 10
    for epoch in (learner.seen[:5], learner.seen[5:]):
        assert sorted(row for batch in epoch for row in batch) == list(range(18))


def test_max_steps_ends_a_run_in_the_middle_of_an_epoch_with_a_validation(tmp_path: Path) -> None:
    _, state, reporter = run(tmp_path, Counting([3, 2]), {"epochs": 9, "max_steps": 7})
    assert state.step == 7
    assert names(reporter, "val_loss") == [5, 7]
    assert names(reporter, "loss") == list(range(1, 8))


@given(
    length=st.integers(2, 100_000), batch=st.integers(1, 512), epochs=st.integers(1, 30), limit=st.integers(1, 10**6)
)
def test_rows_follow_from_counts_and_are_neither_few_nor_many(length: int, batch: int, epochs: int, limit: int) -> None:
    plan = Plan(Training(batch_size=batch, epochs=epochs, max_steps=limit), length)
    total = plan.total_steps
    assert plan.logs_at(total)
    assert plan.epoch(1) == 1
    assert plan.epoch(total) <= epochs
    every = plan.steps_per_row
    assert min(total, 200) <= total / every + 1
    assert total / every < 401 or every == 1000


def test_early_stopping_waits_for_its_patience_and_keeps_the_best(tmp_path: Path) -> None:
    early = {"metric": "val_loss", "patience": 2}
    _, state, _ = run(tmp_path, Counting([5, 3, 4, 4, 1]), {"epochs": 5, "early_stopping": early})
    assert state.step == 20
    assert state.stopped_early
    assert (state.best.value, state.best.step) == (3, 10)
    assert state.best.weights is not None
    assert state.best.weights["steps"] == 10


def test_small_improvements_do_not_count(tmp_path: Path) -> None:
    early = {"metric": "val_loss", "patience": 2, "min_delta": 0.5}
    _, state, _ = run(tmp_path, Counting([5, 4.8, 4.6, 1]), {"epochs": 4, "early_stopping": early})
    assert (state.step, state.best.step) == (15, 5)


def test_without_a_validation_part_the_last_weights_are_the_result(tmp_path: Path) -> None:
    _, state, reporter = run(tmp_path, Counting(), {"epochs": 2})
    assert state.best.weights is None
    assert names(reporter, "val_loss") == []


class Telling(Counting):
    """The loss of a row is its number, that of a step the mean of its rows; validation losses are given."""

    def __init__(self, val_losses: Sequence[float] = ()) -> None:
        super().__init__(val_losses)
        self.sum, self.count = 0.0, 0

    def train_step(self, rows: Any, step: int) -> None:
        super().train_step(rows, step)
        self.sum, self.count = self.sum + float(rows.sum()), self.count + len(rows)

    def read_metrics(self) -> dict[str, float]:
        mean, self.sum, self.count = self.sum / self.count, 0.0, 0
        return {"loss": mean, "accuracy": mean / 100, "perplexity": math.exp(mean), "learning_rate": 0.1}

    def mean(self, steps: slice) -> float:
        """Over all rows of these steps."""
        return float(np.mean([row for batch in self.seen[steps] for row in batch]))


@pytest.fixture(params=[200, 4], ids=["a row per step", "a row per three steps"])
def _row_spacing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.training.trainer.ROWS", request.param)


@pytest.mark.usefixtures("_row_spacing")
def test_the_figures_of_a_run_are_means_over_the_rows_of_the_epoch_its_model_is_of(tmp_path: Path) -> None:
    learner = Telling([3, 2, 4])
    _, state, _ = run(tmp_path, learner, {"epochs": 3, "max_steps": 12}, length=18)
    assert state.best.step == 10
    mean = learner.mean(slice(5, 10))
    assert mean == 8.5, "a whole epoch: every row once, the short last batch by its rows"
    assert state.figures() == pytest.approx({
        "val_loss": 2, "train_loss": mean, "train_accuracy": mean / 100, "train_perplexity": math.exp(mean)
    })  # fmt: skip


@pytest.mark.usefixtures("_row_spacing")
@pytest.mark.parametrize(
    ("training", "stops", "steps"),
    [
        pytest.param({"epochs": 2}, {}, slice(5, 10), id="to the end"),
        pytest.param({"epochs": 9, "max_steps": 7}, {}, slice(5, 7), id="max_steps in an epoch"),
        pytest.param({"epochs": 9}, {9: "finish"}, slice(5, 9), id="finished in an epoch"),
        pytest.param({"epochs": 9}, {10: "finish"}, slice(5, 10), id="finished between two"),
    ],
)
def test_without_a_best_model_they_are_of_the_part_of_the_last_epoch_that_was_seen(
    tmp_path: Path, training: dict[str, Any], stops: dict[int, str], steps: slice
) -> None:
    learner = Telling()
    _, state, _ = run(tmp_path, learner, training, length=18, stops=stops)
    assert state.figures()["train_loss"] == pytest.approx(learner.mean(steps))


def test_what_was_validated_of_other_weights_is_no_figure_of_the_model(tmp_path: Path) -> None:
    learner = Telling([3])
    early = {"metric": "val_accuracy", "patience": 9}  # never measured: no best, so the last weights are the model
    _, state, _ = run(tmp_path, learner, {"epochs": 9, "early_stopping": early}, length=18, stops={8: "finish"})
    assert state.best.weights is None
    assert state.figures().keys() == {"train_loss", "train_accuracy", "train_perplexity"}
    assert state.figures()["train_loss"] == pytest.approx(learner.mean(slice(5, 8)))


# -- a rate that falls where nothing improves ------------------------------------------------------


class Scaled(Counting):
    """It remembers the factor that each of its steps had."""

    def __init__(self, val_losses: Sequence[float] = ()) -> None:
        super().__init__(val_losses)
        self.factor, self.factors = 1.0, list[float]()

    def scale_rate(self, factor: float) -> None:
        self.factor = factor

    def train_step(self, rows: Any, step: int) -> None:
        super().train_step(rows, step)
        self.factors.append(self.factor)

    @property
    def each_epoch(self) -> list[float]:
        """The factors of the epochs of five steps."""
        assert all(len(set(self.factors[at : at + 5])) == 1 for at in range(0, len(self.factors), 5))
        return self.factors[::5]


PLATEAU = {"lr_schedule": "plateau", "lr_patience": 2, "lr_factor": 0.5, "learning_rate": 0.1}


@pytest.mark.parametrize(
    ("val_losses", "more", "factors"),
    [
        ([5, 4, 3, 2], {}, [1, 1, 1, 1]),
        ([5, 4, 6, 4, 4, 4, 4], {}, [1, 1, 1, 1, 0.5, 0.5, 0.25]),
        ([5, 6, 4, 6, 3, 6], {}, [1, 1, 1, 1, 1, 1]),  # an improvement in between begins the count anew
        ([5, 4.8, 4.6, 4.4], {"early_stopping": {"min_delta": 0.5, "patience": 9}}, [1, 1, 1, 0.5]),
        ([5, 6, 6, 6, 6], {"lr_patience": 1}, [1, 1, 0.5, 0.25, 0.125]),
        ([5, 6, 6, 6, 6], {"lr_patience": 1, "lr_min": 0.04}, [1, 1, 0.5, 0.4, 0.4]),
        ([5, 6, 6, 6, 6], {"lr_patience": 1, "lr_min": 0.5}, [1, 1, 1, 1, 1]),
        ([5, 6, 6, 6, 6], {"lr_patience": 1, "lr_schedule": "constant"}, [1, 1, 1, 1, 1]),
    ],
)
def test_the_rate_falls_when_the_watched_metric_has_not_improved(
    tmp_path: Path, val_losses: list[float], more: dict[str, Any], factors: list[float]
) -> None:
    learner = Scaled(val_losses)
    run(tmp_path, learner, {"epochs": len(val_losses), **PLATEAU, **more})
    assert learner.each_epoch == pytest.approx(factors)


def test_a_metric_that_was_not_measured_lets_no_rate_fall(tmp_path: Path) -> None:
    learner = Scaled()
    run(tmp_path, learner, {"epochs": 4, **PLATEAU, "lr_patience": 1})
    assert learner.each_epoch == [1, 1, 1, 1]


def test_the_log_says_when_the_rate_falls(tmp_path: Path) -> None:
    _, _, reporter = run(tmp_path, Scaled([5, 6, 6]), {"epochs": 3, **PLATEAU})
    lines = [frame[1] for frame in reporter.frames if isinstance(frame, tuple) and "learning rate" in frame[1]]
    assert lines == ["the learning rate falls to 0.05: val_loss has not improved for 2 validations"]


def test_a_resumed_run_goes_on_with_the_rate_that_had_fallen(tmp_path: Path) -> None:
    """Stopped at any step and restored from its checkpoint, the epochs have the factors of an untouched run."""
    losses = [5, 4, 6, 6, 6, 6, 6]
    whole = Scaled(losses)
    run(tmp_path / "whole", whole, {"epochs": 7, **PLATEAU})
    assert whole.each_epoch == [1, 1, 1, 1, 0.5, 0.5, 0.25]
    for step in (13, 15, 17, 20, 24, 28):
        folder = tmp_path / str(step)
        first = Scaled(losses)
        _, _, reporter = run(folder, first, {"epochs": 7, **PLATEAU}, stops={step: "pause"})
        (point,) = (frame for frame in reporter.frames if isinstance(frame, CheckpointRecord))
        restored, _ = restore(folder, [point])
        assert restored is not None
        other = Scaled(first.val_losses)
        other.steps = step
        run(folder, other, {"epochs": 7, **PLATEAU}, state=restored.run)
        assert first.factors + other.factors == whole.factors


def test_a_checkpoint_of_before_there_was_a_plateau_can_be_read(tmp_path: Path) -> None:
    _, state, _ = run(tmp_path, Counting([2, 1]), {"epochs": 2})
    facts = {name: value for name, value in run_facts(state).items() if name != "plateau"}
    assert run_state(facts, None).plateau == Plateau()


def test_a_learner_that_cannot_scale_its_rate_is_refused_before_the_first_step(tmp_path: Path) -> None:
    learner = Counting([2, 1])
    with pytest.raises(UnsupportedJob, match="scale_rate"):
        run(tmp_path, learner, {"epochs": 2, **PLATEAU})
    assert learner.steps == 0


def test_a_figure_that_is_not_finite_is_left_out(tmp_path: Path) -> None:
    class Unlikely(Telling):
        def read_metrics(self) -> dict[str, float]:
            return {"loss": 800.0, "perplexity": math.inf}

    _, state, _ = run(tmp_path, Unlikely(), {"epochs": 1})
    assert state.figures() == {"train_loss": 800.0}


def test_a_loss_that_is_not_finite_ends_the_run_with_a_typed_error(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteLoss, match="at step 3"):
        run(tmp_path, Counting(bad_step=3), {"epochs": 1})


def test_a_validation_loss_that_is_not_finite_does_too(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteLoss):
        run(tmp_path, Counting([float("inf")]), {"epochs": 1})


@pytest.mark.parametrize(("reason", "saved"), [("pause", True), ("preempt", True), ("drain", True), ("cancel", False)])
def test_a_stop_is_heard_at_the_next_step(tmp_path: Path, reason: str, saved: bool) -> None:
    ending, state, reporter = run(tmp_path, Counting(), {"epochs": 2}, stops={3: reason})
    assert (ending, state.step) == (reason, 3)
    steps = [frame.step for frame in reporter.frames if isinstance(frame, CheckpointRecord)]
    assert steps == ([3] if saved else [])


def test_finish_before_the_first_step_waits_for_it(tmp_path: Path) -> None:
    ending, state, _ = run(tmp_path, Counting(), {"epochs": 2}, stops={0: "finish", 1: "finish"})
    assert (ending, state.step) == ("finish", 1)


def test_checkpoints_come_every_so_many_steps_and_at_the_end(tmp_path: Path) -> None:
    policy = CheckpointPolicy(every_steps=4, every_seconds=None)
    _, _, reporter = run(tmp_path, Counting([2, 1, 3]), {"epochs": 3}, policy=policy)
    frames = [frame for frame in reporter.frames if isinstance(frame, CheckpointRecord)]
    assert [frame.step for frame in frames] == [4, 8, 12, 15]
    assert [frame.epoch for frame in frames] == [1, 2, 3, 3]
    assert not any(frame.is_best for frame in frames)


def test_a_checkpoint_at_the_best_step_says_so(tmp_path: Path) -> None:
    policy = CheckpointPolicy(every_steps=5, every_seconds=None)
    _, _, reporter = run(tmp_path, Counting([2, 1, 3]), {"epochs": 3}, policy=policy)
    frames = [frame for frame in reporter.frames if isinstance(frame, CheckpointRecord)]
    assert [(frame.step, frame.is_best) for frame in frames] == [(5, True), (10, True), (15, False)]


# -- progress -------------------------------------------------------------------------------------


def test_progress_is_said_at_the_first_step_and_then_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    reporter = NullReporter()
    any_reporter: Any = reporter
    meter = ProgressMeter(1000, 32, 0, any_reporter)
    for step in range(1, 1001):
        now[0] += 0.01
        meter.stepped(step, 1)
    assert reporter.frames[0].step == 1
    assert reporter.frames[-1].step == 1000
    assert len(reporter.frames) <= 10 * 5
    middle = reporter.frames[20]
    assert middle.samples_per_second == pytest.approx(3200)
    assert middle.eta_seconds == pytest.approx((1000 - middle.step) / 100)
    assert middle.percent == pytest.approx(middle.step / 10)


def test_validating_does_not_count_as_training_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    any_reporter: Any = NullReporter()
    meter = ProgressMeter(1000, 10, 0, any_reporter)
    now[0] = 1.0
    meter.stepped(10, 1)
    with meter.phase("validate"):
        now[0] = 101.0
    now[0] = 102.0
    meter.stepped(20, 1)
    assert meter.samples_per_second() == pytest.approx(100)

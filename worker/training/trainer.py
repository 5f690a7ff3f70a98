"""The training loop of all families and frameworks: load, step, save, validate.

Metric rows follow from step counts only, never from time, so that a resumed run leaves the same rows as an
uninterrupted one. Progress is for people and follows time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Literal

from nightshift.families.learner import Learner, ScalesRate, Splits
from nightshift.families.training import EarlyStopping, Training
from shared.errors import NonFiniteLoss, UnsupportedJob
from shared.specs.training import CheckpointPolicy, steps_per_epoch
from worker.runners.messages import MetricPoint
from worker.training import gang
from worker.training.checkpoints import CheckpointSchedule, CheckpointWriter
from worker.training.numerics.data_order import DataOrder
from worker.training.progress import ProgressMeter
from worker.training.reporter import Reporter
from worker.training.state import RunState
from worker.training.training_log import TrainingLog

#: Approximate number of rows per metric, and the most steps between two rows. A non-finite loss is detected at rows:
#: fewer rows detect it later, more rows wait for the device more often.
ROWS, MOST_STEPS_PER_ROW = 200, 1000

#: A family's work after each epoch beside validation: epoch -> metrics to leave as rows.
AtEpoch = Callable[[int], Mapping[str, float]]

Ending = Literal["completed", "finish", "cancel", "pause", "preempt", "drain"]


@dataclass(frozen=True)
class Plan:
    """Length of a run and the steps at which rows and validations fall. Pure arithmetic."""

    training: Training
    length: int  # rows trained on

    @cached_property
    def steps_per_epoch(self) -> int:
        return steps_per_epoch(self.length, self.training.batch_size)

    @cached_property
    def total_steps(self) -> int:
        steps = self.training.epochs * self.steps_per_epoch
        return min(steps, self.training.max_steps or steps)

    @cached_property
    def steps_per_row(self) -> int:
        return max(1, min(self.total_steps // ROWS, MOST_STEPS_PER_ROW))

    def rows(self, step: int) -> int:
        """Return the rows seen (counted again in each epoch) after `step` steps."""
        epochs, steps = divmod(step, self.steps_per_epoch)
        return epochs * self.length + steps * self.training.batch_size

    def steps_between(self, start: int, end: int) -> float:
        """Return the number of batches between two steps; a smaller batch counts as its share."""
        return (self.rows(end) - self.rows(start)) / self.training.batch_size

    def epoch(self, step: int) -> int:
        """Return the epoch (from 1) of step number `step` (from 1); 0 before the first step."""
        return math.ceil(step / self.steps_per_epoch)

    def finished_epochs(self, step: int) -> int:
        """Return the number of epochs that ended (and were validated) after `step` steps."""
        return self.epoch(step) if self.ends_epoch(step) else step // self.steps_per_epoch

    def ends_epoch(self, step: int) -> bool:
        """Return whether an epoch ends after `step` steps."""
        return step % self.steps_per_epoch == 0 or step == self.total_steps

    def logs_at(self, step: int) -> bool:
        """Return whether a metric row is due after `step` steps."""
        return step % self.steps_per_row == 0 or self.ends_epoch(step)


class Trainer:
    """Trains a learner, leaving metric rows, checkpoints and the best weights."""

    def __init__(
        self,
        learner: Learner,
        splits: Splits,
        training: Training,
        policy: CheckpointPolicy,
        writer: CheckpointWriter | gang.FollowingWriter,
        reporter: Reporter,
        state: RunState,
        *,
        watched: str = "val_loss",
        at_epoch: AtEpoch | None = None,
    ) -> None:
        """Create a trainer. `watched`: the metric that selects the best model if early stopping names none."""
        self.learner, self.splits, self.training, self.state = learner, splits, training, state
        self.plan = Plan(training, splits.length)
        self.data_order = DataOrder(training.seed, splits.length, training.batch_size, splits.rows)
        self.watched = training.early_stopping or EarlyStopping(metric=watched)
        self.at_epoch = at_epoch
        self.gang = gang.current()
        self.writer, self.reporter = writer, reporter
        self.policy, self.checkpoint_due = policy, CheckpointSchedule(policy, state.step)
        self.saved_step: int | None = state.step or None
        self.batch_sizes: set[int] = set()
        self.log = TrainingLog(reporter, training.epochs)
        self.progress = ProgressMeter(self.plan.total_steps, training.batch_size, state.step, reporter)

    def run(self) -> Ending:
        """Train until done or asked to stop; the state is at a step boundary in either case.

        A `finish` request before the first step takes effect after it.
        """
        self._scale_rate()
        self.learner.set_data(self.splits.train)
        reason = self.gang.agree(self.reporter.stop_requested())
        while not self.is_done:
            if reason and (self.state.step or reason != "finish"):
                return self._stop(reason)
            self._step()
            if self.plan.logs_at(self.state.step):
                self._log_row()
            if self.plan.ends_epoch(self.state.step):
                self._validate()
            is_due = self.gang.agree(self.checkpoint_due(self.state.step))
            if is_due:
                self._save()
            reason = self.gang.agree(self.reporter.stop_requested())
        if self.policy.every_steps or self.policy.every_seconds:
            self._save()
        return "completed"

    @property
    def is_done(self) -> bool:
        return self.state.stopped_early or self.state.step >= self.plan.total_steps

    def _step(self) -> None:
        step = self.state.step
        rows = self.data_order.batch(step)
        if len(rows) in self.batch_sizes:
            gang.train_step(self.gang, self.learner, rows, step)
        else:  # the first batch of a size may be compiled for, which is not a stall
            self.batch_sizes.add(len(rows))
            self.progress.enter("first_step")
            gang.train_step(self.gang, self.learner, rows, step)
            self.progress.enter("train")
        self.state.step += 1
        self.progress.stepped(self.state.step, self.plan.epoch(self.state.step))

    def _log_row(self) -> None:
        means = self._read()
        self._check_finite(means)
        self.progress.loss = means.get("loss", means.get("g_loss"))
        speed = self.progress.samples_per_second()
        self._emit(means | {"samples_per_second": speed})
        self.log.step(self.state.step, self.plan.total_steps, self.plan.epoch(self.state.step), means, speed)

    def _read(self) -> dict[str, float]:
        """Return the means since the last row, and add them to the epoch's."""
        means = self.learner.read_metrics()
        self.state.add_row(means, self.plan.steps_between(self.state.row_step, self.state.step))
        return means

    def _validate(self) -> None:
        values = self.state.end_epoch()
        if self.splits.validation is not None:
            with self.progress.phase("validate"):
                found = gang.decided(self.gang, self._evaluated)
            values |= self._check_and_emit({f"val_{name}": value for name, value in found.items()})
        if self.at_epoch is not None:
            with self.progress.phase("validate"):
                measured = gang.decided(self.gang, partial(self.at_epoch, self.plan.epoch(self.state.step)))
            values |= self._check_and_emit(measured)
        is_best = self.state.record_validation(self.watched, values)
        if is_best:
            self.state.best.weights = self.learner.weights()
        if self.training.lr_schedule == "plateau" and self.watched.metric in values:
            self._follow(improved=is_best)
        early = self.training.early_stopping
        self.state.stopped_early = early is not None and self.state.best.stale >= early.patience
        self.log.epoch(self.plan.epoch(self.state.step), values, best=is_best, last=self.is_done)
        if self.state.stopped_early:
            self._log_early_stop()

    def _evaluated(self) -> dict[str, float]:
        assert self.splits.validation is not None
        return self.learner.evaluate(self.splits.validation, self.training.batch_size)

    def _follow(self, *, improved: bool) -> None:
        """Lower the rate if the watched metric has not improved for long enough."""
        if self.state.plateau.falls(self.training, improved=improved):
            self._scale_rate()
            rate, patience = self.state.plateau.factor * self.training.learning_rate, self.training.lr_patience
            self.log.write(
                f"the learning rate falls to {rate:.4g}: {self.watched.metric} has not improved for {patience} "
                f"validation{'s' * (patience != 1)}"
            )

    def _scale_rate(self) -> None:
        """Give the learner the factor of the rate, which is part of the state of the run and not of the learner's."""
        if self.training.lr_schedule != "plateau":
            return
        if not isinstance(self.learner, ScalesRate):
            kind = type(self.learner).__name__
            raise UnsupportedJob(f"{kind} has no scale_rate(), which training.lr_schedule plateau needs; use another")
        self.learner.scale_rate(self.state.plateau.factor)

    def _log_early_stop(self) -> None:
        best = self.state.best
        validations = f"{best.stale} validation{'s' * (best.stale != 1)}"
        self.log.write(
            f"stopped early: {self.watched.metric} has not improved for {validations}; "
            f"the best was {best.value:.4g} at step {best.step:,}"
        )

    def _check_and_emit(self, values: Mapping[str, float]) -> Mapping[str, float]:
        self._check_finite(values)
        self._emit(values)
        return values

    def _check_finite(self, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            if name.endswith("loss") and not math.isfinite(value):
                raise NonFiniteLoss(self.state.step, value)

    def _emit(self, values: Mapping[str, float]) -> None:
        step, epoch = self.state.step, self.plan.epoch(self.state.step)
        values = {name: value for name, value in values.items() if math.isfinite(value)}
        for name, value in values.items():
            self.state.history.setdefault(name, []).append([step, value])
        self.reporter.metrics(
            [MetricPoint(name=name, step=step, epoch=epoch, value=value) for name, value in values.items()]
        )

    def _stop(self, reason: str) -> Ending:
        """Stop: cancel saves nothing, finish goes on to the end of the job, the others save a checkpoint."""
        self.log.write(f"{reason} requested: stopping at step {self.state.step:,}")
        match reason:
            case "cancel":
                return "cancel"
            case "finish":
                if not self.plan.ends_epoch(self.state.step):
                    self._end_partial_epoch()
                return "finish"
            case "pause" | "preempt" | "drain":
                self._save()
                with self.progress.phase("checkpoint"):
                    self.writer.wait()
                return reason
        raise ValueError(f"unknown stop reason {reason!r}")

    def _end_partial_epoch(self) -> None:
        """End an epoch early so that its metrics count; without a finished epoch there would be none."""
        if self.state.row_step < self.state.step:
            self._read()
        self.state.end_epoch()

    def _save(self) -> None:
        if self.saved_step == self.state.step or self.state.step == 0:
            return
        with self.progress.phase("checkpoint"):
            self.writer.save(self.learner, self.state, self.plan.epoch(self.state.step))
        self.saved_step = self.state.step
        self.checkpoint_due.reset(self.state.step)

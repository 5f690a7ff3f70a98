"""The training loop of every family and framework: load, step, save, validate.

Which metric rows there are follows from step counts alone, never from time, so that a resumed run leaves the same rows
as one that was never touched. Progress is for people and goes by time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from shared.errors import NonFiniteLoss
from shared.specs.training import CheckpointPolicy, EarlyStopping, Training, Watched, steps_per_epoch
from worker.runners.messages import MetricPoint
from worker.training.checkpoints import CheckpointSchedule, CheckpointWriter
from worker.training.learner import Learner, Splits
from worker.training.numerics.data_order import DataOrder
from worker.training.progress import ProgressMeter
from worker.training.reporter import Reporter
from worker.training.state import RunState
from worker.training.training_log import TrainingLog

#: Metric rows a run leaves per name, about, and the most steps between two of them. Rows are also the points where a
#: non-finite loss is noticed: fewer rows notice later, more rows wait for the device more often.
ROWS, MOST_STEPS_PER_ROW = 200, 1000

#: What a family does after each epoch beside validation: epoch -> metrics to leave as rows.
AtEpoch = Callable[[int], Mapping[str, float]]

Ending = Literal["completed", "finish", "cancel", "pause", "preempt", "drain"]


@dataclass(frozen=True)
class Plan:
    """The run on one screen: how long, and where rows and validations fall. Pure arithmetic."""

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
        """Rows seen, again in each epoch, once `step` steps are done."""
        epochs, steps = divmod(step, self.steps_per_epoch)
        return epochs * self.length + steps * self.training.batch_size

    def steps_between(self, start: int, end: int) -> float:
        """How many whole batches were seen in these steps: a smaller one counts as its share."""
        return (self.rows(end) - self.rows(start)) / self.training.batch_size

    def epoch(self, step: int) -> int:
        """The epoch (from 1) that step number `step` (from 1) belongs to; 0 before the first step."""
        return math.ceil(step / self.steps_per_epoch)

    def finished_epochs(self, step: int) -> int:
        """Epochs that have ended, and been validated, once `step` steps are done."""
        return self.epoch(step) if self.ends_epoch(step) else step // self.steps_per_epoch

    def ends_epoch(self, step: int) -> bool:
        return step % self.steps_per_epoch == 0 or step == self.total_steps

    def logs_at(self, step: int) -> bool:
        return step % self.steps_per_row == 0 or self.ends_epoch(step)


class Trainer:
    def __init__(
        self,
        learner: Learner,
        splits: Splits,
        training: Training,
        policy: CheckpointPolicy,
        writer: CheckpointWriter,
        reporter: Reporter,
        state: RunState,
        *,
        watched: Watched = "val_loss",
        at_epoch: AtEpoch | None = None,
    ) -> None:
        """`watched`: the metric the best model is chosen by where early stopping names none."""
        self.learner, self.splits, self.training, self.state = learner, splits, training, state
        self.plan = Plan(training, splits.length)
        self.sampler = DataOrder(training.seed, splits.length, training.batch_size, splits.rows)
        self.watched = training.early_stopping or EarlyStopping(metric=watched)
        self.at_epoch = at_epoch
        self.writer, self.reporter = writer, reporter
        self.policy, self.due = policy, CheckpointSchedule(policy, state.step)
        self.saved_step: int | None = state.step or None
        self.sizes: set[int] = set()
        self.diary = TrainingLog(reporter, training.epochs)
        self.progress = ProgressMeter(self.plan.total_steps, training.batch_size, state.step, reporter)

    def run(self) -> Ending:
        """Train until done or told to stop; the state stands at a step boundary in either case. A `finish` that comes
        before the first step waits for it."""
        self.learner.set_data(self.splits.train)
        while not self.is_done:
            if (reason := self.reporter.stop_requested()) and (self.state.step or reason != "finish"):
                return self._stop(reason)
            self._step()
            if self.plan.logs_at(self.state.step):
                self._log_row()
            if self.plan.ends_epoch(self.state.step):
                self._validate()
            if self.due(self.state.step):
                self._save()
        if self.policy.every_steps or self.policy.every_seconds:
            self._save()
        return "completed"

    @property
    def is_done(self) -> bool:
        return self.state.stopped_early or self.state.step >= self.plan.total_steps

    def _step(self) -> None:
        step = self.state.step
        rows = self.sampler.batch(step)
        if len(rows) in self.sizes:
            self.learner.train_step(rows, step)
        else:  # a first batch of its size may be compiled for: the watchdog must not take that for a stall
            self.sizes.add(len(rows))
            self.progress.enter("first_step")
            self.learner.train_step(rows, step)
            self.progress.enter("train")
        self.state.step += 1
        self.progress.stepped(self.state.step, self.plan.epoch(self.state.step))

    def _log_row(self) -> None:
        means = self._read()
        self._check_finite(means)
        self.progress.loss = means.get("loss", means.get("g_loss"))
        speed = self.progress.samples_per_second()
        self._emit(means | {"samples_per_second": speed})
        self.diary.step(self.state.step, self.plan.total_steps, self.plan.epoch(self.state.step), means, speed)

    def _read(self) -> dict[str, float]:
        """The means since the last row, which count for the epoch."""
        means = self.learner.read_metrics()
        self.state.add_row(means, self.plan.steps_between(self.state.row_step, self.state.step))
        return means

    def _validate(self) -> None:
        values = self.state.end_epoch()
        if self.splits.validation is not None:
            with self.progress.phase("validate"):
                found = self.learner.evaluate(self.splits.validation, self.training.batch_size)
            values |= self._take({f"val_{name}": value for name, value in found.items()})
        if self.at_epoch is not None:
            with self.progress.phase("validate"):
                measured = self.at_epoch(self.plan.epoch(self.state.step))
            values |= self._take(measured)
        is_best = self.state.judge(self.watched, values)
        if is_best:
            self.state.best.weights = self.learner.weights()
        early = self.training.early_stopping
        self.state.stopped_early = early is not None and self.state.best.stale >= early.patience
        self.diary.epoch(self.plan.epoch(self.state.step), values, best=is_best, last=self.is_done)
        if self.state.stopped_early:
            self._tell_of_early_end()

    def _tell_of_early_end(self) -> None:
        best = self.state.best
        self.diary.say(
            f"stopped early: {self.watched.metric} has not improved for {best.stale} "
            f"validation{'s' * (best.stale != 1)}; "
            f"the best was {best.value:.4g} at step {best.step:,}"
        )

    def _take(self, values: Mapping[str, float]) -> Mapping[str, float]:
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
        """Cancel keeps nothing more; finish goes on to the end of the job; the others leave a checkpoint to resume."""
        self.diary.say(f"{reason} was asked for: leaves at step {self.state.step:,}")
        match reason:
            case "cancel":
                return "cancel"
            case "finish":
                if not self.plan.ends_epoch(self.state.step):
                    self._end_in_an_epoch()
                return "finish"
            case "pause" | "preempt" | "drain":
                self._save()
                with self.progress.phase("checkpoint"):
                    self.writer.wait()
                return reason
        raise ValueError(f"unknown stop reason {reason!r}")

    def _end_in_an_epoch(self) -> None:
        """What was seen of the epoch is measured over; where no epoch has ended, nothing else is known of the
        training."""
        if self.state.row_step < self.state.step:
            self._read()
        self.state.end_epoch()

    def _save(self) -> None:
        if self.saved_step == self.state.step or self.state.step == 0:
            return
        with self.progress.phase("checkpoint"):
            self.writer.save(self.learner, self.state, self.plan.epoch(self.state.step))
        self.saved_step = self.state.step
        self.due.reset(self.state.step)

"""What a run says of itself in its log, for whoever reads along: by time, so it is no part of what is computed.

Everything told was already on the host: no line costs a wait for the device.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from shared.specs.training import Training
from worker import families
from worker.runners.messages import Assignment
from worker.training.learner import Array, Learner, Splits
from worker.training.reporter import Reporter

#: Seconds between two lines about epochs, at least. Too low: the log of a run of short epochs is all epochs.
LEAST = 3.0
#: As a run gets longer its lines get rarer: one in so many parts of the time it has taken. Bounds a log whatever the
#: run.
PARTS = 200
#: Seconds of silence after which a long epoch says where it is.
SILENCE = 30.0
#: Not a measure of the model, or in the progress already.
_UNSAID = frozenset({"learning_rate", "samples_per_second"})


class Pace:
    """Whether it is time for another line."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = self._asked = clock()
        self._said = float("-inf")

    def due(self, least: float = LEAST) -> bool:
        now = self._clock()
        if now - self._said < max(least, (now - self._began) / PARTS):
            return False
        self._said = now
        return True

    def seconds(self) -> float:
        """Since it began, or since this was asked last."""
        before, self._asked = self._asked, self._clock()
        return self._asked - before

    def said(self) -> None:
        self._said = self._clock()


class TrainingLog:
    """Of the training itself: epochs, and where a long one is."""

    def __init__(self, reporter: Reporter, epochs: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._reporter, self._epochs = reporter, epochs
        self._epoch_pace, self._step_pace = Pace(clock), Pace(clock)
        self._step_pace.said()
        self._unsaid = 0

    def epoch(self, number: int, values: Mapping[str, float], *, best: bool, last: bool) -> None:
        """An epoch has ended. The last one is always said."""
        taken = self._epoch_pace.seconds()
        self._step_pace.said()
        if not (self._epoch_pace.due() or last):
            self._unsaid += 1
            return
        before = f" ({self._unsaid} more since the last line)" if self._unsaid else ""
        self._unsaid = 0
        told = [measures(values), f"{taken:.1f} s", "the best so far" if best else ""]
        self.say(f"epoch {number}/{self._epochs}{before}: {', '.join(filter(None, told))}")

    def step(self, number: int, total: int, epoch: int, values: Mapping[str, float], speed: float) -> None:
        """A metric row was left."""
        if self._step_pace.due(SILENCE):
            self.say(
                f"epoch {epoch}/{self._epochs}, step {number:,}/{total:,}: {measures(values)}, {speed:,.0f} samples/s"
            )

    def say(self, message: str) -> None:
        self._reporter.log(message)


def measures(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items() if name not in _UNSAID)


# -- at the start -------------------------------------------------------------------------------------


def environment(learner: Learner, framework: str, assignment: Assignment, threads: int | None) -> str:
    """`runs on cpu with 4 threads, torch 2.13.0`"""
    device = getattr(learner, "device_name", assignment.device)
    version = getattr(sys.modules.get(framework), "__version__", "")
    with_threads = f" with {threads} thread{'s' * (threads != 1)}" if threads and assignment.device == "cpu" else ""
    return f"runs on {device}{with_threads}, {framework} {version}".rstrip()


def data(assignment: Assignment, splits: Splits) -> str:
    """`data set digits@1: 1,293 rows to train on, 144 to validate, 360 to test; 28x28x1, 10 classes`"""
    counts = [f"{splits.length:,} rows to train on"]
    counts += [
        f"{_rows(part):,} to {use}" for part, use in ((splits.validation, "validate"), (splits.test, "test")) if part
    ]
    facts = splits.facts
    shape = ["x".join(map(str, facts["image"]))] if "image" in facts else []
    shape += [f"{len(facts['classes'])} classes"] if facts.get("classes") else []
    shape += [f"vocabulary of {facts['vocabulary']:,}"] if "vocabulary" in facts else []
    shape += [f"windows of {window} tokens" for window in [(facts.get("preprocessing") or {}).get("window")] if window]
    name = assignment.dataset or assignment.spec.get("dataset") or "given"
    return f"data set {name}: {', '.join(counts)}{'; ' * bool(shape)}{', '.join(shape)}"


def _rows(part: Mapping[str, Array]) -> int:
    return max((len(array) for array in part.values()), default=0)


def model(spec: Any, facts: Mapping[str, Any]) -> str:
    """`model cnn mnist-3conv: 93,322 parameters`"""
    return f"model {spec.family} {spec.preset}: {parameters(spec, facts):,} parameters"


def parameters(spec: Any, facts: Mapping[str, Any]) -> int:
    """What is learned, by the shapes of the canonical weights: nothing is read from the device."""
    shapes = families.part(spec.family, "weights").shapes_of(spec, facts)
    return sum(math.prod(shape) for name, shape in shapes.items() if "running_" not in name)


def plan(training: Training, steps_per_epoch: int, total_steps: int) -> str:
    return (
        f"trains {training.epochs} epochs of {steps_per_epoch:,} steps ({total_steps:,} in all), batch size "
        f"{training.batch_size}, {training.optimizer} at {training.learning_rate:g}, seed {training.seed}"
    )

"""Log lines of a run, for people: rate-limited by time and independent of what is computed.

All values logged are already on the host, so that no line waits for the device.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from nightshift.families.learner import Array, Learner, Splits
from nightshift.families.summary import of_weights
from nightshift.families.training import Training
from worker.runners.messages import Assignment
from worker.training.reporter import Reporter

#: Least seconds between two lines about epochs. Too low: short epochs fill the log.
MIN_INTERVAL = 3.0
#: The interval also grows to this fraction of the elapsed time, which bounds the log of any run.
PARTS = 200
#: Seconds without a line after which progress within an epoch is logged.
STEP_INTERVAL = 30.0
#: Metrics that do not measure the model or are part of the progress.
_NOT_LOGGED = frozenset({"learning_rate", "samples_per_second"})


class Pace:
    """Rate limit of log lines."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = self._asked = clock()
        self._last_line = float("-inf")

    def due(self, interval: float = MIN_INTERVAL) -> bool:
        """Return whether a line is due, and count it as written."""
        now = self._clock()
        if now - self._last_line < max(interval, (now - self._began) / PARTS):
            return False
        self._last_line = now
        return True

    def seconds(self) -> float:
        """Return seconds since the start or the last call."""
        before, self._asked = self._asked, self._clock()
        return self._asked - before

    def reset(self) -> None:
        """Count a line as written now."""
        self._last_line = self._clock()


class TrainingLog:
    """Log of the training: epochs, and progress within long ones."""

    def __init__(self, reporter: Reporter, epochs: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._reporter, self._epochs = reporter, epochs
        self._epoch_pace, self._step_pace = Pace(clock), Pace(clock)
        self._step_pace.reset()
        self._skipped = 0

    def epoch(self, number: int, values: Mapping[str, float], *, best: bool, last: bool) -> None:
        """Log a finished epoch if a line is due. The last epoch is always logged."""
        seconds = self._epoch_pace.seconds()
        self._step_pace.reset()
        if not (self._epoch_pace.due() or last):
            self._skipped += 1
            return
        before = f" ({self._skipped} more since the last line)" if self._skipped else ""
        self._skipped = 0
        parts = [measures(values), f"{seconds:.1f} s", "the best so far" if best else ""]
        self.write(f"epoch {number}/{self._epochs}{before}: {', '.join(filter(None, parts))}")

    def step(self, number: int, total: int, epoch: int, values: Mapping[str, float], speed: float) -> None:
        """Log progress within an epoch if no line was written for a while."""
        if self._step_pace.due(STEP_INTERVAL):
            self.write(
                f"epoch {epoch}/{self._epochs}, step {number:,}/{total:,}: {measures(values)}, {speed:,.0f} samples/s"
            )

    def write(self, message: str) -> None:
        """Write a line to the job's log."""
        self._reporter.log(message)


def measures(values: Mapping[str, float]) -> str:
    """Return metrics as `name value, …`."""
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items() if name not in _NOT_LOGGED)


# -- at the start -------------------------------------------------------------------------------------


def environment(framework: str, assignment: Assignment, threads: int | None) -> str:
    """Return a line such as `runs on cpu with 4 threads, torch 2.13.0`."""
    version = getattr(sys.modules.get(framework), "__version__", "")
    with_threads = f" with {threads} thread{'s' * (threads != 1)}" if threads and assignment.device == "cpu" else ""
    return f"runs on {assignment.device}{with_threads}, {framework} {version}".rstrip()


def continued(assignment: Assignment) -> str | None:
    """Return a warning if another version of the job's package began it, or None."""
    if assignment.begun_by is None:
        return None
    return f"continues with {assignment.package} what {assignment.begun_by} began: not exact"


def regrouped(before: int, now: int) -> str | None:
    """Return a warning if the run began on another number of devices, or None."""
    return None if before == now else f"continues on {_devices(now)} what {_devices(before)} began: not exact"


def _devices(count: int) -> str:
    return f"{count} device{'s' * (count != 1)}"


def data(assignment: Assignment, splits: Splits) -> str:
    """Return a line such as `data set digits@1: 1,293 rows to train on, 144 to validate; 10 classes`."""
    counts = [f"{splits.length:,} rows to train on"]
    counts += [
        f"{_rows(part):,} to {use}" for part, use in ((splits.validation, "validate"), (splits.test, "test")) if part
    ]
    facts = splits.facts
    shape = ["x".join(map(str, facts["image"]))] if "image" in facts else []
    shape += [f"{len(facts['classes'])} classes"] if facts.get("classes") else []
    shape += [f"{len(facts['tags'])} tags"] if facts.get("tags") else []
    shape += [f"vocabulary of {facts['vocabulary']:,}"] if "vocabulary" in facts else []
    shape += [f"windows of {window} tokens" for window in [(facts.get("preprocessing") or {}).get("window")] if window]
    name = assignment.dataset or assignment.spec.get("dataset") or "given"
    return f"data set {name}: {', '.join(counts)}{'; ' * bool(shape)}{', '.join(shape)}"


def _rows(part: Mapping[str, Array]) -> int:
    return max((len(array) for array in part.values()), default=0)


def model(spec: Any, learner: Learner) -> str:
    """Return a line such as `model cnn mnist-3conv: 93,322 parameters`."""
    return f"model {spec.family} {spec.preset}: {parameters(learner):,} parameters"


def parameters(learner: Learner) -> int:
    """Return the number of parameters, without the running statistics of normalizations."""
    return sum(row.parameters for row in of_weights(learner.weights()))


def plan(training: Training, steps_per_epoch: int, total_steps: int) -> str:
    """Return a line with epochs, steps and the main hyperparameters."""
    return (
        f"trains {training.epochs} epochs of {steps_per_epoch:,} steps ({total_steps:,} in all), batch size "
        f"{training.batch_size}, {training.optimizer} at {training.learning_rate:g}, seed {training.seed}"
    )

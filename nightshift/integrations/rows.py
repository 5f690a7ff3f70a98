"""Metric rows of a training loop that reports a step more than once: at its end, and at the end of its epoch."""

from __future__ import annotations

from collections.abc import Mapping

from nightshift.programs import Run


class StepRows:
    """Collects the metrics of a step, and logs them once the step is over: one value per name, the last one."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._step, self._epoch = 0, 0
        self._values: dict[str, float] = {}
        self._logged: set[str] = set()

    def add(self, metrics: Mapping[str, float], step: int, epoch: int) -> None:
        """Add metrics of a step. A name that `flush` has logged for the step already is left out."""
        self.reach(step)
        self._epoch = epoch
        self._values |= {name: float(value) for name, value in metrics.items() if name not in self._logged}

    def reach(self, step: int) -> None:
        """Log what was collected if `step` is another one."""
        if step != self._step:
            self.flush()
            self._step, self._logged = step, set()

    def flush(self) -> None:
        """Log what was collected. Raises ValueError for a value that is not finite."""
        values, self._values = self._values, {}
        self._logged |= values.keys()
        if values:
            self._run.log(values, self._step, self._epoch)

    def forget(self) -> None:
        """Drop what was collected."""
        self._values = {}

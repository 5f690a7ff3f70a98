"""Attempts of programs in this process: the real run of a worker, and a reporter that stops or ends it at a step."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from shared.specs.jobs import job_spec_adapter
from tests.support.paths import ROOT
from worker.programs.attempt import ProgramRun
from worker.programs.checkpoint import restore
from worker.run_job import PrintingReporter, make_assignment
from worker.runners.messages import MetricPoint, Progress, Started


def documented(module: str, **mine: Any) -> Callable[[ProgramRun], Any]:
    """Return the `train` of docs/howto/own-program.md that imports a module; `mine` is what `my_package` has there."""
    text = (ROOT / "docs" / "howto" / "own-program.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    (block,) = [block for block in blocks if f"from {module} import" in block]
    package = ModuleType("my_package")
    package.__dict__.update(mine)
    names: dict[str, Any] = {}
    sys.modules["my_package"] = package  # `mock.patch.dict` would forget all that the block imports, too
    try:
        exec(compile(block, "own-program.md", "exec"), names)
    finally:
        del sys.modules["my_package"]
    train: Callable[[ProgramRun], Any] = names["train"]
    return train


class Killed(BaseException):
    """What ends an attempt as `kill -9` would: the program cannot save any more."""


class Reporter(PrintingReporter):
    """Keeps what was reported. From step `at` of the program on, it asks for `stop`, or ends the program."""

    def __init__(self, folder: Path, stop: str | None, at: int | None) -> None:
        super().__init__(folder, keep_last=100, keep_best=True)
        self._stop, self._at = stop, at
        self.steps: list[int] = []
        self.totals: set[int | None] = set()

    def progress(self, frame: Progress) -> None:
        self.totals.add(frame.total_steps)

    def stop_requested(self) -> str | None:
        return self.stop_reason

    def reached(self, step: int) -> None:
        self.steps.append(step)
        if self._at is not None and step >= self._at:
            if self._stop is None:
                raise Killed
            self.stop_reason = self._stop


class WatchedRun(ProgramRun):
    """Tells its reporter of each step, which real reports of progress leave out when they come quickly."""

    def progress(self, step: int, total_steps: int | None = None, epoch: int = 0) -> None:
        super().progress(step, total_steps, epoch)
        self._reporter.reached(step)  # type: ignore[attr-defined]


class Job:
    """A job in a folder: each `attempt` resumes from the newest checkpoint of those before it."""

    def __init__(
        self, folder: Path, train: Callable[[ProgramRun], Any], every_steps: int = 4, params: Any = None
    ) -> None:
        self.folder, self._train, self._params = folder, train, params
        self._spec = {
            "kind": "run",
            "program": "any",
            "seed": 7,
            "checkpoint": {"every_steps": every_steps, "every_seconds": None, "keep_last": 100},
        }

    def attempt(self, *, stop: str | None = None, at: int | None = None) -> Reporter:
        """Run the program until it ends, or until `at`: there it is asked to stop, or killed if `stop` is None."""
        assignment = make_assignment(self._spec, self.folder, self.folder, 1)
        reporter = Reporter(self.folder, stop, at)
        latest, damaged = restore(self.folder, assignment.resume)
        run = WatchedRun(assignment, reporter, job_spec_adapter.validate_python(self._spec), self._params, latest)
        reporter.started(
            Started(
                pid=os.getpid(),
                device="cpu",
                resumed_from=latest.point.id if latest else None,
                resumed_step=latest.step if latest else None,
                quarantined=damaged,
            )
        )
        try:
            self.result = self._train(run)
        except Killed:
            self.result = None
        return reporter

    @property
    def rows(self) -> list[MetricPoint]:
        """The metric rows, by step and name."""
        lines = (self.folder / "metrics.jsonl").read_text().splitlines()
        return sorted((MetricPoint(**json.loads(line)) for line in lines), key=lambda row: (row.step, row.name))

    def steps_of(self, name: str) -> list[int]:
        """Return the steps of the rows of a metric."""
        return [row.step for row in self.rows if row.name == name]

    @property
    def saved(self) -> list[int]:
        """The steps of the checkpoints."""
        return sorted(int(path.name.split("-")[0]) for path in (self.folder / "checkpoints").glob("[0-9]*"))

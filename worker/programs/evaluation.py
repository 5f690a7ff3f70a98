"""Evaluation of a program's models by its own function `evaluate`."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NoReturn

from shared.errors import BadData
from worker.programs.attempt import ProgramRun

#: The phase meanwhile: every message is a sign of life.
PHASE = "evaluate"

#: Most characters of an error in the reason of a promotion.
_LONGEST = 300

Evaluate = Callable[["EvaluationRun", Path], Mapping[str, float]]


class EvaluationRun:
    """The run that `evaluate` is given (`nightshift.programs.Run`): it reads and measures, and keeps nothing."""

    def __init__(self, run: ProgramRun, dataset: Path) -> None:
        self.params: Any = run.params
        self.dataset: Path | None = dataset
        self.device: Literal["cpu", "gpu"] = run.device
        self.devices, self.threads, self.seed = run.devices, run.threads, run.seed
        self.scratch = run.new_scratch()
        #: It is not stopped half-way, because a metric of a part of the data would decide wrongly.
        self.stop_reason: str | None = None
        self._run = run

    def should_stop(self) -> bool:
        """Return False."""
        return False

    def checkpoint_due(self, step: int) -> bool:
        """Return False."""
        return False

    def latest(self) -> None:
        """Return None."""
        return

    def note(self, message: str) -> None:
        """Write a line to the job's log."""
        self._run.note(message)

    def progress(self, step: int, total_steps: int | None = None, epoch: int = 0) -> None:
        """Show that the evaluation goes on."""
        self._run.alive(PHASE)

    def log(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse to record metrics."""
        self._refuse("log")

    def save(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse to write a checkpoint."""
        self._refuse("save")

    def artifact(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse to keep a file."""
        self._refuse("artifact")

    def register(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse to keep a model."""
        self._refuse("register")

    def _refuse(self, call: str) -> NoReturn:
        raise RuntimeError(f"`evaluate` only returns metrics; it cannot call run.{call}")


def score(evaluate: Evaluate, run: ProgramRun, dataset: Path, model_dir: Path, metric: str) -> float:
    """Return a metric of a model. Raises BadData if `evaluate` fails or does not return it."""
    try:
        found = {
            str(name): float(value) for name, value in dict(evaluate(EvaluationRun(run, dataset), model_dir)).items()
        }
    except MemoryError:
        raise
    except Exception as error:
        run.note(traceback.format_exc())
        raise BadData(f"{type(error).__name__}: {error}"[:_LONGEST]) from error
    if metric not in found:
        raise BadData(f"its evaluation returned no {metric}; it returned {', '.join(found) or 'nothing'}")
    return found[metric]

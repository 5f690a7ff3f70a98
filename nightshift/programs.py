"""Own training programs: what an installed package declares, and what its function is given.

A package declares a program by an entry point that leads to a `Program`:

    [project.entry-points."nightshift.programs"]
    gbm = "my_package.program:PROGRAM"

    PROGRAM = Program(name="gbm", train="my_package.training:train", params=Params)

    def train(run: Run) -> None:
        model, start = new_model(run.params), 0
        if saved := run.latest():
            model, start = load(saved.folder), saved.step
        for step in range(start + 1, run.params.steps + 1):
            run.log({"loss": model.step()}, step)
            run.progress(step, run.params.steps)
            if run.should_stop() or run.checkpoint_due(step):
                run.save(step, files={"model.bin": model.dump()})
            if run.should_stop():
                return
        run.register(model.write(run.scratch / "model"), {"test_loss": model.test()})

The module of the `Program` must import no framework: the API imports it for the parameters. `train` names the function
as text, and only the process of a job imports it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from nightshift.entry_points import check_reference
from nightshift.metrics import Metric
from nightshift.names import DATA_KINDS, FRAMEWORKS, DataKind, Framework

if TYPE_CHECKING:
    import numpy.typing as npt
    from pydantic import BaseModel

#: The group of the entry points that lead to programs.
GROUP = "nightshift.programs"

#: What a resumed run is worth: the same bits as an untouched one, a run that goes on, or a new start.
Promise = Literal["exact", "resumable", "restart"]

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,15}")
_PROMISES: tuple[Promise, ...] = ("exact", "resumable", "restart")


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A small run that `nightshift programs check` tries: a few dozen steps, each as fast as may be."""

    #: Parameters of the program.
    params: Mapping[str, Any] = field(default_factory=dict)
    #: Files of its data set; none: the built-in digits or a short text, if it reads images or text.
    files: Mapping[str, bytes | str] = field(default_factory=dict)


@dataclass(frozen=True)
class Program:
    """A training program. Raises ValueError for a field that is wrong.

    `train` is `"package.module:function"`, a function of a `Run`. `params` is a pydantic model of the settings of a
    job. `framework` selects workers that have it; None: any worker. `dataset_kinds` are the kinds of data sets
    it reads (`nightshift.names.DataKind`); empty: none. `metrics` are its own metrics by name
    (`{"r2": Metric("R²", "max")}`): their label and better side on pages and in comparisons. `evaluate` is
    `"package.module:function"`, a function of a `Run` and a model's folder that returns metrics; with it, `promote` can
    be decided by each of `metrics` that has a better side. `state_version` changes when the state in checkpoints does;
    a build continues the checkpoints of another one only if `loads` lists their state version.
    """

    name: str
    train: str
    params: type[BaseModel]
    description: str = ""
    framework: Framework | None = None
    dataset_kinds: Sequence[DataKind] = ()
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    evaluate: str | None = None
    promise: Promise = "restart"
    #: Versions of Nightshift that it runs with, as a version specifier (`>=0.1,<1`); empty: all.
    requires: str = ""
    state_version: int = 1
    loads: Sequence[int] = ()
    #: How the conformance kit tries it; None: with the defaults of its parameters.
    trial: Trial | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                f"the name of a program is at most 16 of a-z, 0-9, _ and -, beginning with a letter; not {self.name!r}"
            )
        check_reference(f"train of the program {self.name!r}", self.train)
        if self.evaluate is not None:
            check_reference(f"evaluate of the program {self.name!r}", self.evaluate)
        for name, metric in self.metrics.items():
            if not isinstance(metric, Metric):
                raise ValueError(f"the metric {name!r} of the program {self.name!r} must be a Metric, not {metric!r}")
        if self.framework not in (None, *FRAMEWORKS):
            raise ValueError(f"framework of the program {self.name!r} must be one of {', '.join(FRAMEWORKS)}, or None")
        if isinstance(self.dataset_kinds, str) or not set(self.dataset_kinds) <= set(DATA_KINDS):
            raise ValueError(
                f"dataset_kinds of the program {self.name!r} must be a list of {', '.join(DATA_KINDS)}; "
                f"it is {self.dataset_kinds!r}"
            )
        if self.promise not in _PROMISES:
            raise ValueError(f"promise of the program {self.name!r} must be one of {', '.join(_PROMISES)}")


class Checkpoint(Protocol):
    """A checkpoint whose files match their hash."""

    @property
    def step(self) -> int:
        """The step that it was saved at."""
        ...

    @property
    def folder(self) -> Path:
        """The folder with the files that were saved. Read only."""
        ...

    @property
    def facts(self) -> Mapping[str, Any]:
        """The facts that were saved."""
        ...

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays that were saved, by name."""
        ...


class Run(Protocol):
    """One attempt of a job, as its program sees it. All methods may be called from any thread."""

    params: Any
    """The job's parameters: an instance of the program's `params`."""
    dataset: Path | None
    """The folder of the pinned version of the data set; read only. None: the job names none.

    Of kind `files`: it has the user's files and nothing else. Of kind `table`: it has `table.parquet`.
    """
    device: Literal["cpu", "gpu"]
    devices: int
    """How many devices the job has. In torch each has a process of its own, in TensorFlow one process has them all."""
    threads: int
    """Threads to compute with; the libraries read the same number from the environment."""
    seed: int
    scratch: Path
    """An empty folder for temporary files; it is deleted after the job."""
    stop_reason: str | None
    """Why the run must stop: `cancel`, `finish`, `pause`, `preempt` or `drain`; None: go on."""

    def log(self, metrics: Mapping[str, float], step: int, epoch: int = 0) -> None:
        """Record metrics of a step. Raises ValueError for a value that is not finite."""
        ...

    def progress(self, step: int, total_steps: int | None = None, epoch: int = 0) -> None:
        """Report how far the run is. Call it at each step: it is cheap, and a silent run counts as stalled."""
        ...

    def note(self, message: str) -> None:
        """Write a line to the job's log."""
        ...

    def checkpoint_due(self, step: int) -> bool:
        """Return whether the job's checkpoint policy asks for a checkpoint at this step."""
        ...

    def save(
        self,
        step: int,
        *,
        files: Mapping[str, Path | bytes] | None = None,
        arrays: Mapping[str, npt.NDArray[Any]] | None = None,
        facts: Mapping[str, Any] | None = None,
        best: bool = False,
    ) -> None:
        """Write a checkpoint: files, arrays, JSON facts, or any of them. A path in `files` may be that of a folder.

        It is complete on disk, with its hash, when this returns; a later attempt gets it by `latest`. A full disk is
        logged and the run goes on. Raises ValueError for a name that is a path.
        """
        ...

    def latest(self) -> Checkpoint | None:
        """Return the newest intact checkpoint of earlier attempts, or None for a new run."""
        ...

    def should_stop(self) -> bool:
        """Return whether the run must stop at the next step; then save and return. Cheap."""
        ...

    def artifact(self, path: Path, name: str | None = None) -> None:
        """Keep a file or a folder as an artifact of the job, under its own name or `name`."""
        ...

    def register(self, folder: Path, metrics: Mapping[str, float]) -> None:
        """Keep a folder as the job's model, with the metrics that describe it; the last call counts.

        With `register_as` the model becomes a new version of that name when the job succeeds.
        """
        ...

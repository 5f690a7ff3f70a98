"""Small real jobs of a program, as its `trial` says."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from nightshift.names import RUN
from nightshift.programs import Program, Trial
from nightshift.testing import attempts
from nightshift.testing.attempts import lead_group
from nightshift.testing.conduct import Conduct
from nightshift.testing.datasets import STORES
from nightshift.testing.processes import Server
from shared.specs.jobs import job_spec_adapter
from worker import kinds
from worker.hardware.frameworks import forkserver_environment, preloads
from worker.programs.attempt import ProgramRun
from worker.run_job import PrintingReporter, make_assignment
from worker.runners.messages import Result, Started, Stopped

#: What a program without a framework is forked from.
_LIGHT = ("worker.kinds.program", "nightshift.testing.program_cases")


@dataclass(frozen=True)
class ProgramCase:
    """A small run of a program."""

    program: Program
    trial: Trial
    server: Server

    @classmethod
    def of(cls, program: Program) -> ProgramCase:
        """Return the case of a program's trial."""
        modules = (*(preloads(program.framework) if program.framework else ()), *_LIGHT)
        environment = tuple(forkserver_environment(attempts.THREADS).items())
        return cls(program, program.trial or Trial(), Server(modules, environment))

    def __str__(self) -> str:
        return self.program.name

    def spec(self, every_steps: int | None = None) -> dict[str, Any]:
        """Return the spec of a job that writes a checkpoint every so many steps."""
        body = {
            "kind": RUN,
            "program": self.program.name,
            "params": dict(self.trial.params),
            "framework": self.program.framework,
            "seed": 7,
            "checkpoint": {"every_steps": every_steps, "every_seconds": None},
        }
        return job_spec_adapter.validate_json(json.dumps(body)).model_dump(mode="json")

    def data_set(self, root: Path) -> Path | None:
        """Store the data set that the trial names. Raises ValueError if there is none for the program."""
        if self.trial.files:
            root.mkdir(parents=True, exist_ok=True)
            for name, content in self.trial.files.items():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_bytes(content if isinstance(content, bytes) else content.encode())
            return root
        if not self.program.dataset_kinds:
            return None
        for kind in self.program.dataset_kinds:
            if kind in STORES:
                return STORES[kind](root)
        kinds = " or ".join(self.program.dataset_kinds)
        raise ValueError(f"the kit has no small data set of the kind {kinds}: name its files, Trial(files=…)")

    def attempt(self, spec: dict[str, Any], folder: Path, data_set: Path | None, **how: Any) -> int | None:
        """Run an attempt and return its exit code (-9: killed); None: it took too long."""
        return attempts.run(self.server, _attempt, Order(spec, folder, data_set, **how))


@dataclass(frozen=True)
class Order:
    """An attempt of a program, as its process gets it."""

    spec: dict[str, Any]
    folder: Path
    data_set: Path | None
    #: Killed when it reports this step.
    kill_at: int | None = None
    #: Asked to pause when it reports this step.
    stop_at: int | None = None
    #: Most steps that it is given; then it ends, so that a program that ignores the request does.
    give_up_at: int | None = None


class _Reporter(PrintingReporter):
    """Kills its process group, or asks it to stop, at a step that the program reports."""

    def __init__(self, order: Order) -> None:
        super().__init__(order.folder, 2, keep_best=True)
        self.order = order
        self.steps: list[int] = []
        self.asked_after: int | None = None
        self.asked = 0
        self.resumed_step: int | None = None
        self.conduct: Conduct | None = None

    def started(self, frame: Started) -> None:
        super().started(frame)
        self.resumed_step = frame.resumed_step

    def reached(self, step: int) -> None:
        """Note a step that the program reports by `log` or `progress`."""
        if self.steps and step <= self.steps[-1]:
            return
        self.steps.append(step)
        if self.conduct is not None:
            self.conduct.sample()
        order = self.order
        if order.kill_at is not None and step >= order.kill_at:
            os.killpg(os.getpid(), signal.SIGKILL)
        if order.give_up_at is not None and step >= order.give_up_at:
            self.write()
            os._exit(IGNORED_STOP)

    def stop_requested(self) -> str | None:
        self.asked += 1
        at = self.order.stop_at
        return "pause" if at is not None and self.steps and self.steps[-1] >= at else None

    def write(self, outcome: Result | Stopped | None = None) -> None:
        """Write what was seen of the program."""
        seen = {
            "steps": self.steps,
            "asked": self.asked,
            "resumed_step": self.resumed_step,
            "type": outcome.type if outcome is not None else None,
        }
        (self.order.folder / "seen.json").write_text(json.dumps(seen))

    def _print(self, *lines: str) -> None:
        pass


#: The exit code of an attempt that went on after it was asked to stop.
IGNORED_STOP = 77


class _WatchedRun(ProgramRun):
    """Tells the reporter of each step."""

    def log(self, metrics: Mapping[str, float], step: int, epoch: int = 0) -> None:
        super().log(metrics, step, epoch)
        self._reporter.reached(step)  # type: ignore[attr-defined]

    def progress(self, step: int, total_steps: int | None = None, epoch: int = 0) -> None:
        super().progress(step, total_steps, epoch)
        self._reporter.reached(step)  # type: ignore[attr-defined]


def _attempt(order: Order) -> None:
    from worker.kinds import program

    lead_group()
    mock.patch.object(program, "ProgramRun", _WatchedRun).start()
    made = make_assignment(order.spec, order.folder, order.data_set or order.folder, attempts.THREADS)
    assignment = made if order.data_set else made.model_copy(update={"dataset_dir": None})
    reporter = _Reporter(order)
    reporter.conduct = Conduct.begin(order.folder)
    reporter.write(kinds.run(assignment, reporter))
    reporter.conduct.end()


@dataclass(frozen=True)
class Seen:
    """What was seen of an attempt of a program."""

    steps: list[int]
    asked: int
    resumed_step: int | None
    type: str | None

    @classmethod
    def of(cls, folder: Path) -> Seen:
        """Read what was recorded in a folder."""
        return cls(**json.loads((folder / "seen.json").read_text()))


@dataclass(frozen=True)
class ProgramLeft:
    """What a finished run of a program leaves: metric rows, and the hash of each artifact."""

    files: dict[str, str]
    rows: dict[tuple[str, int], float]

    @classmethod
    def of(cls, folder: Path) -> ProgramLeft:
        """Read what a run left."""
        root = folder / "artifacts"
        found = sorted(path for path in root.rglob("*") if path.is_file()) if root.exists() else []
        files = {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}
        return cls(files, attempts.rows_of(folder))

    def difference(self, other: ProgramLeft) -> str | None:
        """Return what differs in another run, in words; None: nothing."""
        if different := attempts.difference_of_rows(self.rows, other.rows):
            return different
        names = [name for name in {*self.files, *other.files} if self.files.get(name) != other.files.get(name)]
        return f"the file {min(names)}" if names else None

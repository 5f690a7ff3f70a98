"""Attempts of jobs in processes of their own, killed or stopped where a check wants, and what they leave.

Imported by the processes that attempts are forked from, so it imports no pytest.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from safetensors.numpy import load_file

from nightshift.testing import closeness, devices
from nightshift.testing.conduct import Conduct
from nightshift.testing.processes import Process, Server
from shared.jobs.checkpoint_retention import needs_all_checkpoints
from worker import kinds
from worker.run_job import PrintingReporter, make_assignment
from worker.runners.messages import Champion, Result, Stopped

#: One CPU thread: results are bitwise equal only for the same number.
THREADS = 1
#: Longest that an attempt of a small job may take; then it is killed.
ATTEMPT_SECONDS = 600
#: Metric rows of a run, few enough that checkpoints fall between two of them.
ROWS = 20
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Disturbance:
    """What happens to an attempt at the nth check for a stop request: it is killed, or asked to stop."""

    kill_after: int | None = None
    stop_after: tuple[int, str] | None = None


class KilledReporter(PrintingReporter):
    """Kills its process group with SIGKILL at the nth check for a stop request."""

    def __init__(self, folder: Path, how: Disturbance, keep_last: int = 2) -> None:
        super().__init__(folder, keep_last, keep_best=True)
        self.asked, self.how = 0, how
        self.conduct: Conduct | None = None

    def stop_requested(self) -> str | None:
        self.asked += 1
        if self.conduct is not None:
            self.conduct.sample()
        if self.asked == self.how.kill_after:
            os.killpg(os.getpid(), signal.SIGKILL)
        if self.how.stop_after and self.asked >= self.how.stop_after[0]:
            return self.how.stop_after[1]
        return None

    def _print(self, *lines: str) -> None:
        pass


@dataclass(frozen=True)
class Order:
    """An attempt of a job, as its process gets it."""

    spec: dict[str, Any]
    folder: Path
    data_set: Path
    threads: int
    how: Disturbance
    model: Path | None
    champion: Path | None
    prepare: Callable[[], None] | None
    watched: bool
    device: Literal["cpu", "gpu"]


def _attempt(order: Order) -> None:
    """Run an attempt in this process, with few metric rows."""
    from worker.training import trainer

    lead_group()
    trainer.ROWS = ROWS
    if order.prepare is not None:
        order.prepare()
    assignment = make_assignment(
        order.spec, order.folder, order.data_set, order.threads, order.model, device=order.device
    )
    keep_last = sys.maxsize if needs_all_checkpoints(order.spec["kind"]) else 2
    reporter = KilledReporter(order.folder, order.how, keep_last)
    reporter.champion_dir = order.champion
    reporter.conduct = Conduct.begin(order.folder) if order.watched else None
    outcome: Result | Stopped = kinds.run(assignment, reporter)
    (order.folder / "outcome.json").write_text(outcome.model_dump_json())
    if reporter.conduct is not None:
        reporter.conduct.end()


def lead_group() -> None:
    """Lead a process group of its own, which ends with the process that all are forked from."""
    os.setsid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def attempt(
    spec: dict[str, Any],
    folder: Path,
    data_set: Path,
    *,
    server: Server,
    threads: int = THREADS,
    kill_after: int | None = None,
    stop_after: tuple[int, str] | None = None,
    model: Path | None = None,
    champion: Path | None = None,
    prepare: Callable[[], None] | None = None,
    watched: bool = False,
) -> int | None:
    """Run an attempt of a job in `folder`, resumed if possible, and return its exit code (-9: killed).

    `model` is another job's `artifacts/model` to start from, `champion` one to compare with. `watched` records what it
    leaves behind (`Conduct`). None: it took longer than `ATTEMPT_SECONDS`.
    """
    how = Disturbance(kill_after, stop_after)
    order = Order(spec, folder, data_set, threads, how, model, champion, prepare, watched, devices.kind())
    return run(server, _attempt, order)


def run(server: Server, target: Callable[..., None], order: Any) -> int | None:
    """Run a function in a process of its own and return its exit code; None: it was killed after `ATTEMPT_SECONDS`."""
    process = Process(server, target=target, args=(order,))
    process.start()
    process.join(ATTEMPT_SECONDS)
    code = process.exitcode
    if code is None:
        process.kill()
        process.join()
    return code


@dataclass(frozen=True)
class Left:
    """The results of a finished run that a user sees."""

    model: Path = field(compare=False)
    weights_sha256: str
    rows: dict[tuple[str, int], float]  # (name, step) -> value
    figures: dict[str, float]  # of the result

    @classmethod
    def of(cls, folder: Path) -> Left:
        """Read what a run left."""
        model = folder / "artifacts" / "model" / "model.safetensors"
        sha256 = hashlib.sha256(model.read_bytes()).hexdigest()
        return cls(model, sha256, rows_of(folder), outcome(folder)["metrics"])

    def difference(self, other: Left, tolerance: float = 0.0) -> str | None:
        """Return what differs in another run by more than a tolerance, in words; None: nothing."""
        if self.weights_sha256 != other.weights_sha256 and not self._is_close(other, tolerance):
            return "the weights"
        rows = difference_of_rows(self.rows, other.rows, tolerance)
        return rows or (None if closeness.equal(self.figures, other.figures, tolerance) else "the result")

    def _is_close(self, other: Left, tolerance: float) -> bool:
        return tolerance > 0 and closeness.equal(load_file(self.model), load_file(other.model), tolerance)


def rows_of(folder: Path) -> dict[tuple[str, int], float]:
    """Return the metric rows of a run, except for its speed."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    points = [json.loads(line) for line in lines]
    rows = {(point["name"], point["step"]): point["value"] for point in points}
    assert len(rows) == len(points), "a metric row was written twice"
    return {key: 0.0 if key[0] == "samples_per_second" else value for key, value in rows.items()}


def difference_of_rows(
    one: Mapping[tuple[str, int], float], other: Mapping[tuple[str, int], float], tolerance: float = 0.0
) -> str | None:
    """Return the first metric row that differs, in words; None: all are equal."""
    for name, step in sorted({*one, *other}, key=lambda key: (key[1], key[0])):
        if not closeness.equal(one.get((name, step)), other.get((name, step)), tolerance):
            return f"the row {name} of step {step}"
    return None


def outcome(folder: Path) -> dict[str, Any]:
    """Return the result of the last attempt in a folder."""
    found: dict[str, Any] = json.loads((folder / "outcome.json").read_text())
    return found


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder."""
    return list((folder / "checkpoints").glob("[0-9]*"))


def step_of(checkpoint: Path) -> int:
    """Return the step of a checkpoint."""
    return int(checkpoint.name.split("-")[0])


class NullReporter:
    """A reporter that records, for loops that run in the process of a check."""

    def __init__(self, stops: Mapping[int, str] | None = None) -> None:
        self.frames: list[Any] = []
        self.rows: list[tuple[str, int, float]] = []
        self.asked, self.stops = -1, stops or {}
        self.phases: list[str] = []

    def started(self, frame: Any) -> None:
        self.frames.append(frame)

    progress = checkpoint = artifact = started

    def phase(self, name: str) -> None:
        self.phases.append(name)

    def metrics(self, points: Sequence[Any]) -> None:
        self.rows += [(point.name, point.step, point.value) for point in points]

    def champion(self) -> Champion:
        return Champion()

    def log(self, message: str, level: str = "info") -> None:
        self.frames.append((level, message))

    def agree(self, engine: str) -> str:
        return engine

    def stop_requested(self) -> str | None:
        self.asked += 1
        return self.stops.get(self.asked)

"""Checkpoints of a run: snapshots written by a thread during training, and restored after their hash check.

A checkpoint is `state.safetensors` (learner/…, best/…) and `state.json` (facts of the run and the learner).
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from nightshift.families.learner import Array, Learner, LearnerState
from shared.errors import CorruptCheckpoint
from shared.job_files import checkpoint_files
from shared.job_files.checkpoint_record import CheckpointRecord
from shared.specs.training import CheckpointPolicy
from worker.training.numerics.named_arrays import strip_prefix
from worker.training.reporter import Reporter
from worker.training.state import Best, Plateau, RunState
from worker.training.training_log import Pace

FORMAT = 1
ARRAYS, FACTS = "state.safetensors", "state.json"


@dataclass(frozen=True)
class Snapshot:
    """The content of a checkpoint in host memory."""

    run: Mapping[str, Any]  # `run_facts`
    learner: LearnerState
    best_weights: Mapping[str, Array] | None
    epoch: int
    is_best: bool

    @classmethod
    def of(cls, learner: Learner, run: RunState, epoch: int) -> Snapshot:
        """Take a snapshot; later steps do not change it."""
        return cls(run_facts(run), learner.state(), run.best.weights, epoch, run.best.step == run.step)

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return int(self.run["step"])


def run_facts(run: RunState) -> dict[str, Any]:
    """Return the run's state as JSON values; the best weights are stored with the arrays."""
    return {
        "step": run.step,
        "stopped_early": run.stopped_early,
        "best": {name: getattr(run.best, name) for name in ("value", "step", "stale", "trained")},
        "plateau": asdict(run.plateau),
        "row_step": run.row_step,
        "epoch_sums": dict(run.epoch_sums),
        "epoch_steps": run.epoch_steps,
        "trained": run.trained,
        "history": {name: list(rows) for name, rows in run.history.items()},
    }


def run_state(facts: Mapping[str, Any], best_weights: dict[str, Array] | None) -> RunState:
    """Return the state of `run_facts`. Facts that older versions did not save are those of a new run."""
    best, plateau = Best(**facts["best"], weights=best_weights), Plateau(**facts.get("plateau", {}))
    return RunState(**{**facts, "best": best, "plateau": plateau})


# -- writing --------------------------------------------------------------------------------------


class CheckpointWriter:
    """Writes one snapshot at a time in a thread; at most two are in memory."""

    def __init__(self, job_dir: Path, fence: int, reporter: Reporter) -> None:
        self._job_dir, self._fence, self._reporter = job_dir, fence, reporter
        self._thread: threading.Thread | None = None
        self._pace = Pace()

    def save(self, learner: Learner, run: RunState, epoch: int) -> None:
        """Start writing a snapshot. If that fails, as on a full disk, it is logged and the run goes on."""
        snapshot = Snapshot.of(learner, run, epoch)
        self.wait()
        self._thread = threading.Thread(target=self._write, args=(snapshot,), name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Wait until the snapshot is on disk and reported, or has failed."""
        if self._thread is not None:
            self._thread.join()

    @property
    def busy(self) -> bool:
        """Whether a snapshot is being written."""
        return self._thread is not None and self._thread.is_alive()

    def _write(self, snapshot: Snapshot) -> None:
        began = time.monotonic()
        try:
            saved = checkpoint_files.write(
                self._job_dir,
                step=snapshot.step,
                epoch=snapshot.epoch,
                is_best=snapshot.is_best,
                fence=self._fence,
                files=encode(snapshot, self._fence),
            )
        except OSError as error:
            self._reporter.log(f"the checkpoint of step {snapshot.step} could not be written: {error}", "error")
            return
        self._reporter.checkpoint(saved)
        if self._pace.due():
            size, taken = saved.size_bytes / 1e6, time.monotonic() - began
            self._reporter.log(f"checkpoint of step {snapshot.step:,} written: {size:.1f} MB in {taken:.1f} s")


def encode(snapshot: Snapshot, fence: int) -> dict[str, checkpoint_files.Content]:
    """Return the files of a checkpoint. `fence` makes their hash, and so the folder's name, unique per attempt."""
    arrays = {f"learner/{name}": array for name, array in snapshot.learner.arrays.items()}
    arrays |= {f"best/{name}": array for name, array in (snapshot.best_weights or {}).items()}
    facts = {
        "format": FORMAT,
        "fence": fence,
        "run": dict(snapshot.run),
        "learner": dict(snapshot.learner.facts),
        "has_best": snapshot.best_weights is not None,
    }
    return {ARRAYS: safetensors(arrays), FACTS: [json.dumps(facts, sort_keys=True).encode()]}


_DTYPES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8",
    "uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8", "bool": "BOOL",
}  # fmt: skip


def safetensors(arrays: Mapping[str, Array]) -> Iterable[bytes | memoryview]:
    """Yield the safetensors format as views of the arrays, without a copy.

    The library builds one byte string, which needs memory for a second model and blocks the training thread.
    """
    header: dict[str, Any] = {}
    end = 0
    for name, array in arrays.items():
        start, end = end, end + array.nbytes
        header[name] = {"dtype": _DTYPES[array.dtype.name], "shape": list(array.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for array in arrays.values():
        yield np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


# -- reading --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Restored:
    """A run read from a checkpoint."""

    point: CheckpointRecord
    run: RunState
    learner: LearnerState

    @property
    def threads(self) -> int | None:
        """CPU threads the run began with, which it keeps on any worker."""
        found = self.learner.facts.get("threads")
        return int(found) if found is not None else None

    @property
    def devices(self) -> int:
        """Devices that wrote it together."""
        return int(self.learner.facts.get("devices", 1))


def restore(job_dir: Path, points: Iterable[CheckpointRecord]) -> tuple[Restored | None, list[str]]:
    """Return the first of `points` (newest first) that passes its hash check, and the ids of damaged ones."""
    damaged: list[str] = []
    for point in points:
        try:
            checkpoint_files.verify(job_dir / point.path, point.sha256)
            return read(job_dir, point), damaged
        except CorruptCheckpoint:
            damaged.append(point.id)
    return None, damaged


def read(job_dir: Path, point: CheckpointRecord) -> Restored:
    """Read a checkpoint. Raises CorruptCheckpoint if it has another format."""
    folder = job_dir / point.path
    facts = json.loads((folder / FACTS).read_text())
    if facts["format"] != FORMAT:
        raise CorruptCheckpoint(point.path, f"its format is {facts['format']}, this version reads {FORMAT}")
    arrays = load_file(folder / ARRAYS)
    best = strip_prefix(arrays, "best/") if facts["has_best"] else None
    learner = LearnerState(strip_prefix(arrays, "learner/"), facts["learner"])
    return Restored(point, run_state(facts["run"], best), learner)


# -- schedule -------------------------------------------------------------------------------------


class CheckpointSchedule:
    """Tells whether a checkpoint is due, by steps or seconds since the last one."""

    def __init__(self, policy: CheckpointPolicy, step: int) -> None:
        self._policy, self._step, self._at = policy, step, time.monotonic()

    def __call__(self, step: int) -> bool:
        """Return whether a checkpoint is due at this step."""
        every_steps, every_seconds = self._policy.every_steps, self._policy.every_seconds
        return (every_steps is not None and step - self._step >= every_steps) or (
            every_seconds is not None and time.monotonic() - self._at >= every_seconds
        )

    def reset(self, step: int) -> None:
        """Note a checkpoint at this step."""
        self._step, self._at = step, time.monotonic()

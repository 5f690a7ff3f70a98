"""Cost of checkpoints in a training loop: without, written beside training (ours), and written while training waits.

    python -m benchmarks.bench_checkpoints [--rounds 3] [--steps 12] [--every 6] [--batch-size 16] [--threads 1]

The three variants are interleaved, with the language model `gru-2x512` and Adam. Checkpoints are real: snapshot, hash,
fsync, rename. `stalls`: time per checkpoint in which no step could run. Bias: one checkpoint every few steps is far
more than in practice (the default is one a minute), so `slower` is an upper bound; `a minute` is the stall's share at
the default.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.bench_gru import make_windows
from nightshift.families.learner import Learner, LearnerSetup
from nightshift.families.training import Training
from shared.job_files.checkpoint_record import CheckpointRecord
from worker.families import load
from worker.families.gru_lm.family import GruLmModel
from worker.training.checkpoints import CheckpointWriter
from worker.training.state import RunState

WAYS = ("none", "beside", "waiting")


class StubReporter:
    """The methods of a reporter that a checkpoint needs."""

    def __init__(self) -> None:
        self.saved: list[CheckpointRecord] = []

    def checkpoint(self, frame: CheckpointRecord) -> None:
        self.saved.append(frame)

    def log(self, message: str, level: str = "info") -> None:
        raise RuntimeError(message)


def measure(learner: Learner, windows: int, given: argparse.Namespace, way: str) -> tuple[float, list[float], int]:
    """Return (seconds per step, stalls in seconds, bytes of a checkpoint)."""
    draw, stalls, reporter = np.random.default_rng(0), [], StubReporter()
    with tempfile.TemporaryDirectory(prefix="nightshift-bench-") as folder:
        writer = CheckpointWriter(Path(folder), 1, reporter)  # type: ignore[arg-type]
        begun = time.perf_counter()
        for step in range(1, given.steps + 1):
            learner.train_step(draw.integers(0, windows, given.batch_size), step)
            learner.read_metrics()
            if way != "none" and step % given.every == 0:
                stalls.append(_save(learner, writer, step, way))
        took = time.perf_counter() - begun
        writer.wait()
    return took / given.steps, stalls, max((frame.size_bytes for frame in reporter.saved), default=0)


def _save(learner: Learner, writer: CheckpointWriter, step: int, way: str) -> float:
    begun = time.perf_counter()
    writer.save(learner, RunState(step=step), 1)
    if way == "waiting":
        writer.wait()
    return time.perf_counter() - begun


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_checkpoints", description=__doc__)
    for name, default in (("rounds", 3), ("steps", 12), ("every", 6), ("batch-size", 16), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args(argv)
    model = GruLmModel.model_validate({"family": "gru_lm", "preset": "gru-2x512"})
    windows = make_windows(model, 256)
    setup = LearnerSetup(
        model,
        Training(batch_size=given.batch_size),
        10_000,
        "cpu",
        given.threads,
        {"vocabulary": model.vocabulary_size},
    )
    learner = load("gru_lm", "torch")(setup)
    learner.set_data({"windows": windows})
    measure(learner, len(windows), given, "none")  # warm
    steps: dict[str, list[float]] = {way: [] for way in WAYS}
    stalls: dict[str, list[float]] = {way: [] for way in WAYS}
    size = 0
    for _ in range(given.rounds):
        for way in WAYS:
            step, stalled, found = measure(learner, len(windows), given, way)
            steps[way].append(step)
            stalls[way] += stalled
            size = max(size, found)
    print(f"a checkpoint is {size / 1e6:.0f} MB, one every {given.every} steps")
    print(f"{'checkpoints':<12} {'ms a step':>10} {'spread':>16} {'slower':>8} {'stall ms':>9} {'a minute':>9}")
    plain = statistics.median(steps["none"])
    for way in WAYS:
        middle = statistics.median(steps[way])
        stall = statistics.median(stalls[way]) if stalls[way] else 0.0
        spread = f"{1000 * min(steps[way]):.0f} to {1000 * max(steps[way]):.0f}"
        print(
            f"{way:<12} {1000 * middle:>10.0f} {spread:>16} {middle / plain - 1:>8.1%} {1000 * stall:>9.0f} "
            f"{stall / 60:>9.2%}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Sweeps on the digits: TPE against random search with as many trials, and the share of steps that pruning saves.

    python -m benchmarks.bench_sweep [--seeds 10] [--trials 40] [--pruner asha]

The sweep is the real one: the sweeper asks Optuna, starts trials as jobs, prunes and ends them. The jobs are claimed,
trained by the runner's own code and settled in this process, one after the other, and after each point of its curve the
sweeper looks at it. There are three sweeps for each seed: `random`, `tpe`, and `tpe` with the pruner. Values are the
lowest loss on the test part; the steps saved are a share of those that the same trials would have done unpruned.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.__main__ import machine
from nightshift.testing.attempts import NullReporter
from shared.datasets.builtins import digits
from shared.datasets.ingest.build import store_images
from shared.db.engine import make_engine, write
from shared.errors import NonFiniteLoss
from shared.jobs import transitions
from shared.jobs.states import AttemptOutcome
from shared.jobs.transitions import Claimed, MetricRow
from shared.settings import Settings
from tests.support import databases
from tests.support.factories import make_claimer
from tests.support.sweeps import make_sweep, sweep_of, trials_of
from tests.support.unpainted import leave_plots_blank
from worker import kinds
from worker.maintenance import sweeper
from worker.run_job import make_assignment
from worker.runners.messages import MetricPoint, Progress, Result, Started

EPOCHS = 9
JOB: dict[str, Any] = {
    "model": {"family": "cnn", "preset": "mnist-1conv-linear", "image_size": [8, 8], "filters": [8]},
    "training": {"epochs": EPOCHS, "validation_split": 0.2},
    "checkpoint": {"every_seconds": None},
}
SPACE = {
    "training.learning_rate": {"low": 0.00001, "high": 1.0, "log": True},
    "training.batch_size": {"choices": [32, 64, 128, 256]},
    "training.optimizer": {"choices": ["sgd", "adam", "rmsprop"]},
    "training.momentum": {"low": 0.0, "high": 0.99, "when": {"training.optimizer": "sgd"}},
    "training.weight_decay": {"low": 0.000001, "high": 0.1, "log": True},
    "model.filters": {"choices": [[4], [8], [16]]},
    "model.dropout": {"low": 0.0, "high": 0.8},
}
WATCHED, OBJECTIVE = "val_loss", "test_loss"


class SweptReporter(NullReporter):
    """Writes the curve that the pruner watches, and lets the sweeper look at each of its points."""

    def __init__(self, bench: Bench, claimed: Claimed) -> None:
        super().__init__()
        self._bench, self._claimed = bench, claimed
        self._request: str | None = None

    def started(self, frame: Started) -> None:
        self.total = frame.total_steps or 0

    def progress(self, frame: Progress) -> None:
        return None

    def metrics(self, points: Sequence[MetricPoint]) -> None:
        mine = [MetricRow(one.name, one.step, one.epoch, one.value) for one in points if one.name == WATCHED]
        if mine:
            with write(self._bench.engine) as conn:
                transitions.record(conn, self._claimed.lease, metrics=mine)
            sweeper.run_once(self._bench.engine, self._bench.settings)
            with write(self._bench.engine) as conn:
                self._request = transitions.renew(conn, self._claimed.lease).stop_requested

    def stop_requested(self) -> str | None:
        return self._request


class Bench:
    """A database in which this process is both maintenance and worker."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.settings = folder, Settings(data_dir=folder / "data")
        self.engine = make_engine(databases.sqlite_database(folder, databases.make_sqlite_template(folder)))
        self.data_set = store_images(folder / "datasets", digits()).folder
        #: Steps of the present sweep's jobs that did not fail: done, and without a pruner.
        self.done = self.whole = 0

    def run(self, options: argparse.Namespace, seed: int, sampler: str, pruner: str) -> tuple[float, int]:
        """Run a sweep; return its best loss, and how many of its trials were pruned."""
        self.done = self.whole = 0
        sweep_id = make_sweep(
            self.engine,
            job=JOB,
            space=SPACE,
            seed=seed,
            sampler=sampler,
            trials=options.trials,
            concurrency=1,
            pruner={"name": pruner},
            objective={"metric": OBJECTIVE},
            curve={"metric": WATCHED, "direction": "min"},
        )
        while sweep_of(self.engine, sweep_id).finished_at is None:
            sweeper.run_once(self.engine, self.settings)
            self._work()
        trials = trials_of(self.engine, sweep_id)
        assert [trial.number for trial in trials] == list(range(options.trials))
        best = sweep_of(self.engine, sweep_id).best
        pruned = sum(trial.state == "pruned" for trial in trials)
        return trials[best].value, pruned

    def _work(self) -> None:
        with write(self.engine) as conn:
            claimed = transitions.claim(conn, make_claimer(), 3600.0)
        if claimed is None:
            return
        folder = self.folder / claimed.lease.job_id
        reporter = SweptReporter(self, claimed)
        try:
            result = kinds.run(make_assignment(claimed.spec, folder, self.data_set, 1), reporter)
        except NonFiniteLoss as error:  # a learning rate that is too high
            told = {"type": error.type, "message": str(error), "retryable": False}
            with write(self.engine) as conn:
                transitions.fail(conn, claimed.lease, outcome=AttemptOutcome.JOB_ERROR, error=told)
        else:
            assert isinstance(result, Result)
            with write(self.engine) as conn:
                transitions.record(conn, claimed.lease, progress={"step": result.step})
                transitions.succeed(conn, claimed.lease, result={"metrics": result.metrics}, artifacts=[])
            self.done, self.whole = self.done + result.step, self.whole + reporter.total
        shutil.rmtree(folder)

    def close(self) -> None:
        self.engine.dispose()


def compare(bench: Bench, options: argparse.Namespace) -> None:
    """Print a row for each seed, and the means."""
    print("| seed | best of random | best of tpe | tpe, pruned | trials pruned | steps saved |")
    print("|---:|---:|---:|---:|---:|---:|", flush=True)
    rows = []
    for seed in range(1, options.seeds + 1):
        chance, _ = bench.run(options, seed, "random", "none")
        learnt, _ = bench.run(options, seed, "tpe", "none")
        early, pruned = bench.run(options, seed, "tpe", options.pruner)
        rows.append((chance, learnt, early, 1 - bench.done / bench.whole))
        print(f"| {seed} | {chance:.4f} | {learnt:.4f} | {early:.4f} | {pruned} | {rows[-1][3]:.0%} |", flush=True)
    means = [statistics.mean(column) for column in zip(*rows, strict=True)]
    print(f"| mean | {means[0]:.4f} | {means[1]:.4f} | {means[2]:.4f} | | {means[3]:.0%} |")
    better = sum(row[1] < row[0] for row in rows)
    print(f"\ntpe is better than random with {better} of {len(rows)} seeds")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--pruner", default="asha", choices=["asha", "median"])
    options = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        leave_plots_blank()
        bench = Bench(Path(folder))
        try:
            compare(bench, options)
        finally:
            bench.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())

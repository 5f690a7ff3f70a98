"""Sweeps on the digits: TPE against random search with as many trials, and the share of steps that pruning saves.

    python -m benchmarks.bench_sweep [--seeds 10] [--trials 40] [--pruner asha] [--workers 2]

Each sweep is the real one: maintenance asks Optuna, the runners of a worker train a small CNN, and pruning asks jobs to
finish. There are three sweeps for each seed: `random`, `tpe`, and `tpe` with the pruner. Values are the lowest loss on
the test part; steps are those that the jobs have done.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.__main__ import machine
from shared.datasets import registry
from shared.db.engine import make_engine
from shared.settings import Settings
from tests.support import databases
from tests.support.lone_worker import LoneWorker
from tests.support.sweeps import make_sweep, sweep_of, trials_of
from worker.maintenance import sweeper

EPOCHS = 9
JOB: dict[str, Any] = {
    "model": {"family": "cnn", "preset": "mnist-1conv-linear", "image_size": [8, 8], "filters": [8]},
    "training": {"epochs": EPOCHS, "batch_size": 64, "validation_split": 0.2},
}
SPACE = {
    "training.learning_rate": {"low": 0.00001, "high": 1.0, "log": True},
    "training.optimizer": {"choices": ["sgd", "adam", "rmsprop"]},
    "training.momentum": {"low": 0.0, "high": 0.99, "when": {"training.optimizer": "sgd"}},
    "training.weight_decay": {"low": 0.000001, "high": 0.1, "log": True},
    "model.dropout": {"low": 0.0, "high": 0.8},
}


class Bench:
    """A database and workers that run one sweep after the other."""

    def __init__(self, folder: Path, workers: int) -> None:
        self.settings = Settings(data_dir=folder / "data")
        template = databases.make_sqlite_template(folder)
        self.url = databases.sqlite_database(folder, template)
        self.engine = make_engine(self.url)
        registry.ensure_builtin(self.engine, self.settings, "digits")
        self.workers = [LoneWorker(f"cpu{place}@bench", self.url, folder / "data") for place in range(workers)]

    def run(self, options: argparse.Namespace, seed: int, sampler: str, pruner: str) -> tuple[float, int, int]:
        """Run a sweep; return its best loss, the steps of its trials, and how many were pruned."""
        sweep_id = make_sweep(
            self.engine,
            job=JOB,
            space=SPACE,
            seed=seed,
            sampler=sampler,
            trials=options.trials,
            concurrency=options.workers,
            pruner={"name": pruner},
            objective={"metric": "test_loss"},
        )
        while sweep_of(self.engine, sweep_id).finished_at is None:
            sweeper.run_once(self.engine, self.settings)
            for worker in self.workers:
                if worker.done():
                    worker.start()
            time.sleep(0.05)
        trials = trials_of(self.engine, sweep_id)
        assert [trial.number for trial in trials] == list(range(options.trials))
        best = sweep_of(self.engine, sweep_id).best
        pruned = sum(trial.state == "pruned" for trial in trials)
        return trials[best].value, sum(trial.steps or 0 for trial in trials), pruned

    def close(self) -> None:
        for worker in self.workers:
            worker.close()
        self.engine.dispose()


def compare(bench: Bench, options: argparse.Namespace) -> None:
    """Print a row for each seed, and the means."""
    print("| seed | best of random | best of tpe | tpe, pruned | trials pruned | steps saved |")
    print("|---:|---:|---:|---:|---:|---:|", flush=True)
    rows = []
    for seed in range(1, options.seeds + 1):
        chance, _, _ = bench.run(options, seed, "random", "none")
        learnt, steps, _ = bench.run(options, seed, "tpe", "none")
        early, fewer, pruned = bench.run(options, seed, "tpe", options.pruner)
        rows.append((chance, learnt, early, 1 - fewer / steps))
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
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), options.workers)
        try:
            compare(bench, options)
        finally:
            bench.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())

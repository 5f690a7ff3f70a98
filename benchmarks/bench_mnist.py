"""From process start to 99 % on MNIST: `mnist-fast` as our job, and the listing as a plain Keras script.

    python -m benchmarks.bench_mnist [--data FOLDER] [--rows 60000] [--seeds 3] [--threads 2] [--accuracy 0.99]

The script looks at its accuracy on the test part after each epoch and stops when it is high enough. Our job is
`python -m worker.run_job`, which trains as long as the preset says; a run that stays below the accuracy is counted and
shown. Both include imports and reading the data; ours also metric rows, checkpoints, evaluation and figures. The sides
take turns, one process at a time. FOLDER (`NIGHTSHIFT_DATASETS_DIR`) holds `mnist/` (the four IDX files).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.__main__ import MISSING
from benchmarks.bench_listings import SIDES, Ended, Listing, classifier, keras, ours
from benchmarks.listings_data import first_rows
from benchmarks.stored import store
from shared.datasets.store import open_dataset

PRESET, SCRIPT = "mnist-fast", "until_accurate"


def prepared(given: argparse.Namespace, work: Path) -> tuple[Listing, Listing]:
    """Return the listing of the script and that of our job. Raises FileNotFoundError."""
    stored = store(first_rows(Path(given.data) / "mnist", given.rows, work), work / "datasets")
    job = classifier(PRESET, stored, work)
    labels = np.asarray(open_dataset(stored).y("test"))
    arrays = work / "with-labels.npz"
    with np.load(job.arrays) as found:
        np.savez(arrays, **dict(found), y_test=labels)
    script = Listing("cnn", "mnist-3conv", SCRIPT, stored, arrays, job.judge, (str(given.accuracy),))
    return script, job


def measure(script: Listing, job: Listing, given: argparse.Namespace, work: Path) -> dict[str, list[Ended]]:
    """Run every side with every seed, each seed in another order."""
    found: dict[str, list[Ended]] = {side: [] for side in SIDES}
    for seed in range(given.seeds):
        for side in (*SIDES[seed % 3 :], *SIDES[: seed % 3]):
            is_script = side == "keras"
            ended = (
                keras(script, seed, work, given.threads) if is_script else ours(job, seed, work, given.threads, side)
            )
            found[side].append(ended)
            print(f"{side} {seed}: {ended.seconds:.1f} s, {json.dumps(ended.figures)}", file=sys.stderr, flush=True)
    return found


def told(found: dict[str, list[Ended]], accuracy: float) -> list[str]:
    """Return a row for each side."""
    rows = ["| side | test accuracy | reached | wall s | ratio | cpu s |", "|---|---|---|---|---|---|"]
    for side, runs in found.items():
        reached = [run.figures["test_accuracy"] for run in runs]
        ratios = [run.seconds / rival.seconds for run, rival in zip(runs, found["keras"], strict=True)]
        rows.append(
            f"| {side} | {statistics.mean(reached):.4f} ({min(reached):.4f} to {max(reached):.4f}) | "
            f"{sum(value >= accuracy for value in reached)} of {len(runs)} | "
            f"{statistics.median(run.seconds for run in runs):.1f} | "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) | "
            f"{statistics.median(run.cpu for run in runs):.1f} |"
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", default=os.environ.get("NIGHTSHIFT_DATASETS_DIR", "."))
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--accuracy", type=float, default=0.99)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        try:
            script, job = prepared(given, Path(work))
        except FileNotFoundError as error:
            print(f"no data: {error}")
            sys.exit(MISSING)
        print("\n".join(told(measure(script, job, given, Path(work)), given.accuracy)))


if __name__ == "__main__":
    main()

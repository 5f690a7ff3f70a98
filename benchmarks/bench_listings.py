"""The listings as printed, ours and as plain Keras scripts, each in a process of its own: test figures and wall time.

    python -m benchmarks.bench_listings [LISTING …] [--data FOLDER] [--rows 12000] [--seeds 3] [--threads 2]
        [--through process]

Both sides read the same rows, hold the same rows out and are judged on the same test part by the same code; ours has
the preset's own settings, in torch and in TensorFlow. The sides take turns, one at a time, each seed in another order.

A script's time is that of its process: imports, data, training, test part. Ours is what a user waits for, from the
submission to a running service (`nightshift up`, which has run a job of each framework before and idles meanwhile)
until the job has succeeded; with `--through process`, that of a process `python -m worker.run_job`, imports included.
Both also write metric rows and checkpoints, evaluate and draw. Registering the data set is not in it, nor what is made
once per data set for a GAN's scores: the feature extractor and the features of real images. On a machine that does
something else, too, processor time is the figure to trust, and `--threads 1`: threads that wait for each other lose
more than they gain.

FOLDER (`NIGHTSHIFT_DATASETS_DIR`) holds `mnist/` (the four IDX files), `cifar10*/` (its binary files, whose cats and
dogs are scaled up) and `wikitext2/` (three `.tokens.gz` files). A listing without its data is left out with a word.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.listings_data import cats_and_dogs, first_rows, first_tokens
from benchmarks.measured_stack import MeasuredStack
from benchmarks.stored import store
from nightshift import Client
from nightshift.families.learner import Array
from shared.datasets.store import open_dataset
from shared.specs.jobs import job_spec_adapter
from worker import families
from worker.training.classification.evaluation import evaluate

SIDES = ("keras", "torch", "tensorflow")
Figures = dict[str, float]


@dataclass(frozen=True)
class Listing:
    """A listing with what both sides need."""

    family: str
    preset: str
    script: str
    #: The stored data set and, as the script reads them, its arrays.
    data_set: Path
    arrays: Path
    #: The figures of the script's output.
    judge: Callable[[Mapping[str, Array]], Figures]
    #: Further arguments of the script.
    arguments: tuple[str, ...] = ()
    #: What the data set was stored from.
    source: Path = Path()


@dataclass(frozen=True)
class Ended:
    """A run that ended: its wall time, its processor time on all cores, and its figures."""

    seconds: float
    cpu: float
    figures: Figures


# -- the listings ---------------------------------------------------------------------------------


def spec(family: str, preset: str, framework: str, seed: int) -> dict[str, Any]:
    model = {"family": family, "preset": preset, "framework": framework}
    return {"kind": "train", "model": model, "dataset": "listing", "training": {"seed": seed}}


def splits_of(family: str, preset: str, data_set: Path) -> Any:
    """Return the splits of our job, whose rows the script gets."""
    job: Any = job_spec_adapter.validate_python(spec(family, preset, "torch", 0))
    return families.part(family, "load_splits")(data_set, job.model, job.training)


def classifier(preset: str, data_set: Path, work: Path) -> Listing:
    splits = splits_of("cnn", preset, data_set)
    rows = slice(None) if splits.rows is None else splits.rows
    arrays = {"x_train": splits.train["x"][rows], "y_train": splits.train["y"][rows], "x_test": splits.test["x"]}
    if splits.validation is not None:
        arrays |= {"x_valid": splits.validation["x"], "y_valid": splits.validation["y"]}
    classes, labels = list(splits.facts["classes"]), np.asarray(splits.test["y"])

    def judge(found: Mapping[str, Array]) -> Figures:
        return evaluate(found["probabilities"], labels, classes).metrics

    return Listing("cnn", preset, "images", data_set, _saved(work / f"{preset}.npz", arrays), judge, (preset,))


def language_model(preset: str, data_set: Path, work: Path) -> Listing:
    splits = splits_of("gru_lm", preset, data_set)
    train = np.concatenate([splits.train["windows"], splits.validation["windows"]])  # Keras holds the end out, too
    arrays = {"train": train, "test": splits.test["windows"], "vocabulary": np.array(splits.facts["vocabulary"])}

    def judge(found: Mapping[str, Array]) -> Figures:
        return {"test_perplexity": float(found["perplexity"])}

    return Listing("gru_lm", preset, "language_model", data_set, _saved(work / f"{preset}.npz", arrays), judge)


def adversarial(preset: str, data_set: Path, work: Path) -> Listing:
    from worker.families.gan.feature_extractor import load_extractor
    from worker.families.gan.reference import MAX_SCORED, spread
    from worker.families.gan.scores import frechet_distance

    splits = splits_of("gan", preset, data_set)
    extractor = load_extractor(splits, "torch", "cpu")
    assert extractor is not None
    real = extractor.features(spread(splits.test["x"], MAX_SCORED))
    rows = slice(None) if splits.rows is None else splits.rows
    job: Any = job_spec_adapter.validate_python(spec("gan", preset, "torch", 0))
    numbers = (job.training.batch_size, job.training.epochs, len(real))

    def judge(found: Mapping[str, Array]) -> Figures:
        return {"frechet_distance": frechet_distance(real, extractor.features(found["samples"]))}

    arrays = _saved(work / f"gan-{preset}.npz", {"x_train": splits.train["x"][rows]})
    return Listing("gan", preset, "adversarial", data_set, arrays, judge, tuple(map(str, numbers)))


def _saved(path: Path, arrays: Mapping[str, Array]) -> Path:
    np.savez(path, **arrays)
    return path


MNIST = ("mnist-3conv", "mnist-2conv", "mnist-1conv", "mnist-1conv-linear")
LISTINGS = (*MNIST, "cats-vs-dogs", "gru-2x512", "dense")


def prepared(name: str, given: argparse.Namespace, work: Path) -> Listing:
    """Return a listing with its data stored in `work`. Raises FileNotFoundError."""
    folder, root = Path(given.data), work / "datasets"
    if name == "cats-vs-dogs":
        source, made = cats_and_dogs(folder, given.pictures, work), classifier
    elif name == "gru-2x512":
        source, made = first_tokens(folder / "wikitext2", given.tokens, work), language_model
    else:
        source, made = first_rows(folder / "mnist", given.rows, work), adversarial if name == "dense" else classifier
    return replace(made(name, store(source, root), work), source=source)


# -- running --------------------------------------------------------------------------------------


def keras(listing: Listing, seed: int, work: Path, threads: int) -> Ended:
    out = work / f"{listing.preset}-keras-{seed}.npz"
    module = f"benchmarks.listings.{listing.script}"
    command = [sys.executable, "-m", module, str(listing.arrays), str(out), str(seed), *listing.arguments]
    limits = {"TF_NUM_INTRAOP_THREADS": threads, "TF_NUM_INTEROP_THREADS": threads, "OMP_NUM_THREADS": threads}
    seconds, cpu, _ = timed(command, {name: str(limit) for name, limit in limits.items()})
    with np.load(out) as found:
        return Ended(seconds, cpu, listing.judge(dict(found)))


def ours(listing: Listing, seed: int, work: Path, threads: int, framework: str) -> Ended:
    folder = work / f"{listing.preset}-{framework}-{seed}"
    folder.mkdir()
    (folder / "spec.json").write_text(json.dumps(spec(listing.family, listing.preset, framework, seed)))
    command = [sys.executable, "-m", "worker.run_job", str(folder / "spec.json"), str(folder)]
    command += ["--data-set", str(listing.data_set), "--threads", str(threads)]
    seconds, cpu, printed = timed(command, {})
    return Ended(seconds, cpu, json.loads(printed[printed.rindex("\n{") :])["metrics"])


class Service:
    """A running service; the other side of a comparison runs while it idles."""

    def __init__(self, stack: MeasuredStack) -> None:
        self.stack = stack
        key = stack.client.headers["Authorization"].removeprefix("Bearer ")
        self.client = Client(str(stack.client.base_url), key)
        for framework in SIDES[1:]:
            stack.first_step_seconds(framework)

    def register(self, listing: Listing) -> None:
        """Register a listing's data set, and have the GAN's extractor trained."""
        self.client.add_dataset(listing.preset, listing.source)
        if listing.family == "gan":
            for framework in SIDES[1:]:
                self.client.submit(_job(listing, framework, 0) | {"training": {"max_steps": 1}}).wait()

    def run(self, listing: Listing, seed: int, work: Path, threads: int, framework: str) -> Ended:
        """Run a listing as a job; `work` and `threads` are those of the service."""
        self.stack.settle(1.0)
        before, began = self.stack.processor_seconds(), time.monotonic()
        job = self.client.submit(_job(listing, framework, seed)).wait(patience=7200.0)
        seconds = time.monotonic() - began
        assert job.result is not None
        return Ended(seconds, self.stack.processor_seconds() - before, dict(job.result["metrics"]))


def _job(listing: Listing, framework: str, seed: int) -> dict[str, Any]:
    """Return the spec of a listing whose data set is registered under its preset's name."""
    return spec(listing.family, listing.preset, framework, seed) | {"dataset": listing.preset}


@contextmanager
def running_service(work: Path, threads: int) -> Iterator[Service]:
    stack = MeasuredStack(Path(__file__).parents[1], work, torch_threads=threads)
    try:
        yield Service(stack)
    finally:
        stack.stop()


def timed(command: list[str], environment: Mapping[str, str]) -> tuple[float, float, str]:
    """Run a command; return its wall time, its processor time and what it printed."""
    settings = {"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ, **environment}
    began, before = time.monotonic(), _processor_time()
    ended = subprocess.run(command, env=settings, check=False, capture_output=True, text=True)
    seconds = time.monotonic() - began
    if ended.returncode:
        raise SystemExit(f"{' '.join(command)}: {ended.stderr[-2000:]}")
    return seconds, _processor_time() - before, ended.stdout


def _processor_time() -> float:
    """Return the processor time of the processes that this one started and that ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(
    listing: Listing, seeds: int, work: Path, threads: int, job: Callable[..., Ended] = ours
) -> dict[str, list[Ended]]:
    """Run every side with every seed, each seed in another order; `job` runs ours."""
    found: dict[str, list[Ended]] = {side: [] for side in SIDES}
    for seed in range(seeds):
        for side in (*SIDES[seed % 3 :], *SIDES[: seed % 3]):
            run = keras if side == "keras" else partial(job, framework=side)
            found[side].append(ended := run(listing, seed=seed, work=work, threads=threads))
            told_of = f"{listing.preset} {side} {seed}: {ended.seconds:.1f} s, {ended.cpu:.1f} s of processors"
            print(told_of, json.dumps(ended.figures), file=sys.stderr, flush=True)
    return found


# -- telling --------------------------------------------------------------------------------------

#: The figures of a table, of those that a listing has.
SHOWN = ("test_accuracy", "test_loss", "auc_macro_ovr", "test_perplexity", "frechet_distance")


def told(found: Mapping[str, list[Ended]]) -> list[str]:
    """Return a row for each side: its figures as mean (lowest to highest), its times and their ratios to Keras'."""
    shown = [name for name in SHOWN if name in found["keras"][0].figures]
    columns = ["side", *shown, "wall s", "ratio", "cpu s", "ratio"]
    rows = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for side, runs in found.items():
        cells = [_spread([run.figures[name] for run in runs]) for name in shown]
        for time_of in (attrgetter("seconds"), attrgetter("cpu")):
            ratios = sorted(time_of(run) / time_of(rival) for run, rival in zip(runs, found["keras"], strict=True))
            cells.append(f"{statistics.median(map(time_of, runs)):.1f}")
            of_keras = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
            cells.append("" if side == "keras" else of_keras)
        rows.append(f"| {side} | {' | '.join(cells)} |")
    return rows


def _spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.4g} ({min(values):.4g} to {max(values):.4g})"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("listings", nargs="*", metavar="LISTING", help=f"of {', '.join(LISTINGS)}; all by default")
    parser.add_argument("--data", default=os.environ.get("NIGHTSHIFT_DATASETS_DIR", "."))
    parser.add_argument("--rows", type=int, default=12_000, help="digits of the training part; all 10,000 are tested")
    parser.add_argument("--pictures", type=int, default=240, help="cats and dogs of the training part")
    parser.add_argument("--tokens", type=int, default=24_000, help="tokens of the training text")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--through", choices=("service", "process"), default="service", help="what runs our jobs")
    given = parser.parse_args()
    if unknown := set(given.listings) - set(LISTINGS):
        parser.error(f"no listing called {', '.join(sorted(unknown))}; there are {', '.join(LISTINGS)}")
    print(
        f"{given.rows:,} digits, {given.pictures} pictures, {given.tokens:,} tokens; {given.seeds} seeds, "
        f"{given.threads} threads; figures: mean (lowest to highest); times: median; ratios to keras: median (range)"
    )
    with tempfile.TemporaryDirectory() as work, _service(given, Path(work)) as service:
        for name in given.listings or LISTINGS:
            try:
                listing = prepared(name, given, Path(work))
            except FileNotFoundError as error:
                print(f"\n{name}: left out, no data: {error}", flush=True)
                continue
            if service is not None:
                service.register(listing)
            rows = open_dataset(listing.data_set).meta["splits"]
            print(f"\n{name}: {json.dumps({part: facts['count'] for part, facts in rows.items()})}\n")
            job = ours if service is None else service.run
            print("\n".join(told(measure(listing, given.seeds, Path(work), given.threads, job))), flush=True)


def _service(given: argparse.Namespace, work: Path) -> AbstractContextManager[Service | None]:
    return running_service(work, given.threads) if given.through == "service" else nullcontext()


if __name__ == "__main__":
    main()

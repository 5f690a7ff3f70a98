"""Every family and framework on one GPU beside plain torch and plain Keras: a table for each, in eight minutes at most.

    python -m benchmarks.bench_gpu [--device cuda:0] [--budget 450] [--seconds 1.5] [--families cnn …]
        [--frameworks torch tensorflow]

Each family and framework has a process of its own, with a context of its own. Where there is no
GPU it says so and measures nothing; a family that does not fit into the time any more is named.

- *training*: rows per second, and tokens per second of the language model; ours at `precision: auto`, plain networks in
  float32 and in bfloat16 (torch: fused Adam, all data on the device; Keras: `fit`). Torch's small networks also by
  `torch.compile` with CUDA graphs: what a step could gain that is bound by launches.
- *bound by launches*: the time of our step with an eighth of the rows, to that with all of them. 1 means that rows cost
  nothing and launches everything.
- *limits*: our operations per second, and the bytes that Adam alone must move, to what a product in bfloat16 and a copy
  reach on this card just before. The operations are counted from the layers, without what is no product.
- *without cuDNN*: our recurrent layers in torch by its own kernels, for the language model.
- *prediction*: rows per second in float32, copies to the host included: ours with the rows of a training batch, as the
  plain networks; with 256 rows, each batch waited for, and with copies that overlap; and, on a GPU, with the batch that
  `inference.batch_size: auto` finds.
- *first step*: seconds of a process that has imported what a forkserver imports, to the end of its first step: the
  context of the device, the learner, its data, the choice of kernels.

Bias: random data; no checkpoints, no validation. Keras gets the rows from the host.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from itertools import count
from typing import Any

import numpy as np

from benchmarks.__main__ import missing
from benchmarks.gpu.workloads import ADAM_BYTES, BATCH, SMALL_BATCH, Workload, workload
from benchmarks.sides import can_run
from nightshift.errors import ConfigurationError
from nightshift.families.learner import LearnerSetup
from nightshift.families.training import Training
from nightshift.names import FRAMEWORKS
from shared.fleet.nvml import driver_version
from shared.specs.jobs import AUTO_BATCH, Inference
from tests.support.predicted_rows import PredictedRows
from worker import families
from worker.hardware.devices import named
from worker.hardware.frameworks import preloads
from worker.kinds.device_batch import FittedSource, memory_of
from worker.training.numerics.allocator import keep_freed_memory

#: Families whose plain network in torch is also compiled, which takes most of a minute.
COMPILED = ("mlp", "cnn")
#: Divides the rows of a step, to see whether it is bound by launches.
FEWER = 8
#: Longest that one family may take (seconds), and the least that is left for one to begin.
LONGEST, LEAST = 90.0, 25.0


# -- the parent: one process after the other ------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--budget", type=float, default=450.0, help="seconds for everything")
    parser.add_argument("--seconds", type=float, default=1.5, help="for each figure")
    parser.add_argument("--families", nargs="+", choices=list(BATCH), default=list(BATCH))
    parser.add_argument("--frameworks", nargs="+", choices=FRAMEWORKS, default=list(FRAMEWORKS))
    parser.add_argument("--small", action="store_true", help="tiny models, to try the benchmark itself")
    parser.add_argument("--one", nargs=2, metavar=("FAMILY", "FRAMEWORK"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measured(*given.one, given)), flush=True)
        return
    try:
        device = named(given.device)
    except ConfigurationError as error:
        missing(f"nothing was measured on a GPU: {error}")
    os.environ.update({**device.environment(), "TF_CPP_MIN_LOG_LEVEL": "2"})
    print(f"{device.name}, driver {driver_version() or 'none'}; {given.seconds} s for each figure", flush=True)
    end = time.monotonic() + given.budget
    for framework in given.frameworks:
        if (problem := problem_in_process(framework) if device.kind == "gpu" else None) is not None:
            print(f"\n{framework} is not measured: {problem}")
            continue
        for family in given.families:
            print(f"\n{family}, {framework}\n{table_of(family, framework, end)}", flush=True)


def problem_in_process(framework: str) -> str | None:
    """Return why a framework does not work on the GPU, tried in a process of its own: here it would keep a context."""
    command = [sys.executable, "-m", "worker.runners.device_probe", framework]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return done.stderr.strip().splitlines()[-1]
    problem: str | None = json.loads(done.stdout.splitlines()[-1])["problem"]
    return problem


def table_of(family: str, framework: str, end: float) -> str:
    """Measure one family in its own process, and return its lines."""
    left = end - time.monotonic()
    if left < LEAST:
        return "  not measured: the time is over (--budget)"
    command = [sys.executable, "-m", "benchmarks.bench_gpu", *sys.argv[1:], "--one", family, framework]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=min(left, LONGEST), check=False)
    except subprocess.TimeoutExpired:
        return f"  not measured: it took longer than {min(left, LONGEST):.0f} s"
    if done.returncode:
        return f"  failed with exit code {done.returncode}"
    return shown(json.loads(done.stdout.splitlines()[-1]))


def shown(found: dict[str, Any]) -> str:
    """Return the figures of a family as lines."""
    training = found["training"]
    rivals = {name: rate for name, rate in training.items() if name != "ours"}
    best = max(rivals, key=rivals.__getitem__)
    lines = [f"  {name:<28}{rate:>12,.0f} rows/s" for name, rate in training.items()]
    if found["units"] > 1:
        lines.append(f"  {'ours, tokens':<28}{training['ours'] * found['units']:>12,.0f} tokens/s")
    lines.append(f"  ours is {training['ours'] / rivals[best]:.2f} of the best other ({best})")
    lines += [f"  {name:<28}{value:>12,.2f}" for name, value in found["ratios"].items()]
    lines += [f"  predicting, {name:<16}{rate:>12,.0f} rows/s" for name, rate in found["prediction"].items()]
    return "\n".join([*lines, f"  {'first step':<28}{found['first_step']:>12,.2f} s"])


# -- the child: one family in one framework -------------------------------------------------------


def measured(family: str, framework: str, given: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of a family in a framework, in this process."""
    keep_freed_memory()
    kind = "cpu" if given.device == "cpu" else "gpu"
    work = workload(family, framework, small=given.small)
    for module in preloads(framework):
        import_module(module)
    began = time.perf_counter()
    ours = Ours(work, kind)
    ours.run(work.batch_size, steps=1)
    first_step = time.perf_counter() - began
    rate = ours.rate(work.batch_size, given.seconds)
    few = max(2, work.batch_size // FEWER)
    launches = (few / ours.rate(few, given.seconds)) / (work.batch_size / rate)
    predicts = {name: predicted(predict, given.seconds) for name, predict in ours.ways_to_predict().items()}
    figures = Figures({"ours": rate}, predicts, {"bound by launches": launches})
    rival = _beside_torch if framework == "torch" else _beside_keras
    rival(ours, given, figures)
    return {"units": work.units, **asdict(figures), "first_step": first_step}


@dataclass(frozen=True)
class Figures:
    """Rows per second of training and of prediction by side, and ratios by name."""

    training: dict[str, float]
    prediction: dict[str, float]
    ratios: dict[str, float]


class Ours:
    """Our learner with its data."""

    def __init__(self, work: Workload, kind: str) -> None:
        self.work, self.kind = work, kind
        setup = LearnerSetup(work.model, Training(batch_size=work.batch_size), 10**9, kind, None, work.facts)
        self.learner = families.load(work.family, work.model.framework)(setup)
        self.learner.set_data(work.data)
        self._draw, self._steps = np.random.default_rng(0), count()

    def run(self, rows: int, steps: int) -> None:
        """Run some steps, and wait for the last one."""
        for _ in range(steps):
            self.learner.train_step(self._draw.integers(0, self.work.rows, rows), next(self._steps))
        self.learner.read_metrics()

    def rate(self, rows: int, seconds: float) -> float:
        """Return rows per second of steps on so many rows."""
        self.run(rows, 4)
        steps, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            self.run(rows, 16)
            steps += 16
        return steps * rows / (time.perf_counter() - began)

    def ways_to_predict(self) -> dict[str, Callable[[], int]]:
        """Return what predicts rows and returns their number, by the size of its batches."""
        inputs, size = self.work.data[self.work.inputs], self.work.batch_size
        chunk = inputs[: 32 * AUTO_BATCH] if size > SMALL_BATCH else inputs[: 8 * size]
        small = min(AUTO_BATCH, size)
        ways: dict[str, Callable[[], int]] = {
            "ours": lambda: len(self.learner.predict(inputs[: 8 * size], size)),
            "ours, waiting": lambda: sum(
                len(self.learner.predict(chunk[at : at + small], small)) for at in range(0, len(chunk), small)
            ),
            "ours, 256 rows": lambda: len(self.learner.predict(chunk, small)),
        }
        if self.kind == "gpu":
            memory = memory_of(self.work.model.framework)
            fitted = FittedSource(partial(PredictedRows, self.learner, chunk), Inference(), memory, _print_indented)
            ways["ours, auto"] = lambda: len(fitted.rows(0, len(chunk))[0])
        return ways


def _print_indented(line: str, level: str = "info") -> None:
    print(f"  {line}", file=sys.stderr, flush=True)


def predicted(predict: Callable[[], int], seconds: float) -> float:
    """Return rows per second."""
    predict()
    rows, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        rows += predict()
    return rows / (time.perf_counter() - began)


def _beside_torch(ours: Ours, given: argparse.Namespace, figures: Figures) -> None:
    """Add what plain torch does, and what the card could do."""
    from benchmarks.gpu import plain_torch as plain

    work, training = ours.work, figures.training
    device = "cuda" if ours.kind == "gpu" else "cpu"
    ways: dict[str, dict[str, bool]] = {"plain torch, float32": {}, "plain torch, bfloat16": {"bfloat16": True}}
    if work.family in COMPILED and ours.kind == "gpu":
        ways["plain torch, compiled"] = {"bfloat16": True, "compiled": True}
    for name, how in ways.items():
        step = plain.step_of(work, device, **how)
        if can_run(step):
            training[name] = _steps_a_second(step, device, given.seconds) * work.batch_size
        else:
            _print_indented(f"{name}: torch has no kernel for it here")
    figures.prediction["plain torch"] = predicted(plain.predicting(work, device), given.seconds)
    limits, steps = plain.limits(device, given.seconds), training["ours"] / work.batch_size
    figures.ratios["of the limit of operations"] = training["ours"] * work.products() / limits["operations"]
    figures.ratios["of the limit of memory"] = steps * ADAM_BYTES * work.parameters / limits["bytes"]
    if work.family == "gru_lm" and ours.kind == "gpu":
        with _without_cudnn():
            figures.ratios["without cuDNN"] = ours.rate(work.batch_size, given.seconds) / training["ours"]


def _steps_a_second(step: Callable[[], object], device: str, seconds: float) -> float:
    from benchmarks.gpu.plain_torch import wait

    for _ in range(4):  # compiled at the first, captured at the second
        step()
    wait(device)
    steps, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        for _ in range(16):
            step()
        wait(device)
        steps += 16
    return steps / (time.perf_counter() - began)


@contextmanager
def _without_cudnn() -> Iterator[None]:
    import torch

    torch.backends.cudnn.enabled = False
    try:
        yield
    finally:
        torch.backends.cudnn.enabled = True


def _beside_keras(ours: Ours, given: argparse.Namespace, figures: Figures) -> None:
    """Add what plain Keras does."""
    from benchmarks.gpu import plain_keras as plain

    for name, bfloat16 in (("plain Keras, float32", False), ("plain Keras, bfloat16", True)):
        measure = plain.training(ours.work, bfloat16=bfloat16)
        measure(given.seconds / 4)
        figures.training[name] = measure(given.seconds)
    figures.prediction["plain Keras"] = predicted(plain.predicting(ours.work), given.seconds)


if __name__ == "__main__":
    main()

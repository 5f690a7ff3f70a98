"""Our torch CNN against loops by hand and plain scripts, in turns: samples per second, and ours to the best of them.

    python -m benchmarks.bench_cnn [--threads 2] [--seconds 2] [--rounds 5] [--preset mnist-3conv]

The loop by hand is tuned (channels-last, pooling before ReLU, fused Adam, pixels in memory) and runs in float32 and in
bfloat16; which is faster depends on the processor. The plain scripts are Keras' `fit` and a torch `DataLoader`.
Bias: random pixels, no data loading from disk, no validation; all keep their data in memory. `our job` is the complete
training loop of a job (metric rows, progress, checkpoints every 60 s); `our step` is only its step.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.plain_cnn import CLASSES, keras_script, make_data, torch_network, torch_script
from benchmarks.sides import by_steps, in_turns, own_process, table
from nightshift.families.learner import Array, LearnerSetup, Splits
from nightshift.families.training import Training
from shared.specs.training import CheckpointPolicy
from worker.families.cnn.family import CnnModel
from worker.families.cnn.torch_learner import TorchCnn, build
from worker.training.checkpoints import CheckpointWriter
from worker.training.numerics.allocator import keep_freed_memory
from worker.training.state import RunState
from worker.training.trainer import Trainer

Step = Callable[[], None]
Data = dict[str, Array]


class Silent:
    """A reporter that ignores all messages."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **kwargs: None


def by_hand(model: CnnModel, batch_size: int, data: Data, *, bfloat16: bool) -> Step:
    """Return a step with channels-last, pooling before ReLU, fused Adam, pixels in memory."""
    net = torch_network(model).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(net.parameters(), 1e-3, fused=True)
    x = torch.from_numpy(data["x"]).permute(0, 3, 1, 2).float() / 255
    y = torch.from_numpy(data["y"])

    def step() -> None:
        rows = torch.randint(0, len(y), (batch_size,))
        images = x[rows].contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss = F.cross_entropy(net(images), y[rows])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def make_learner(model: CnnModel, training: Training, threads: int, steps: int) -> TorchCnn:
    facts = {"classes": [str(i) for i in range(CLASSES)]}
    return build(LearnerSetup(model, training, steps, "cpu", threads, facts))


def our_step(model: CnnModel, batch_size: int, data: Data, threads: int) -> Step:
    learner = make_learner(model, Training(batch_size=batch_size), threads, 1)
    learner.set_data(data)
    draw, steps = np.random.default_rng(0), count()
    return lambda: learner.train_step(draw.integers(0, len(data["y"]), batch_size), next(steps))


def our_loop(model: CnnModel, batch_size: int, data: Data, threads: int, steps: int, reporter: Any = None) -> float:
    """Return the samples per second of a complete loop of some steps that reports to `reporter`, if given."""
    training = Training(batch_size=batch_size, epochs=100_000, max_steps=steps)
    splits = Splits(data, None, None, {}, len(data["y"]))
    learner = make_learner(model, training, threads, steps)
    if reporter is None:
        reporter = Silent()
        reporter.__dict__["stop_requested"] = lambda: None
    with tempfile.TemporaryDirectory() as folder:
        writer = CheckpointWriter(Path(folder), 1, reporter)
        loop = Trainer(learner, splits, training, CheckpointPolicy(), writer, reporter, RunState())
        began = time.perf_counter()
        loop.run()
        taken = time.perf_counter() - began
        writer.wait()
    return steps * batch_size / taken


def measure(model: CnnModel, batch_size: int, given: argparse.Namespace) -> str:
    """Return the table of one batch size."""
    data, preset = make_data(model), {"preset": given.preset, "output": "softmax"}
    ours = by_steps(our_step(model, batch_size, data, given.threads), batch_size)

    def our_job(seconds: float) -> float:
        steps = max(5, int(seconds * ours(0.1) / batch_size))
        return our_loop(model, batch_size, data, given.threads, steps)

    with (
        own_process(torch_script, preset, batch_size, threads=given.threads) as torch_plain,
        own_process(keras_script, preset, batch_size, threads=given.threads) as keras_plain,
    ):
        sides = {
            "by hand, float32": by_steps(by_hand(model, batch_size, data, bfloat16=False), batch_size),
            "by hand, bfloat16": by_steps(by_hand(model, batch_size, data, bfloat16=True), batch_size),
            "plain torch": torch_plain,
            "plain Keras": keras_plain,
            "our step": ours,
            "our job": our_job,
        }
        return table(in_turns(sides, given.rounds, given.seconds), "our step", "our job")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--preset", default="mnist-3conv")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[32, 64, 256])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    model = CnnModel.model_validate({"preset": given.preset, "output": "softmax"})
    torch.set_num_threads(given.threads)
    keep_freed_memory()  # for both
    print(f"{given.preset}, {given.threads} threads, torch {torch.__version__}; samples/s, {given.rounds} rounds")
    for batch_size in given.batch_sizes:
        print(f"\nbatch {batch_size}\n{measure(model, batch_size, given)}", flush=True)


if __name__ == "__main__":
    main()

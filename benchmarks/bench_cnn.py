"""Our torch CNN against the best hand-tuned loop known for it, interleaved: samples per second, and their ratio.

    python -m benchmarks.bench_cnn [--threads 2] [--seconds 2] [--rounds 5] [--preset mnist-3conv]

Bias: random pixels, no data loading from disk, no validation; both keep their data in memory. `loop` is the complete
training loop of a job (metric rows, progress, checkpoints every 60 s); `learner` is only its step.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from nightshift.families.learner import Array, LearnerSetup, Splits
from nightshift.families.training import Training
from shared.specs.training import CheckpointPolicy
from worker.families.cnn.family import CnnModel
from worker.families.cnn.torch_learner import TorchCnn, build
from worker.training.checkpoints import CheckpointWriter
from worker.training.numerics.allocator import keep_freed_memory
from worker.training.state import RunState
from worker.training.trainer import Trainer

CLASSES = 10
Step = Callable[[], None]
Data = dict[str, Array]


class Silent:
    """A reporter that ignores all messages."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **kwargs: None


def make_data(model: CnnModel) -> Data:
    draw = np.random.default_rng(0)
    rows = 8192 if max(model.image_size) < 64 else 512
    shape = (rows, *model.image_size, model.image_channels)
    return {"x": draw.integers(0, 256, shape, dtype=np.uint8), "y": draw.integers(0, CLASSES, rows)}


def hand_tuned(model: CnnModel, batch_size: int, data: Data) -> Step:
    """Return a step with bfloat16 autocast, channels-last, pooling before ReLU, fused Adam, pixels in memory."""
    net = _network(model).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(net.parameters(), 1e-3, fused=True)
    x = torch.from_numpy(data["x"]).permute(0, 3, 1, 2).float() / 255
    y = torch.from_numpy(data["y"])

    def step() -> None:
        rows = torch.randint(0, len(y), (batch_size,))
        images = x[rows].contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.cross_entropy(net(images), y[rows])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def _network(model: CnnModel) -> nn.Module:
    layers: list[nn.Module] = []
    channels: int = model.image_channels
    for filters, pooled in zip(model.filters, model.pool, strict=True):
        layers += [nn.Conv2d(channels, filters, model.kernel_size), *([nn.MaxPool2d(2)] if pooled else []), nn.ReLU()]
        channels = filters
    layers.append(nn.Flatten())
    width = int(np.prod(model.feature_map()))
    for units in model.dense:
        layers += [nn.Linear(width, units), nn.ReLU()]
        width = units
    return nn.Sequential(*layers, nn.Linear(width, CLASSES))


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


def rate(step: Step, batch_size: int, seconds: float) -> float:
    step()
    steps, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        step()
        steps += 1
    return steps * batch_size / (time.perf_counter() - began)


def measure(model: CnnModel, batch_size: int, data: Data, threads: int, seconds: float, rounds: int) -> str:
    hand, ours = hand_tuned(model, batch_size, data), our_step(model, batch_size, data, threads)
    found: list[tuple[float, float, float]] = []
    for _ in range(rounds):
        by_hand, by_learner = rate(hand, batch_size, seconds), rate(ours, batch_size, seconds)
        steps = max(20, int(seconds * by_learner / batch_size))
        found.append((by_hand, by_learner, our_loop(model, batch_size, data, threads, steps)))
    medians = [statistics.median(column) for column in zip(*found, strict=True)]
    ratios = [statistics.median(one[i] / one[0] for one in found) for i in (1, 2)]
    speeds = " ".join(f"{median:>9.0f}" for median in medians)
    return f"{batch_size:>6} {speeds} {ratios[0]:>14.2f} {ratios[1]:>10.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--preset", default="mnist-3conv")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[32, 64, 256])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    model = CnnModel.model_validate({"preset": given.preset, "output": "softmax"})
    data = make_data(model)
    torch.set_num_threads(given.threads)
    keep_freed_memory()  # for both
    print(f"{given.preset}, {given.threads} threads, torch {torch.__version__}; samples/s, medians of {given.rounds}")
    print(f"{'batch':>6} {'hand':>9} {'learner':>9} {'loop':>9} {'learner/hand':>14} {'loop/hand':>10}")
    for batch_size in given.batch_sizes:
        print(measure(model, batch_size, data, given.threads, given.seconds, given.rounds), flush=True)


if __name__ == "__main__":
    main()

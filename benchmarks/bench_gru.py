"""Our GRU language model against the best hand-tuned loop known for it: tokens per second, and their ratio.

    python -m benchmarks.bench_gru [--framework torch|tensorflow] [--threads 2] [--rounds 5] [--steps 4]
        [--batch-size 64]

Interleaved. Baselines: torch, `nn.GRU` under bfloat16 autocast with the cross-entropy in chunks of positions, dropout,
fused Adam; TensorFlow, Keras layers in mixed bfloat16 (`fit` on batches, loss from logits). Bias: random tokens, which
cost as much as words; no data loading from disk, no validation. One framework per process.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from itertools import count
from typing import Any

import numpy as np

from benchmarks.each_framework import run_each
from nightshift.families.learner import Array, LearnerSetup
from nightshift.families.training import Training
from nightshift.names import FRAMEWORKS
from worker.families import load
from worker.families.gru_lm.family import GruLmModel
from worker.training.numerics.allocator import keep_freed_memory

#: Positions per chunk of logits in the hand-tuned torch loop.
CHUNK = 1600
Step = Callable[[], None]


def make_windows(model: GruLmModel, rows: int) -> Array:
    return np.random.default_rng(0).integers(0, model.vocabulary_size, (rows, model.window + 1)).astype(np.uint16)


def ours(model: GruLmModel, batch_size: int, windows: Array, threads: int) -> Step:
    facts = {"vocabulary": model.vocabulary_size}
    setup = LearnerSetup(model, Training(batch_size=batch_size), 10_000, "cpu", threads, facts)
    learner = load("gru_lm", model.framework)(setup)
    learner.set_data({"windows": windows})
    draw, steps = np.random.default_rng(0), count()

    def step() -> None:
        learner.train_step(draw.integers(0, len(windows), batch_size), next(steps))
        learner.read_metrics()

    return step


def torch_by_hand(model: GruLmModel, batch_size: int, windows: Array) -> Step:
    import torch
    import torch.nn.functional as F
    from torch import nn

    embedding = nn.Embedding(model.vocabulary_size, model.embedding)
    layers = [nn.GRU(i, h, batch_first=True) for i, h in zip(model.inputs_of_layers(), model.units, strict=True)]
    output = nn.Linear(model.units[-1], model.vocabulary_size)
    parameters = [p for module in (embedding, *layers, output) for p in module.parameters()]
    optimizer = torch.optim.Adam(parameters, 1e-3, fused=True)
    data = torch.from_numpy(windows.astype(np.int64))

    def step() -> None:
        batch = data[torch.randint(0, len(data), (batch_size,))]
        with torch.autocast("cpu", torch.bfloat16):
            x = embedding(batch[:, :-1])
            for layer in layers:
                x = F.dropout(layer(x)[0], model.dropout)
        x, targets = x.flatten(0, 1), batch[:, 1:].flatten()
        hidden = x.detach().requires_grad_()
        loss = 0.0
        for part, wanted in zip(torch.split(hidden, CHUNK), torch.split(targets, CHUNK), strict=True):
            with torch.autocast("cpu", torch.bfloat16):
                logits = output(part)
            piece = F.cross_entropy(logits.float(), wanted, reduction="sum") / len(targets)
            piece.backward()  # type: ignore[no-untyped-call]
            loss += piece.item()
        x.backward(hidden.grad)
        optimizer.step()
        optimizer.zero_grad()

    return step


def keras_mixed(model: GruLmModel, batch_size: int, windows: Array) -> Step:
    import keras

    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    layers: list[Any] = [keras.layers.Embedding(model.vocabulary_size, model.embedding)]
    for units in model.units:
        layers += [keras.layers.GRU(units, return_sequences=True), keras.layers.Dropout(model.dropout)]
    net = keras.Sequential([*layers, keras.layers.Dense(model.vocabulary_size, dtype="float32")])
    net.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    draw = np.random.default_rng(0)

    def step() -> None:
        batch = windows[draw.integers(0, len(windows), batch_size)].astype(np.int32)
        net.train_on_batch(batch[:, :-1], batch[:, 1:])

    return step


def seconds(step: Step, steps: int) -> float:
    began = time.perf_counter()
    for _ in range(steps):
        step()
    return (time.perf_counter() - began) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--framework", choices=FRAMEWORKS, help="both, one after the other, where none is named")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=64)
    given = parser.parse_args()
    if given.framework is None:
        sys.exit(run_each("bench_gru"))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    keep_freed_memory()  # as a runner does, for both
    model = GruLmModel.model_validate({"framework": given.framework})
    windows = make_windows(model, 1024)
    mine = ours(model, given.batch_size, windows, given.threads)
    rival = (torch_by_hand if given.framework == "torch" else keras_mixed)(model, given.batch_size, windows)
    for step in (mine, rival):
        seconds(step, 2)
    tokens, rates, ratios = given.batch_size * model.window, [], []
    for _ in range(given.rounds):
        theirs, own = seconds(rival, given.steps), seconds(mine, given.steps)
        rates.append((tokens / theirs, tokens / own))
        ratios.append(theirs / own)
    by_hand, by_us = (statistics.median(column) for column in zip(*rates, strict=True))
    print(
        f"gru-2x512, {given.framework}, batch {given.batch_size}, {given.threads} threads; tokens/s, {given.rounds} "
        "rounds"
    )
    print(f"hand-tuned {by_hand:8.0f}   ours {by_us:8.0f}   ours/hand-tuned {statistics.median(ratios):.2f}", end="")
    print(f"  ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()

"""Our GRU language model against loops by hand and plain scripts, in turns: tokens per second, and ours to the best.

    python -m benchmarks.bench_gru [--framework torch|tensorflow] [--threads 2] [--rounds 5] [--seconds 4]
        [--batch-size 64]

By hand, in float32 and, where the processor computes in it natively, in bfloat16 (emulated, a step takes minutes):
torch, `nn.GRU` under autocast with the cross-entropy in chunks of positions, dropout, fused Adam; TensorFlow, Keras
layers in mixed precision on batches. The plain scripts are Keras' `fit` and a torch `DataLoader`. Bias: random tokens,
which cost as much as words; no data loading from disk, no validation.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from itertools import count

import numpy as np

from benchmarks.each_framework import run_each
from benchmarks.plain_gru import keras_network, keras_script, make_windows, torch_script
from benchmarks.sides import by_steps, in_turns, own_process, table
from nightshift.families.learner import Array, LearnerSetup
from nightshift.families.training import Training
from nightshift.names import FRAMEWORKS
from worker.families import load
from worker.families.gru_lm.family import GruLmModel
from worker.training.numerics.allocator import keep_freed_memory

#: Positions per chunk of logits in the hand-tuned torch loop.
CHUNK = 1600
Step = Callable[[], None]


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


def torch_by_hand(model: GruLmModel, batch_size: int, windows: Array, *, bfloat16: bool) -> Step:
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
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            x = embedding(batch[:, :-1])
            for layer in layers:
                x = F.dropout(layer(x)[0], model.dropout)
        x, targets = x.flatten(0, 1), batch[:, 1:].flatten()
        hidden = x.detach().requires_grad_()
        loss = 0.0
        for part, wanted in zip(torch.split(hidden, CHUNK), torch.split(targets, CHUNK), strict=True):
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                logits = output(part)
            piece = F.cross_entropy(logits.float(), wanted, reduction="sum") / len(targets)
            piece.backward()  # type: ignore[no-untyped-call]
            loss += piece.item()
        x.backward(hidden.grad)
        optimizer.step()
        optimizer.zero_grad()

    return step


def keras_by_hand(model: GruLmModel, batch_size: int, windows: Array, *, bfloat16: bool) -> Step:
    import keras

    keras.mixed_precision.set_global_policy("mixed_bfloat16" if bfloat16 else "float32")
    net = keras_network(model)
    draw = np.random.default_rng(0)

    def step() -> None:
        batch = windows[draw.integers(0, len(windows), batch_size)].astype(np.int32)
        net.train_on_batch(batch[:, :-1], batch[:, 1:])

    return step


def native_bfloat16(framework: str) -> bool:
    """Return whether the processor computes in bfloat16 natively."""
    if framework == "torch":
        import torch

        from worker.training.backends import torch_support

        return torch_support.native_bfloat16(torch.device("cpu"))
    from worker.training.backends import tensorflow_support

    return tensorflow_support.native_bfloat16("/cpu:0")


def loops_by_hand(model: GruLmModel, batch_size: int, windows: Array) -> dict[str, Step]:
    """Return the loops by hand, one for each precision that is not emulated."""
    by_hand = torch_by_hand if model.framework == "torch" else keras_by_hand
    precisions = ["float32", "bfloat16"] if native_bfloat16(model.framework) else ["float32"]
    return {f"by hand, {name}": by_hand(model, batch_size, windows, bfloat16=name == "bfloat16") for name in precisions}


def measure(given: argparse.Namespace) -> str:
    """Return the table of one framework."""
    preset = {"framework": given.framework}
    model, batch_size, threads = GruLmModel.model_validate(preset), given.batch_size, given.threads
    windows, tokens = make_windows(model), given.batch_size * model.window
    mine = ours(model, batch_size, windows, threads)
    with (
        own_process(torch_script, preset, batch_size, threads=threads) as torch_plain,
        own_process(keras_script, preset, batch_size, threads=threads) as keras_plain,
    ):
        sides = {
            **{name: by_steps(step, tokens) for name, step in loops_by_hand(model, batch_size, windows).items()},
            "plain torch": torch_plain,
            "plain Keras": keras_plain,
            "ours": by_steps(mine, tokens),
        }
        return table(in_turns(sides, given.rounds, given.seconds), "ours")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--framework", choices=FRAMEWORKS, help="both, one after the other, where none is named")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--batch-size", type=int, default=64)
    given = parser.parse_args()
    if given.framework is None:
        sys.exit(run_each("bench_gru"))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    keep_freed_memory()  # as a runner does, for both
    what = f"batch {given.batch_size}, {given.threads} threads"
    print(f"gru-2x512, {given.framework}, {what}; tokens/s, {given.rounds} rounds")
    print(measure(given), flush=True)


if __name__ == "__main__":
    main()

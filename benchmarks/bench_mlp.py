"""A step of our perceptron against a hand-written loop of the same framework, interleaved: microseconds and ratio.

    python -m benchmarks.bench_mlp FRAMEWORK [--threads 2] [--seconds 1] [--rounds 5] [--batch 32] [--preset mlp-2x64]

The loop by hand holds the table on the device, too. In torch it is `nn.Sequential`, `cross_entropy` and fused Adam; in
TensorFlow one `tf.function` for a step (`GradientTape`, Keras' Adam), the same for 32 steps, and the same compiled by
XLA. It keeps no metrics and guards against no loss that is not finite; the rows of all are drawn before the clock
starts. Without dropout on either side.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from itertools import count, pairwise
from typing import Any

import numpy as np

from nightshift.families.learner import Array, LearnerSetup
from nightshift.families.training import Training
from worker import families
from worker.families.mlp.family import MlpModel

ROWS, WIDTH, CLASSES = 8_192, 30, 2
#: Steps in one call, of the loop that runs several.
AT_ONCE = 32
Step = Callable[[Any], Any]


def data() -> dict[str, Array]:
    """Return random rows."""
    draw = np.random.default_rng(0)
    return {"x": draw.normal(size=(ROWS, WIDTH)).astype(np.float32), "y": draw.integers(0, CLASSES, ROWS)}


def facts() -> dict[str, Any]:
    """Return what a learner is told of them."""
    columns = [{"name": str(place), "kind": "numbers"} for place in range(WIDTH)]
    return {"classes": ["a", "b"], "preprocessing": {"task": "classes", "columns": columns}}


def ours(framework: str, preset: str, threads: int) -> Any:
    """Return our learner with its data."""
    model = MlpModel.model_validate({"preset": preset, "target": "y", "framework": framework, "dropout": 0.0})
    learner = families.load("mlp", framework)(LearnerSetup(model, Training(), 10**9, "cpu", threads, facts()))
    learner.set_data(data())
    return learner


def torch_by_hand(hidden: list[int]) -> dict[str, Step]:
    """Return a step of a plain loop in torch; it takes row numbers."""
    import torch
    from torch import nn

    widths = [WIDTH, *hidden]
    layers = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU())]
    net = nn.Sequential(*layers, nn.Linear(widths[-1], CLASSES))
    optimizer = torch.optim.Adam(net.parameters(), 1e-3, fused=True)
    x, y = (torch.from_numpy(array) for array in data().values())

    def step(rows: Array) -> None:
        chosen = torch.from_numpy(rows)
        optimizer.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(net(x[chosen]), y[chosen]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return {"loop": step}


def tensorflow_by_hand(hidden: list[int], batch: int) -> dict[str, Step]:
    """Return steps of a plain loop in TensorFlow, without and with XLA; they take row numbers."""
    import keras
    import tensorflow as tf

    found: dict[str, Step] = {}
    for name, compiled in (("loop", False), ("XLA loop", True)):
        net = keras.Sequential([keras.Input((WIDTH,)), *(keras.layers.Dense(n, "relu") for n in hidden)])
        net.add(keras.layers.Dense(CLASSES))
        optimizer = keras.optimizers.Adam(1e-3)
        optimizer.build(net.trainable_variables)
        x, y = (tf.constant(array) for array in data().values())

        def step(rows: Any, net: Any = net, optimizer: Any = optimizer, x: Any = x, y: Any = y) -> None:
            with tf.GradientTape() as tape:
                logits = net(tf.gather(x, rows), training=True)
                loss = tf.reduce_mean(
                    tf.nn.sparse_softmax_cross_entropy_with_logits(labels=tf.gather(y, rows), logits=logits)
                )
            optimizer.apply_gradients(
                zip(tape.gradient(loss, net.trainable_variables), net.trainable_variables, strict=True)
            )

        spec = [tf.TensorSpec([batch], tf.int64)]
        graph = tf.function(step, input_signature=spec, autograph=False, jit_compile=compiled)
        found[name] = lambda rows, graph=graph: graph(tf.constant(rows))  # type: ignore[misc]
        if not compiled:
            found[f"loop of {AT_ONCE} steps a call"] = _at_once(step, batch)
    return found


def _at_once(step: Step, batch: int) -> Step:
    """Return a step that waits for others and runs them in one call, as an epoch in one `tf.function` does."""
    import tensorflow as tf

    def steps(rows: Any) -> None:
        def one(place: Any) -> list[Any]:
            step(rows[place])
            return [place + 1]

        tf.while_loop(lambda place: place < AT_ONCE, one, [0])

    graph = tf.function(steps, input_signature=[tf.TensorSpec([AT_ONCE, batch], tf.int64)], autograph=False)
    waiting: list[Array] = []

    def wait(rows: Array) -> None:
        waiting.append(rows)
        if len(waiting) == AT_ONCE:
            graph(tf.constant(np.stack(waiting)))
            waiting.clear()

    return wait


def microseconds(step: Callable[[Array], Any], finish: Callable[[], Any], rows: list[Array], seconds: float) -> float:
    """Return the mean time of a step over some seconds."""
    done, begin = 0, time.perf_counter()
    for number in count():
        step(rows[number % len(rows)])
        done += 1
        if done % 64 == 0 and time.perf_counter() - begin > seconds:
            break
    finish()
    return 1e6 * (time.perf_counter() - begin) / done


def main() -> None:
    """Print the times of each round, the medians and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("framework", choices=["torch", "tensorflow"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--preset", default="mlp-2x64")
    asked = parser.parse_args()
    learner = ours(asked.framework, asked.preset, asked.threads)
    hidden = list(MlpModel.model_validate({"preset": asked.preset}).hidden)
    steps = count()
    candidates: dict[str, Any] = {"ours": lambda rows: learner.train_step(rows, next(steps))}
    if asked.framework == "torch":
        candidates |= torch_by_hand(hidden)
    else:
        candidates |= tensorflow_by_hand(hidden, asked.batch)
    draw = np.random.default_rng(1)
    rows = [draw.permutation(ROWS)[: asked.batch].astype(np.int64) for _ in range(256)]
    finish = {"ours": learner.read_metrics}
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for round in range(asked.rounds + 1):
        for name, step in candidates.items():
            found = microseconds(step, finish.get(name, lambda: None), rows, asked.seconds if round else 0.2)
            if round:  # the first one compiles
                times[name].append(found)
    for name, each in times.items():
        shown = " ".join(f"{one:.0f}" for one in each)
        print(f"{name}: {statistics.median(each):.1f} us a step ({shown})")
    for name in list(candidates)[1:]:
        ratio = statistics.median(b / a for a, b in zip(times["ours"], times[name], strict=True))
        print(f"{name} takes {ratio:.2f} times as long as ours")


if __name__ == "__main__":
    main()

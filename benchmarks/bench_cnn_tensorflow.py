"""Our TensorFlow CNN against the best hand-tuned TensorFlow loop known for it: samples per second, and their ratio.

    python -m benchmarks.bench_cnn_tensorflow [--threads 2] [--rounds 5] [--samples 4096] [--preset mnist-3conv]

Interleaved. The baseline trains on all samples in one `tf.function` (a graph loop over batches of a tensor in memory,
Keras layers, Adam), once in float32 and once in mixed bfloat16. Ours is called step by step from Python, as in a job.
Bias: random pixels, no data loading from disk, no validation.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from nightshift.families.learner import Array, LearnerSetup
from nightshift.families.training import Training
from worker.families import load
from worker.families.cnn.family import CnnModel
from worker.training.numerics.allocator import keep_freed_memory

CLASSES = 10
Run = Callable[[], None]


def ours(model: CnnModel, batch_size: int, x: Array, y: Array, threads: int) -> Run:
    facts = {"classes": [str(i) for i in range(CLASSES)]}
    setup = LearnerSetup(model, Training(batch_size=batch_size), 10_000, "cpu", threads, facts)
    learner = load("cnn", "tensorflow")(setup)
    learner.set_data({"x": x, "y": y})
    draw = np.random.default_rng(0)

    def run() -> None:
        order = draw.permutation(len(y))
        for step, start in enumerate(range(0, len(y), batch_size)):
            learner.train_step(order[start : start + batch_size], step)
        learner.read_metrics()

    return run


def whole_epoch(model: CnnModel, batch_size: int, x: Array, y: Array, policy: str) -> Run:
    import keras
    import tensorflow as tf

    keras.mixed_precision.set_global_policy(policy)
    layers: list[Any] = [keras.layers.Input((*model.image_size, model.image_channels))]
    for filters, pooled in zip(model.filters, model.pool, strict=True):
        layers.append(keras.layers.Conv2D(filters, model.kernel_size, activation="relu"))
        layers += [keras.layers.MaxPooling2D()] if pooled else []
    layers += [keras.layers.Flatten(), *(keras.layers.Dense(units, activation="relu") for units in model.dense)]
    net = keras.Sequential([*layers, keras.layers.Dense(CLASSES, dtype="float32")])
    optimizer = keras.optimizers.Adam(1e-3)
    optimizer.build(net.trainable_variables)
    pixels, labels = tf.constant(x.astype(np.float32) / 255), tf.constant(y)

    @tf.function  # type: ignore[untyped-decorator]
    def epoch(order: Any) -> None:
        for start in tf.range(0, len(y), batch_size):
            rows = order[start : start + batch_size]
            with tf.GradientTape() as tape:
                logits = net(tf.gather(pixels, rows), training=True)
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.gather(labels, rows), logits)
                loss = tf.reduce_mean(losses)
            optimizer.apply_gradients(
                zip(tape.gradient(loss, net.trainable_variables), net.trainable_variables, strict=True)
            )

    draw = np.random.default_rng(0)
    return lambda: epoch(tf.constant(draw.permutation(len(y))))


def seconds(run: Run) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def measure(runs: list[Run], samples: int, rounds: int) -> str:
    """Return the rates of (baseline, baseline, ours) and the median ratio of ours to the better baseline per round."""
    for run in runs:
        run()
    found = [[seconds(run) for run in runs] for _ in range(rounds)]
    rates = [samples / statistics.median(column) for column in zip(*found, strict=True)]
    ratio = statistics.median(min(rivals) / mine for *rivals, mine in found)
    return " ".join(f"{rate:>10.0f}" for rate in rates) + f" {ratio:>10.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--preset", default="mnist-3conv")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[32, 256])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=4096)
    given = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    keep_freed_memory()  # as a runner does, for both
    model = CnnModel.model_validate({"preset": given.preset, "output": "softmax"})
    draw = np.random.default_rng(0)
    shape = (given.samples, *model.image_size, model.image_channels)
    x, y = draw.integers(0, 256, shape, dtype=np.uint8), draw.integers(0, CLASSES, given.samples)
    print(f"{given.preset}, tensorflow, {given.threads} threads; samples/s, {given.rounds} rounds")
    print(f"{'batch':>6} {'float32':>10} {'bfloat16':>10} {'ours':>10} {'ours/best':>10}")
    for batch_size in given.batch_sizes:
        mine = ours(model, batch_size, x, y, given.threads)
        rivals = [whole_epoch(model, batch_size, x, y, policy) for policy in ("float32", "mixed_bfloat16")]
        print(f"{batch_size:>6} {measure([*rivals, mine], given.samples, given.rounds)}", flush=True)


if __name__ == "__main__":
    main()

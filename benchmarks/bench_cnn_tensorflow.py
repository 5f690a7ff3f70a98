"""Our TensorFlow CNN against a loop by hand and plain scripts, in turns: samples per second, and ours to the best.

    python -m benchmarks.bench_cnn_tensorflow [--threads 2] [--rounds 5] [--samples 4096] [--preset mnist-3conv]

The loop by hand trains on all samples in one `tf.function` (a graph loop over batches of a tensor in memory, Keras
layers, Adam), once in float32 and once in mixed bfloat16. The plain scripts are Keras' `fit` and a torch `DataLoader`.
Ours is called step by step from Python, as in a job.
Bias: random pixels, no data loading from disk, no validation.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.plain_cnn import CLASSES, keras_network, keras_script, torch_script
from benchmarks.sides import by_steps, in_turns, own_process, table
from nightshift.families.learner import Array, LearnerSetup
from nightshift.families.training import Training
from worker.families import load
from worker.families.cnn.family import CnnModel
from worker.training.numerics.allocator import keep_freed_memory

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
    net = keras_network(model)
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


def measure(model: CnnModel, batch_size: int, x: Array, y: Array, given: argparse.Namespace) -> str:
    """Return the table of one batch size."""
    preset, threads = {"preset": given.preset, "output": "softmax"}, given.threads
    mine = ours(model, batch_size, x, y, threads)
    with (
        own_process(torch_script, preset, batch_size, threads=threads) as torch_plain,
        own_process(keras_script, preset, batch_size, threads=threads) as keras_plain,
    ):
        sides = {
            "by hand, float32": by_steps(whole_epoch(model, batch_size, x, y, "float32"), given.samples),
            "by hand, bfloat16": by_steps(whole_epoch(model, batch_size, x, y, "mixed_bfloat16"), given.samples),
            "plain torch": torch_plain,
            "plain Keras": keras_plain,
            "ours": by_steps(mine, given.samples),
        }
        return table(in_turns(sides, given.rounds, given.seconds), "ours")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--preset", default="mnist-3conv")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[32, 256])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--samples", type=int, default=4096)
    given = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    keep_freed_memory()  # as a runner does, for both
    model = CnnModel.model_validate({"preset": given.preset, "output": "softmax"})
    draw = np.random.default_rng(0)
    shape = (given.samples, *model.image_size, model.image_channels)
    x, y = draw.integers(0, 256, shape, dtype=np.uint8), draw.integers(0, CLASSES, given.samples)
    print(f"{given.preset}, tensorflow, {given.threads} threads; samples/s, {given.rounds} rounds")
    for batch_size in given.batch_sizes:
        print(f"\nbatch {batch_size}\n{measure(model, batch_size, x, y, given)}", flush=True)


if __name__ == "__main__":
    main()

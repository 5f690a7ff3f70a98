"""Batch inference against Keras' `predict` and bare loops of ONNX Runtime, interleaved: rows per second.

    python -m benchmarks.bench_inference [--rows 70000] [--threads 2] [--rounds 3] [--framework torch]
        [--engines auto framework]

Each side has a process of its own that is warm: its libraries are imported, and it has computed a batch. Ours is the
whole work of a runner, from the assignment to its result: it reads the model and the data set, chooses the engine,
writes and syncs a hundred parts, joins them to `predictions.parquet` and hashes it. The others have all images in
memory, Keras as float32, and write nothing. The images are random; the network is that of the preset, untrained.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.__main__ import machine
from nightshift.families.learner import Array
from nightshift.testing.attempts import NullReporter
from shared.datasets.store import NpyWriter, publish, staging
from shared.specs.jobs import job_spec_adapter
from worker.families.cnn.family import CnnModel
from worker.families.cnn.weights import initial
from worker.onnx_models import export
from worker.run_job import make_assignment
from worker.training import artifacts

CLASSES, BATCH = [str(n) for n in range(10)], 256
#: Rows at a time of the loop whose threads have rows of their own.
FEW = 32
#: The targets: ours to Keras' `predict`, and to the bare loop. None: a rival without one.
TARGETS = {"keras": 1.8, "onnxruntime": 0.9, "onnxruntime, rows": None}

#: Computes all images once.
Compute = Callable[[], object]


def images(rows: int) -> Array:
    return np.random.default_rng(0).integers(0, 256, (rows, 28, 28, 1), dtype=np.uint8)


def prepare(root: Path, preset: str, rows: int) -> tuple[Path, Path]:
    """Store a data set and a model, and return their folders."""
    model = CnnModel.model_validate({"preset": preset})
    x = images(rows)
    with staging(root / "datasets") as folder:
        parts = {"train": x[: rows * 6 // 7], "test": x[rows * 6 // 7 :]}
        for split, part in parts.items():
            writer = NpyWriter(folder / f"{split}_x.npy", np.uint8, x.shape[1:])
            writer.append(part)
            writer.close()
            np.save(folder / f"{split}_y.npy", np.zeros(len(part), np.int64))
        counts = {split: {"count": len(part)} for split, part in parts.items()}
        stored = publish(folder, {"kind": "image", "classes": CLASSES, "image": [28, 28, 1], "splits": counts})
    weights, facts = initial(model, len(CLASSES), 1), {"classes": CLASSES, "image": [28, 28, 1]}
    artifacts.write_model(root, weights, model, facts)
    export.write(root, model, weights, facts, print)
    return stored.folder, root / "model"


# -- the sides ------------------------------------------------------------------------------------


def ours(data_set: Path, model: Path, threads: int, framework: str, engine: str) -> Compute:
    from worker import kinds

    inference = {"framework": framework, "engine": engine, "batch_size": BATCH}
    body = {"kind": "batch_infer", "model_ref": "m", "dataset": "d", "inference": inference}
    spec = job_spec_adapter.validate_python(body).model_dump(mode="json")

    def compute() -> list[str]:
        folder = Path(tempfile.mkdtemp(prefix="bench-inference-"))
        reporter = NullReporter()
        try:
            assignment = make_assignment(spec, folder, data_set, threads, model)
            kinds.run(assignment, reporter)  # type: ignore[arg-type]
        finally:
            shutil.rmtree(folder)
        return [frame[1] for frame in reporter.frames if isinstance(frame, tuple)]

    return compute


def keras_predict(model: Path, rows: int, threads: int) -> Compute:
    import keras
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    layers = keras.layers
    net = keras.Sequential([
        layers.Input((28, 28, 1)), layers.Conv2D(32, 3, activation="relu"), layers.MaxPooling2D(2),
        layers.Conv2D(64, 3, activation="relu"), layers.MaxPooling2D(2), layers.Conv2D(64, 3, activation="relu"),
        layers.Flatten(), layers.Dense(64, activation="relu"), layers.Dense(10, activation="softmax"),
    ])  # fmt: skip
    x = images(rows).astype(np.float32) / 255
    net.predict(x[:BATCH], batch_size=BATCH, verbose=0)
    return partial(net.predict, x, batch_size=BATCH, verbose=0)


def opened(model: Path, threads: int) -> Callable[[Array], object]:
    """Return what computes a batch with a session of ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(model / "model.onnx"), options)
    (name,) = [one.name for one in session.get_inputs()]
    return lambda batch: session.run(None, {name: batch})


def bare_onnx_runtime(model: Path, rows: int, threads: int) -> Compute:
    run, x = opened(model, threads), images(rows)

    def compute() -> None:
        for at in range(0, rows, BATCH):
            run(x[at : at + BATCH])

    return compute


def onnx_runtime_in_threads(model: Path, rows: int, threads: int) -> Compute:
    """Return the fastest loop that we know: each thread computes a few rows of its own at a time."""
    run, x, pool = opened(model, 1), images(rows), ThreadPoolExecutor(threads)

    def compute() -> None:
        for done in [pool.submit(run, x[at : at + FEW]) for at in range(0, rows, FEW)]:
            done.result()

    return compute


def side(made: Callable[[], Compute], pipe: Connection) -> None:
    """Compute as often as asked, and answer with the seconds and what came of it."""
    compute = made()
    compute()
    pipe.send("ready")
    while pipe.recv():
        begun, used = time.perf_counter(), time.process_time()
        left = compute()
        took = time.perf_counter() - begun, time.process_time() - used
        pipe.send((*took, left if isinstance(left, list) else []))


def start(made: Callable[[], Compute]) -> tuple[Any, Connection]:
    context = get_context("spawn")
    mine, other = context.Pipe()
    process = context.Process(target=side, args=(made, other))
    process.start()
    assert mine.recv() == "ready"
    return process, mine


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rows", type=int, default=70_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--preset", default="mnist-3conv")
    parser.add_argument("--framework", default="torch")
    parser.add_argument("--engines", nargs="+", default=["auto", "framework"])
    given = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        data_set, model = prepare(Path(folder), given.preset, given.rows)
        made: dict[str, Callable[[], Compute]] = {
            f"ours, {engine}": partial(ours, data_set, model, given.threads, given.framework, engine)
            for engine in given.engines
        }
        made["keras"] = partial(keras_predict, model, given.rows, given.threads)
        made["onnxruntime"] = partial(bare_onnx_runtime, model, given.rows, given.threads)
        made["onnxruntime, rows"] = partial(onnx_runtime_in_threads, model, given.rows, given.threads)
        report(measured(made, given.rows, given.rounds))


def measured(made: dict[str, Callable[[], Compute]], rows: int, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Return the rows per second, of wall and of processor time, of each side in each round."""
    sides = {name: start(one) for name, one in made.items()}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for number in range(rounds):
        for name, (_, pipe) in sides.items():
            pipe.send(True)
            wall, used, lines = pipe.recv()
            found[name].append((rows / wall, rows / used))
            if number == 0:
                print(*[f"{name}: {line}" for line in lines if line.startswith("computes with")], sep="\n", end="")
    for process, pipe in sides.values():
        pipe.send(False)
        process.join()
    return found


def report(found: dict[str, list[tuple[float, float]]]) -> None:
    """Print rows per second, and ratios to the rivals of the same round."""
    print(f"\n{'':20}{'rows/s':>9} {'spread':>17}{'per CPU second':>16}")
    for name, rounds in found.items():
        wall, used = zip(*rounds, strict=True)
        spread = f"{min(wall):,.0f} to {max(wall):,.0f}"
        print(f"{name:20}{statistics.median(wall):9,.0f} {spread:>17}{statistics.median(used):16,.0f}")
    first = next(iter(found))
    for rival, target in TARGETS.items():
        ratios = [one[0] / other[0] for one, other in zip(found[first], found[rival], strict=True)]
        print(f"{first} to {rival}: {statistics.median(ratios):.2f}" + (f" (target {target})" if target else ""))


if __name__ == "__main__":
    main()

"""Learning curves of `gru-2x512` on a text: ours, as in a job, and a plain Keras script of the same model.

    python -m benchmarks.study_gru TEXT OUT --side ours|keras [--framework torch] [--epochs 5] [--threads 2]
    python -m benchmarks.study_gru TEXT OUT --plot curves.png

TEXT is a file or folder that can be registered as a text (WikiText-2: its three `.tokens` files); OUT gets one JSON
file per side. Both sides read the same windows of the same tokens (batch 64, 100 tokens, a zero state at the start of
each) and evaluate the validation part in the same windows; Keras shuffles as `fit` does. The Keras model follows its
documentation: `Embedding(256) GRU(512) Dropout(0.1) GRU(512) Dropout(0.1) Dense(vocabulary)`, float32, `compile("adam",
…)`, `fit`. This does not compare speed: seconds per epoch are recorded, but are meaningful only on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.stored import store
from nightshift.families.training import Training
from worker.families.gru_lm.data import load_splits
from worker.families.gru_lm.family import TRAINING_DEFAULTS, GruLmModel

PRESET = "gru-2x512"
SIDES = ("ours", "keras")
#: One curve: {"val_perplexity": [one per epoch], …}.
Curve = dict[str, Any]


def ours(data_set: Path, out: Path, epochs: int, framework: str, threads: int) -> Curve:
    """Run a job with the preset's defaults; a killed run resumes from its checkpoint."""
    spec = {
        "kind": "train",
        "model": {"family": "gru_lm", "framework": framework, "preset": PRESET},
        "dataset": "text",
        "training": {"epochs": epochs},
    }
    folder = out / f"ours-{framework}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "spec.json").write_text(json.dumps(spec))
    command = [sys.executable, "-m", "worker.run_job", str(folder / "spec.json"), str(folder)]
    began = time.monotonic()
    subprocess.run([*command, "--data-set", str(data_set), "--threads", str(threads)], check=True)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    curve = [row["value"] for row in rows if row["name"] == "val_perplexity"]
    return {"val_perplexity": curve, "seconds_per_epoch": (time.monotonic() - began) / epochs, "threads": threads}


def keras(data_set: Path, epochs: int, threads: int, written: Callable[[Curve], None]) -> Curve:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import keras as k
    import numpy as np
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    k.utils.set_random_seed(0)
    model = GruLmModel.model_validate({"preset": PRESET, "framework": "tensorflow"})
    training = Training(**TRAINING_DEFAULTS[PRESET])
    splits = load_splits(data_set, model, training)
    assert splits.validation is not None
    train, held_out = (np.asarray(part["windows"], np.int32) for part in (splits.train, splits.validation))
    vocabulary = int(splits.facts["vocabulary"])
    layers: list[Any] = [k.layers.Embedding(vocabulary, model.embedding)]
    for units in model.units:
        layers += [k.layers.GRU(units, return_sequences=True), k.layers.Dropout(model.dropout)]
    net = k.Sequential([*layers, k.layers.Dense(vocabulary, activation="softmax")])
    net.compile("adam", "sparse_categorical_crossentropy")
    curve: Curve = {"val_perplexity": [], "seconds": [], "threads": threads}
    for _ in range(epochs):
        began = time.monotonic()
        net.fit(train[:, :-1], train[:, 1:], batch_size=training.batch_size, epochs=1, verbose=2)
        curve["seconds"].append(time.monotonic() - began)
        loss = net.evaluate(held_out[:, :-1], held_out[:, 1:], batch_size=training.batch_size, verbose=0)
        curve["val_perplexity"].append(math.exp(loss))
        print(curve["val_perplexity"], flush=True)
        written(curve)
    return curve


def plot(out: Path, picture: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import MaxNLocator

    figure, axes = plt.subplots(figsize=(6.4, 4), layout="constrained")
    for path in sorted(out.glob("*.json")):
        values = json.loads(path.read_text())["val_perplexity"]
        axes.plot(range(1, len(values) + 1), values, marker="o", label=path.stem.replace("-", ", "))
    axes.set(xlabel="epoch", ylabel="validation perplexity", yscale="log", title=PRESET)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter("{x:.0f}")
    axes.yaxis.set_minor_formatter("{x:.0f}")
    axes.grid(alpha=0.3, which="both")
    axes.legend(frameon=False)
    figure.savefig(picture, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("text", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--side", choices=SIDES, default="ours")
    parser.add_argument("--framework", choices=("torch", "tensorflow"), default="torch")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--plot", type=Path)
    given = parser.parse_args()
    out: Path = given.out.resolve()
    if given.plot:
        plot(out, given.plot)
        return
    data_set = store(given.text, out / "datasets")
    path = out / (f"ours-{given.framework}.json" if given.side == "ours" else "keras.json")

    def write(curve: Curve) -> None:
        path.write_text(json.dumps(curve, indent=1))

    if given.side == "ours":
        write(ours(data_set, out, given.epochs, given.framework, given.threads))
    else:
        keras(data_set, given.epochs, given.threads, write)


if __name__ == "__main__":
    main()

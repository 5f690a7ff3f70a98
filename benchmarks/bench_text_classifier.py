"""Our text classifiers against the best hand-written loops, and what the presets reach on TREC.

    python -m benchmarks.bench_text_classifier [--framework torch|tensorflow] [--threads 1] [--rounds 7] [--steps 20]
    python -m benchmarks.bench_text_classifier --trec FOLDER [--preset NAME …] [--seeds 3] [--framework …] [--threads 1]

Speed: milliseconds of one training step on random texts with lengths like TREC's (3 to 37 words), of processor time on
all cores and of wall time, interleaved. Baselines: torch, `nn.RNN`, `nn.LSTM` and `nn.GRU` on packed and on padded
batches, in float32 and under bfloat16 autocast, fused Adam; TensorFlow, Keras layers with a mask (`train_on_batch`) on
batches padded to one length, which spares Keras a new graph for each length. Torch has no relu LSTM: its baseline is a
loop of its own over the steps. Baselines read words without affixes. Bias: no data loading from disk, no validation.

Accuracy: real jobs, each a process. FOLDER has `TREC.train.all` and `TREC.test.all`, one question a line after its
class; of a class such as `DESC:manner` the part before the colon counts (Li & Roth 2002: six classes).
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.each_framework import run_each
from benchmarks.sides import can_run
from benchmarks.stored import store
from nightshift.families.learner import Array, LearnerSetup
from nightshift.families.training import Training
from nightshift.names import FRAMEWORKS
from worker import families
from worker.families.text_classifier.family import FAMILY, TextClassifierModel
from worker.families.text_classifier.words import WordNumbers
from worker.training.numerics.allocator import keep_freed_memory
from worker.training.words.affixes import AFFIXES, BUCKETS
from worker.training.words.encoder import Tokens

VOCABULARY, CLASSES, ROWS, LONGEST = 8_700, 6, 4_096, 37
Step = Callable[[], None]

#: What is measured: a preset, and what is changed of it.
CASES: dict[str, dict[str, Any]] = {
    "bigru-attention": {"preset": "bigru-attention"},
    "bigru-attention, words only": {"preset": "bigru-attention", "affixes": False},
    "simple-rnn-100": {"preset": "simple-rnn-100"},
    "lstm-2x50": {"preset": "lstm-2x50", "output": "softmax"},
    "lstm-2x50, tanh": {"preset": "lstm-2x50", "output": "softmax", "activation": "tanh"},
}


# -- speed ----------------------------------------------------------------------------------------


def questions(*, affixes: bool) -> dict[str, Array]:
    draw = np.random.default_rng(0)
    lengths = np.clip(draw.gamma(7.0, 1.6, ROWS).astype(int), 3, LONGEST)
    x = draw.integers(1, VOCABULARY + 1, (ROWS, LONGEST)) * (np.arange(LONGEST) < lengths[:, None])
    y, rows = draw.integers(0, CLASSES, ROWS), x.astype(np.int32)
    return {"x": WordNumbers.of(rows, table(draw)) if affixes else rows, "y": y}


def table(draw: np.random.Generator) -> Tokens:
    """Return the ids of all words and affixes drawn for them."""
    places = np.arange(len(AFFIXES)) * BUCKETS
    affixes = draw.integers(0, BUCKETS, (VOCABULARY, len(AFFIXES))) + places
    return np.concatenate([np.arange(1, VOCABULARY + 1)[:, None], affixes], 1).astype(np.int32)


def ours(model: TextClassifierModel, batch_size: int, data: Mapping[str, Array], threads: int) -> Step:
    facts = {"vocabulary": VOCABULARY, "classes": list("abcdef")}
    training = Training(batch_size=batch_size)
    learner = families.load(FAMILY.name, model.framework)(LearnerSetup(model, training, 100_000, "cpu", threads, facts))
    learner.set_data(data)
    draw, steps = np.random.default_rng(0), count()

    def step() -> None:
        learner.train_step(draw.integers(0, ROWS, batch_size), next(steps))

    return step


def torch_by_hand(
    model: TextClassifierModel, batch_size: int, data: Mapping[str, Array], *, packed: bool, bfloat16: bool
) -> Step:
    """Return a step of the loop that one would write."""
    import torch
    from torch import nn
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    kinds: dict[str, Any] = {"simple_rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
    relu = model.activation == "relu" and model.cell == "lstm"
    ways = 2 if model.bidirectional else 1
    inputs = [model.embedding, *(ways * units for units in model.units[:-1])]
    embedding, output = nn.Embedding(VOCABULARY + 1, model.embedding, padding_idx=0), nn.Linear(model.width, CLASSES)
    layers = nn.ModuleList(
        kinds[model.cell](i, h, bidirectional=model.bidirectional) for i, h in zip(inputs, model.units, strict=True)
    )
    attention, context = nn.Linear(model.width, model.width), nn.Linear(model.width, 1, bias=False)
    parts = nn.ModuleList([embedding, output, *layers, *([attention, context] if model.pooling == "attention" else [])])
    optimizer = torch.optim.Adam(parts.parameters(), 1e-3, fused=True)
    x, y = torch.from_numpy(np.asarray(data["x"]).astype(np.int64)), torch.from_numpy(data["y"])
    lengths = (x > 0).sum(1)

    def relu_lstm(read: Any, layer: Any) -> Any:
        sums = nn.functional.linear(read, layer.weight_ih_l0, layer.bias_ih_l0 + layer.bias_hh_l0)
        h = c = read.new_zeros(read.shape[1], layer.hidden_size)
        outputs = []
        for at in sums:
            i, f, g, o = (at + nn.functional.linear(h, layer.weight_hh_l0)).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.relu()
            h = o.sigmoid() * c.relu()
            outputs.append(h)
        return torch.stack(outputs)

    def network(tokens: Any, long: Any) -> Any:
        read = nn.functional.dropout(embedding(tokens.t()), model.dropout)
        for layer in layers:
            if relu:
                read = relu_lstm(read, layer)
            elif packed:
                read = pad_packed_sequence(layer(pack_padded_sequence(read, long, enforce_sorted=False))[0])[0]
            else:
                read = layer(read)[0]
            read = nn.functional.dropout(read, model.dropout)
        if model.pooling == "last":
            return output(read[long - 1, torch.arange(len(long))])
        scores = context(attention(read).tanh()).masked_fill(tokens.t()[..., None] == 0, -torch.inf)
        return output((read * scores.softmax(0)).sum(0))

    def step() -> None:
        rows = torch.randint(0, ROWS, (batch_size,))
        long = lengths[rows]
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            logits = network(x[rows, : int(long.max())], long)
        optimizer.zero_grad()
        nn.functional.cross_entropy(logits.float(), y[rows]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def keras_layers(model: TextClassifierModel, batch_size: int, data: Mapping[str, Array], *, bfloat16: bool) -> Step:
    """Return a step of `train_on_batch`."""
    import keras

    keras.mixed_precision.set_global_policy("mixed_bfloat16" if bfloat16 else "float32")
    layer = keras.layers
    kinds: dict[str, Any] = {"simple_rnn": layer.SimpleRNN, "lstm": layer.LSTM, "gru": layer.GRU}
    read = tokens = keras.Input((LONGEST,), dtype="int32")
    read = layer.Embedding(VOCABULARY + 1, model.embedding, mask_zero=True)(read)
    read = layer.Dropout(model.dropout)(read)
    for i, units in enumerate(model.units):
        every = model.pooling == "attention" or i + 1 < len(model.units)
        cell = kinds[model.cell](units, activation=model.activation, return_sequences=every)
        read = layer.Dropout(model.dropout)((layer.Bidirectional(cell) if model.bidirectional else cell)(read))
    if model.pooling == "attention":
        scores = layer.Dense(1, use_bias=False)(layer.Dense(model.width, activation="tanh")(read))
        scores = layer.Flatten()(scores)
        read = layer.Dot((1, 1))([layer.Softmax()(scores, mask=keras.ops.not_equal(tokens, 0)), read])
    net = keras.Model(tokens, layer.Dense(CLASSES, dtype="float32")(read))
    net.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    draw = np.random.default_rng(0)

    def step() -> None:
        rows = draw.integers(0, ROWS, batch_size)
        net.train_on_batch(np.asarray(data["x"][rows]), data["y"][rows])

    return step


def rivals(model: TextClassifierModel, batch_size: int, data: Mapping[str, Array]) -> dict[str, Step]:
    if model.framework == "tensorflow":
        return {
            name: keras_layers(model, batch_size, data, bfloat16=wide)
            for name, wide in (("keras", False), ("keras bf16", True))
        }
    found = {}
    for way in ("padded",) if model.cell == "lstm" and model.activation == "relu" else ("packed", "padded"):
        for name, wide in ((way, False), (f"{way} bf16", True)):
            step = torch_by_hand(model, batch_size, data, packed=way == "packed", bfloat16=wide)
            if can_run(step):
                found[name] = step
    return found


def milliseconds(step: Step, steps: int) -> tuple[float, float]:
    """Return the processor time on all cores and the wall time of a step."""
    began, used = time.perf_counter(), time.process_time()
    for _ in range(steps):
        step()
    return (time.process_time() - used) / steps * 1e3, (time.perf_counter() - began) / steps * 1e3


def speed(framework: str, given: argparse.Namespace) -> None:
    """Measure all cases in this process."""
    keep_freed_memory()  # as a runner does, for all
    if framework == "torch":
        import torch

        torch.set_num_threads(given.threads)
    print(f"\n{framework}, {given.threads} threads, median of {given.rounds} rounds of {given.steps} steps\n")
    print(
        "| case | side | processor ms | wall ms | ours / side, processor (lowest to highest) |\n|---|---|---|---|---|"
    )
    for name, fields in CASES.items():
        model = TextClassifierModel.model_validate({**fields, "framework": framework})
        data = questions(affixes=model.affixes)
        batch_size = FAMILY.training_for(model.preset)["batch_size"]
        mine = ours(model, batch_size, data, given.threads)  # before Keras: it sets TensorFlow's threads
        sides = {"ours": mine, **rivals(model, batch_size, data)}
        for step in sides.values():
            milliseconds(step, 3)
        times: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
        for _ in range(given.rounds):
            for side, step in sides.items():
                times[side].append(milliseconds(step, given.steps))
        for side, found in times.items():
            cpu, wall = (statistics.median(column) for column in zip(*found, strict=True))
            ratios = sorted(own[0] / theirs[0] for own, theirs in zip(times["ours"], found, strict=True))
            spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
            print(f"| {name} | {side} | {cpu:.1f} | {wall:.1f} | {'' if side == 'ours' else spread} |", flush=True)


# -- accuracy -------------------------------------------------------------------------------------


def converted(trec: Path, work: Path) -> Path:
    """Write TREC's files as `train.csv` and `test.csv` and return the stored data set."""
    given = work / "trec"
    given.mkdir()
    for part in ("train", "test"):
        lines = (trec / f"TREC.{part}.all").read_text(encoding="latin-1").splitlines()
        with (given / f"{part}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"])
            for label, _, text in (line.strip().partition(" ") for line in lines if line.strip()):
                writer.writerow([text, label.partition(":")[0]])
    return store(given, work / "datasets")


def trained(preset: str, framework: str, seed: int, data_set: Path, work: Path, threads: int) -> dict[str, float]:
    """Train a preset as a job and return the metrics of its test."""
    folder = work / f"{preset}-{framework}-{seed}"
    folder.mkdir()
    model = {"family": FAMILY.name, "preset": preset, "framework": framework, "output": "softmax"}
    spec = {"kind": "train", "model": model, "dataset": "trec", "training": {"seed": seed}}
    (folder / "spec.json").write_text(json.dumps(spec))
    command = [sys.executable, "-m", "worker.run_job", str(folder / "spec.json"), str(folder / "out")]
    command += ["--data-set", str(data_set), "--threads", str(threads)]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    if ended.returncode:
        raise SystemExit(f"{' '.join(command)}: {ended.stderr[-2000:]}")
    metrics: dict[str, float] = json.loads(ended.stdout[ended.stdout.rindex("\n{") :])["metrics"]
    return metrics


def accuracy(frameworks: Sequence[str], given: argparse.Namespace) -> None:
    """Train every preset with every seed and print the figures of the test part."""
    columns = ("preset", "framework", "seed", "test accuracy", "macro F1", "AUC", "training accuracy")
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        data_set = converted(given.trec, work)
        for preset in given.preset or FAMILY.presets:
            for framework in frameworks:
                for seed in range(given.seeds):
                    found = trained(preset, framework, seed, data_set, work, given.threads)
                    shown = ("test_accuracy", "f1_macro", "auc_macro_ovr", "train_accuracy")
                    cells = " | ".join(f"{found[name]:.4f}" for name in shown)
                    print(f"| {preset} | {framework} | {seed} | {cells} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--framework", choices=FRAMEWORKS, help="both, one after the other, where none is named")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--trec", type=Path, metavar="FOLDER", help="train the presets on TREC in this folder")
    parser.add_argument("--preset", action="append", choices=list(FAMILY.presets), help="all by default")
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if given.trec is not None:
        accuracy(FRAMEWORKS if given.framework is None else [given.framework], given)
    elif given.framework is not None:
        speed(given.framework, given)
    else:
        sys.exit(run_each("bench_text_classifier"))


if __name__ == "__main__":
    main()

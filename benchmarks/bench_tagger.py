"""Our tagger against the best hand-written loops: sentences per second of a training step, and their ratio.

    python -m benchmarks.bench_tagger [--framework torch|tensorflow] [--threads 2] [--rounds 7] [--steps 8]
        [--batch-size 32] [--preset bilstm]

Interleaved. Sentences are random words with lengths as in newspaper text (mean 14, 2 to 60 tokens). Baselines: torch,
`nn.LSTM` on packed and on padded batches (the faster one counts), float32 and, where the processor has it, bfloat16
autocast, masked cross-entropy, fused Adam; TensorFlow, Keras layers with a mask (`train_on_batch`). All of them drop
units and clip gradients. Wall time and processor time (of all threads) are both given: on a busy machine only the
latter tells much. The baselines read words only, so they are compared with the preset `bilstm` by default.
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
from worker.families.tagger.family import TaggerModel
from worker.training.numerics.allocator import keep_freed_memory
from worker.training.words.affixes import AFFIXES, BUCKETS

#: Words, tags, sentences; the largest norm of gradients.
WORDS, TAGS, SENTENCES, CLIP = 20_000, 9, 4_000, 5.0
Step = Callable[[], None]


def make_sentences(model: TaggerModel) -> dict[str, Array]:
    """Return tokens [n, 60, features] and tags [n, 60] as a job has them."""
    draw = np.random.default_rng(0)
    lengths = np.clip(draw.gamma(2.0, 7.0, SENTENCES).round().astype(np.int64), 2, 60)
    here = np.arange(60) < lengths[:, None]
    words = np.where(here, 1 + np.minimum(draw.zipf(1.3, here.shape), WORDS - 1), 0)[..., None]
    places = np.arange(model.features - 1) * BUCKETS
    affixes = draw.integers(0, BUCKETS, (*here.shape, len(places))) + places
    tokens = np.concatenate([words, np.where(here[..., None], affixes, 0)], -1).astype(np.int32)
    return {"tokens": tokens, "tags": np.where(here, draw.integers(0, TAGS, here.shape), -1).astype(np.int32)}


def ours(model: TaggerModel, batch_size: int, data: dict[str, Array], threads: int) -> Step:
    training = Training(batch_size=batch_size, grad_clip=CLIP)
    facts = {"vocabulary": WORDS, "tags": [f"T{n}" for n in range(TAGS)]}
    learner = load("tagger", model.framework)(LearnerSetup(model, training, 10_000, "cpu", threads, facts))
    learner.set_data(data)
    draw, steps = np.random.default_rng(1), count()

    def step() -> None:
        learner.train_step(draw.integers(0, SENTENCES, batch_size), next(steps))
        learner.read_metrics()

    return step


def torch_by_hand(model: TaggerModel, batch_size: int, data: dict[str, Array], *, packed: bool, half: bool) -> Step:
    import torch
    import torch.nn.functional as F
    from torch import nn
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    embedding = nn.Embedding(WORDS, model.embedding)
    layer = nn.LSTM(model.embedding, model.units[0], batch_first=True, bidirectional=True)
    output = nn.Linear(2 * model.units[0], TAGS)
    parameters = [p for module in (embedding, layer, output) for p in module.parameters()]
    optimizer = torch.optim.Adam(parameters, 1e-3, fused=True)
    words, tags = (torch.from_numpy(data[name].astype(np.int64)) for name in ("tokens", "tags"))
    draw = np.random.default_rng(1)

    def step() -> None:
        rows = torch.from_numpy(draw.integers(0, SENTENCES, batch_size))
        x, y = words[rows, :, 0], tags[rows]
        lengths = (x > 0).sum(1)
        x, y = x[:, : int(lengths.max())], y[:, : int(lengths.max())]
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            read = F.dropout(embedding((x - 1).clamp_min(0)), model.dropout)
            if packed:
                states, _ = layer(pack_padded_sequence(read, lengths, batch_first=True, enforce_sorted=False))
                hidden, _ = pad_packed_sequence(states, batch_first=True)
            else:
                hidden, _ = layer(read)
            logits = output(F.dropout(hidden, model.dropout))
        loss = F.cross_entropy(logits.float().flatten(0, 1), y.flatten(), ignore_index=-1)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()

    return step


def keras_by_hand(model: TaggerModel, batch_size: int, data: dict[str, Array]) -> Step:
    import keras

    layers = [
        keras.layers.Embedding(WORDS + 1, model.embedding, mask_zero=True),
        keras.layers.Dropout(model.dropout),
        keras.layers.Bidirectional(keras.layers.LSTM(model.units[0], return_sequences=True)),
        keras.layers.Dropout(model.dropout),
        keras.layers.Dense(TAGS),
    ]
    net = keras.Sequential(layers)
    net.compile(
        keras.optimizers.Adam(global_clipnorm=CLIP), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    words, tags, draw = data["tokens"][..., 0], np.maximum(data["tags"], 0), np.random.default_rng(1)

    def step() -> None:
        rows = draw.integers(0, SENTENCES, batch_size)
        longest = int((words[rows] > 0).sum(1).max())
        net.train_on_batch(words[rows, :longest], tags[rows, :longest])

    return step


def rivals(model: TaggerModel, batch_size: int, data: dict[str, Array]) -> dict[str, Step]:
    """Return the loops by hand."""
    if model.framework == "tensorflow":
        return {"Keras, masked": keras_by_hand(model, batch_size, data)}
    import torch

    kinds = [False, True] if torch.cpu._is_avx512_bf16_supported() else [False]
    return {
        f"{'packed' if packed else 'padded'}, {'bfloat16' if half else 'float32'}": torch_by_hand(
            model, batch_size, data, packed=packed, half=half
        )
        for packed in (True, False)
        for half in kinds
    }


def seconds(step: Step, steps: int) -> tuple[float, float]:
    """Return wall time and processor time of a step."""
    began, used = time.perf_counter(), time.process_time()
    for _ in range(steps):
        step()
    return (time.perf_counter() - began) / steps, (time.process_time() - used) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--framework", choices=FRAMEWORKS, help="both, one after the other, where none is named")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--preset", default="bilstm")
    given = parser.parse_args()
    if given.framework is None:
        sys.exit(run_each("bench_tagger"))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    keep_freed_memory()  # as a runner does, for all
    model = TaggerModel.model_validate({"framework": given.framework, "preset": given.preset})
    data = make_sentences(model)
    loops: dict[str, Any] = {"ours": ours(model, given.batch_size, data, given.threads)}
    loops |= rivals(model, given.batch_size, data)
    for step in loops.values():
        seconds(step, 3)
    found = {name: [seconds(step, given.steps)] for name, step in loops.items()}
    for _ in range(given.rounds - 1):
        for name, step in loops.items():
            found[name].append(seconds(step, given.steps))
    middle = {name: [statistics.median(one) for one in zip(*times, strict=True)] for name, times in found.items()}
    affixes = f", {len(AFFIXES)} affixes" if model.affixes else ""
    print(f"{given.framework}, {given.preset}{affixes}, batch {given.batch_size}, {given.threads} threads")
    for name, (wall, used) in middle.items():
        print(
            f"{name:20} {wall * 1000:7.1f} ms wall  {used * 1000:7.1f} ms processor  {given.batch_size / wall:7.0f} /s"
        )
    for place, what in enumerate(("wall", "processor")):
        best = min((name for name in middle if name != "ours"), key=lambda name: middle[name][place])
        print(f"ours takes {middle['ours'][place] / middle[best][place]:.2f} of the {what} time of: {best}")


if __name__ == "__main__":
    main()

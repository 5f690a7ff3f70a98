"""The families as one would write them in Keras: `compile` and `fit`, and the tutorial's loop for the GAN."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from benchmarks import bench_gan, bench_mlp, bench_tagger, bench_text_classifier, plain_cnn
from benchmarks.gpu.workloads import Workload
from benchmarks.plain_cnn import by_fit
from benchmarks.sides import Measure, by_steps


def network(work: Workload) -> Any:
    """Return the network of a family that learns to tell classes."""
    layers, model = keras.layers, work.model
    match work.family:
        case "cnn":
            return plain_cnn.keras_network(model)
        case "mlp":
            hidden = [layers.Dense(units, "relu") for units in model.hidden]
            return keras.Sequential([keras.Input((bench_mlp.WIDTH,)), *hidden, layers.Dense(bench_mlp.CLASSES)])
    words = {"gru_lm": getattr(model, "vocabulary_size", 0), "tagger": bench_tagger.WORDS + 1}
    tokens = words.get(work.family, bench_text_classifier.VOCABULARY + 1)
    outputs = {"gru_lm": tokens, "tagger": bench_tagger.TAGS}.get(work.family, bench_text_classifier.CLASSES)
    kind: Any = {"lstm": layers.LSTM, "gru": layers.GRU, "simple_rnn": layers.SimpleRNN}[getattr(model, "cell", "gru")]
    read = keras.Input((None,), dtype="int32")  # else mixed precision rounds the numbers of words
    stack: list[Any] = [read, layers.Embedding(tokens, model.embedding), layers.Dropout(model.dropout)]
    for units in model.units:
        cell = kind(units, return_sequences=True)
        stack.append(layers.Bidirectional(cell) if getattr(model, "bidirectional", False) else cell)
        stack.append(layers.Dropout(model.dropout))
    pool = [layers.GlobalAveragePooling1D()] if work.family == "text_classifier" else []
    return keras.Sequential([*stack, *pool, layers.Dense(outputs, dtype="float32")])


def read_and_wanted(work: Workload) -> tuple[Any, Any]:
    """Return the inputs of a network and its classes. Padding counts as a class: Keras learns it, too."""
    data = work.data
    match work.family:
        case "cnn":
            return data["x"].astype(np.float32) / 255, data["y"]
        case "gru_lm":
            windows = data["windows"].astype(np.int32)
            return windows[:, :-1], windows[:, 1:]
        case "tagger":
            return data["tokens"][..., 0], np.maximum(data["tags"], 0)
        case "text_classifier":
            return np.asarray(data["x"]), data["y"]
    return data["x"], data["y"]


def training(work: Workload, *, bfloat16: bool = False) -> Measure:
    """Return the measure of training: rows per second."""
    keras.mixed_precision.set_global_policy("mixed_bfloat16" if bfloat16 else "float32")
    keras.utils.set_random_seed(1)  # required on a CPU, where our learner asks for determinism
    if work.family == "gan":
        step = bench_gan.tensorflow_by_hand(work.model, work.batch_size, work.data["x"], bfloat16=bfloat16)
        return by_steps(step, work.batch_size)
    net = network(work)
    net.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return by_fit(net, *read_and_wanted(work), work.batch_size, units=1)


def predicting(work: Workload) -> Callable[[], int]:
    """Return what computes the outputs of all rows and returns their number."""
    keras.mixed_precision.set_global_policy("float32")
    net = bench_gan.keras_discriminator(work.model) if work.family == "gan" else network(work)
    x = work.data["x"].astype(np.float32) if work.family == "gan" else read_and_wanted(work)[0]
    x = x[: 8 * work.batch_size]

    def predict() -> int:
        net.predict(x, batch_size=work.batch_size, verbose=0)
        return len(x)

    return predict

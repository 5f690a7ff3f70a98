"""The ONNX network of each family computes what its learners predict, with every option, in both frameworks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from nightshift.families.learner import Array
from tests.support.frameworks import FRAMEWORKS, THREADS, learner
from worker.families.gan.noise import sample_noise
from worker.families.gan.weights import to_bytes
from worker.families.text_classifier.words import WordNumbers
from worker.onnx_models.export import exported
from worker.onnx_models.runtime import OnnxNetwork
from worker.training.words.affixes import AFFIXES, BUCKETS
from worker.training.words.encoder import NO_AFFIX

pytest.importorskip("torch")
pytest.importorskip("tensorflow")

ROWS = 11
COLUMNS = [
    {"kind": "numbers", "name": "height", "mean": 2.0, "std": 3.0, "marked": True},
    {"kind": "categories", "name": "color", "values": ["red", "green"]},
]

_IMAGE = {"image_size": (13, 11), "filters": [4, 5], "pool": [True, False], "dense": [6], "image_channels": 3}
CNN: dict[str, dict[str, Any]] = {
    "plain": {},
    "one channel": {"image_channels": 1},
    "sigmoid": {"activation": "sigmoid"},
    "tanh": {"activation": "tanh"},
    "same": {"padding": "same"},
    "same, even kernel": {"padding": "same", "kernel_size": 4},
    "average": {"pooling": "average"},
    "average after sigmoid": {"pooling": "average", "activation": "sigmoid"},
    "separable": {"convolution": "separable"},
    "separable, same, one channel": {"convolution": "separable", "padding": "same", "image_channels": 1},
    "batch norm": {"normalization": "batch"},
    "layer norm": {"normalization": "layer", "activation": "tanh"},
    "separable, layer norm": {"convolution": "separable", "normalization": "layer"},
    "two classes, one logit": {"output": "sigmoid"},
    "no hidden layer": {"dense": [], "dropout": 0.3},
}
MLP: dict[str, dict[str, Any]] = {
    "relu": {"activation": "relu"},
    "sigmoid": {"activation": "sigmoid"},
    "tanh, one layer": {"activation": "tanh", "hidden": [5], "dropout": 0.2},
    "linear layers": {"activation": "linear"},
    "no hidden layer": {"hidden": []},
}
TEXT: dict[str, dict[str, Any]] = {
    f"{len(units)} {cell} {activation} {pooling}{' both ways' * both}": {
        "cell": cell, "activation": activation, "pooling": pooling, "bidirectional": both, "units": units,
    }
    for cell, activation, pooling, both, units in [
        ("gru", "tanh", "attention", True, [6]),
        ("gru", "relu", "last", True, [4, 6]),
        ("gru", "tanh", "mean", False, [6]),
        ("lstm", "tanh", "last", True, [5, 6]),
        ("lstm", "relu", "max", False, [6]),
        ("simple_rnn", "tanh", "max", True, [6, 4]),
        ("simple_rnn", "relu", "attention", False, [6]),
        ("gru", "tanh", "mean", False, []),
        ("gru", "tanh", "max", False, []),
    ]
}  # fmt: skip
TAGGER: dict[str, dict[str, Any]] = {
    "gru": {"cell": "gru"},
    "lstm, one way": {"cell": "lstm", "bidirectional": False},
    "two layers": {"units": [5, 4]},
    "no affixes": {"affixes": 0},
}


def agrees(family: str, framework: str, fields: Mapping[str, Any], facts: Mapping[str, Any], inputs: Array) -> None:
    ours = learner(family, framework, facts, fields)
    draw = np.random.default_rng(5)
    weights = {name: array + draw.normal(0, 0.1, array.shape) for name, array in ours.weights().items()}
    weights = {  # no bias is zero, and no variance negative
        name: (np.abs(array) if "running_var" in name else array).astype(np.float32) for name, array in weights.items()
    }
    ours.load_weights(weights)
    wanted = ours.predict(inputs, 4)
    network = OnnxNetwork(exported(ours.model, weights, facts), THREADS)
    found = network.predict(inputs, 4)
    assert found.dtype == np.float32
    assert found.shape == wanted.shape
    scale = max(1.0, float(np.abs(wanted).max()))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * scale)
    assert float(np.ptp(wanted, axis=0).max()) > 1e-3 * scale, "rows must differ, or nothing is compared"


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("option", CNN)
def test_a_cnn(framework: str, option: str) -> None:
    fields = {**_IMAGE, **CNN[option]}
    facts = {"classes": [str(n) for n in range(2 if fields.get("output") == "sigmoid" else 3)]}
    shape = (ROWS, *fields["image_size"], fields["image_channels"])
    agrees("cnn", framework, fields, facts, np.random.default_rng(3).integers(0, 256, shape).astype(np.uint8))


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("option", MLP)
@pytest.mark.parametrize("task", ["classes", "numbers"])
def test_an_mlp(framework: str, option: str, task: str) -> None:
    facts: dict[str, Any] = {"preprocessing": {"task": task, "columns": COLUMNS}}
    if task == "classes":
        facts["classes"] = ["a", "b", "c"]
    else:
        facts["preprocessing"]["scale"] = {"mean": 1_000.0, "std": 250.0}
    fields = {"hidden": [8, 7], "target": "kind", **MLP[option]}
    agrees("mlp", framework, fields, facts, np.random.default_rng(3).normal(0, 1, (ROWS, 5)).astype(np.float32))


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("option", TEXT)
@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_a_text_classifier(framework: str, option: str, output: str) -> None:
    facts = {"classes": ["a", "b"] if output == "sigmoid" else ["a", "b", "c"], "vocabulary": 20}
    fields = {"embedding": 8, "length": 9, "vocabulary_size": 20, "affixes": False, "dense": [7], "output": output}
    fields |= {"ngrams": 3 if output == "softmax" else 0, **TEXT[option]}
    agrees("text_classifier", framework, fields, facts, _tokens(9, 20))


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize(("pooling", "ngrams"), [("attention", 2), ("last", 0)])
def test_a_text_classifier_that_reads_affixes(framework: str, pooling: str, ngrams: int) -> None:
    facts = {"classes": ["a", "b", "c"], "vocabulary": 20}
    fields = {"embedding": 8, "length": 9, "vocabulary_size": 20, "units": [6], "affixes": True, "pooling": pooling}
    fields["ngrams"] = ngrams
    draw, words = np.random.default_rng(4), 30
    table = np.concatenate(
        [draw.integers(1, 21, (words, 1)), draw.integers(0, len(AFFIXES) * BUCKETS, (words, len(AFFIXES)))], axis=1
    ).astype(np.int32)
    table[:2, 1:] = NO_AFFIX
    inputs = WordNumbers.of(_tokens(9, words), table)
    assert (np.asarray(inputs) == 1).any(), "a word without affixes is among them"
    agrees("text_classifier", framework, fields, facts, inputs)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("option", TAGGER)
def test_a_tagger(framework: str, option: str) -> None:
    fields = {"embedding": 8, "affixes": 3, "units": [6], **TAGGER[option]}
    words = _tokens(9, 20)[..., None]
    features = learner("tagger", framework, {"tags": ["A", "B"], "vocabulary": 20}, fields).model.features
    affixes = np.random.default_rng(4).integers(0, 500, (*words.shape[:2], features - 1)).astype(np.int32)
    inputs = np.concatenate([words, np.where(words > 0, affixes, 0)], axis=2)
    agrees("tagger", framework, fields, {"tags": ["A", "B", "C"], "vocabulary": 20}, inputs)


LANGUAGE: dict[str, dict[str, Any]] = {
    "one layer": {},
    "two layers": {"units": [6, 5]},
    "layer norm": {"normalization": "layer", "units": [6, 4], "dropout": 0.2},
}
_PICTURES = {"image_size": [13, 10], "image_channels": 3, "latent": 6, "discriminator_filters": [4]}
GAN: dict[str, dict[str, Any]] = {
    "dense": {"generator_dense": [9], "generator_filters": [], "generator_normalization": "none", "output": "sigmoid"},
    "no hidden layer": {"generator_dense": [], "generator_filters": [], "generator_normalization": "none"},
    "batch norm": {"generator_dense": [7], "generator_filters": [6, 5], "generator_normalization": "batch"},
    "layer norm": {"generator_dense": [7], "generator_filters": [6, 5], "generator_normalization": "layer"},
    "no norm, one channel": {"generator_filters": [5], "generator_normalization": "none", "image_channels": 1},
    "large kernels": {"generator_filters": [6, 5], "generator_normalization": "batch", "kernel_size": 6},
}


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("option", LANGUAGE)
def test_a_language_model(framework: str, option: str) -> None:
    fields = {"embedding": 8, "units": [6], "window": 9, **LANGUAGE[option]}
    agrees("gru_lm", framework, fields, {"vocabulary": 20}, np.random.default_rng(3).integers(0, 20, (ROWS, 10)))


def test_a_language_model_takes_a_single_token_and_predicts_none() -> None:
    """ONNX Runtime ends its process if a recurrent layer gets no step at all."""
    ours: Any = learner("gru_lm", "torch", {"vocabulary": 20}, {"embedding": 8, "units": [6], "window": 9})
    network = OnnxNetwork(exported(ours.model, ours.weights(), {}), THREADS)
    assert network.predict(np.zeros((ROWS, 1), np.int64), 4).shape == (ROWS, 0)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("option", GAN)
def test_a_generator(framework: str, option: str) -> None:
    fields = {**_PICTURES, **GAN[option]}
    ours: Any = learner("gan", framework, {}, fields)
    draw = np.random.default_rng(5)
    weights = {name: array + draw.normal(0, 0.1, array.shape) for name, array in ours.weights().items()}
    weights = {
        name: (np.abs(array) if "running_var" in name else array).astype(np.float32) for name, array in weights.items()
    }
    ours.load_weights(weights)
    network = OnnxNetwork(exported(ours.model, weights, {}), THREADS)
    found = network.predict(sample_noise(ours.model, 3, 0, ROWS), 4)
    assert found.shape == (ROWS, *fields["image_size"], fields["image_channels"])
    wanted = ours.generate(ROWS, 3, 4)
    differences = np.abs(to_bytes(ours.model, found).astype(int) - wanted)
    assert differences.max() <= 1, "rounding to bytes"
    assert (differences > 0).mean() < 0.01
    assert np.ptp(wanted, axis=0).max() > 5, "rows must differ, or nothing is compared"


def _tokens(length: int, vocabulary: int) -> Array:
    """Return rows of different lengths, of which none is as long as the array is wide."""
    draw = np.random.default_rng(3)
    rows = draw.integers(1, vocabulary + 1, (ROWS, length)).astype(np.int32)
    rows[np.arange(length) >= draw.integers(1, length, ROWS)[:, None]] = 0
    return rows

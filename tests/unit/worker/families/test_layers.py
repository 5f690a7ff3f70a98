"""The layers that the built-in families declare hold the numbers of their weights."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from nightshift.families.fields import ModelSpec
from nightshift.families.summary import differing
from shared.specs.families import FAMILIES
from worker.families.gan import weights as gan
from worker.families.gru_lm import weights as gru_lm

SHAPES = {
    "gru_lm": lambda model, facts: gru_lm.shapes(model, facts["vocabulary"]),
    "gan": lambda model, facts: gan.shapes(model),
}
MODELS: list[tuple[str, dict[str, Any]]] = [
    ("gru_lm", {}),
    ("gru_lm", {"units": [7], "embedding": 3, "vocabulary_size": 40, "tokenizer": "char"}),
    ("gru_lm", {"units": [7, 5, 6], "normalization": "layer", "dropout": 0.0}),
    ("gan", {"preset": "dense"}),
    ("gan", {"preset": "dcgan"}),
    ("gan", {"preset": "dense", "generator_dense": [], "discriminator_dense": []}),
    ("gan", {"preset": "dense", "generator_dense": [9, 8], "discriminator_dense": [7, 6]}),
    ("gan", {"preset": "dense", "discriminator_dense": [7, 6], "discriminator_normalization": "layer"}),
    ("gan", {"generator_normalization": "layer", "discriminator_normalization": "none", "generator_dropout": 0.2}),
    ("gan", {"generator_filters": [6, 5, 4], "discriminator_filters": [4], "image_size": [17, 20], "kernel_size": 6}),
    ("gan", {"generator_normalization": "none", "image_channels": 3, "discriminator_dense": []}),
]


def model_of(family: str, settings: Mapping[str, Any]) -> ModelSpec:
    return FAMILIES[family].model.model_validate_json(json.dumps(settings))


@pytest.mark.parametrize(("family", "settings"), MODELS, ids=str)
def test_each_layer_has_the_numbers_of_its_weights(family: str, settings: dict[str, Any]) -> None:
    model = model_of(family, settings)
    facts = model.expected_facts(None)
    weights = {name: np.broadcast_to(np.float32(0), shape) for name, shape in SHAPES[family](model, facts).items()}
    layers = model.layers(facts)
    assert layers is not None
    assert differing(layers, weights) is None
    running = sum(array.size for name, array in weights.items() if ".running_" in name)
    assert sum(layer.fixed for layer in layers) == running


@pytest.mark.parametrize(("family", "settings"), MODELS, ids=str)
def test_the_shapes_are_those_of_the_weights(family: str, settings: dict[str, Any]) -> None:
    """The last size of a layer's output is the number of its biases, or their product where it is reshaped."""
    model = model_of(family, settings)
    facts = model.expected_facts(None)
    shapes = SHAPES[family](model, facts)
    for layer in model.layers(facts) or ():
        sizes = [size for size in layer.shape if size is not None]
        assert len(sizes) == len(layer.shape)
        if (bias := shapes.get(f"{layer.name}.bias")) is not None:
            assert bias[0] in (sizes[-1], math.prod(sizes)), layer


def test_a_language_model_is_expected_to_fill_its_vocabulary() -> None:
    model = model_of("gru_lm", {"vocabulary_size": 500})
    assert model.expected_facts({"kind": "text"}) == {"vocabulary": 500}
    assert (model.layers({"vocabulary": 70}) or ())[-1].shape == (100, 70)

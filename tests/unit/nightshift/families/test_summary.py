"""The summary of a model as data and as text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from nightshift.families import Framework, Layer, ModelSpec
from nightshift.families.summary import differing, document, frozen, of_weights, summarize, table


class Small(ModelSpec):
    family: Literal["small"] = "small"
    framework: Framework = "torch"
    preset: str = "tiny"
    PRESETS = {"tiny": {}}

    def expected_facts(self, summary: Mapping[str, Any] | None) -> Mapping[str, Any]:
        return {"classes": ["a", "b"] if summary is None else summary["classes"]}

    def layers(self, facts: Mapping[str, Any]) -> Sequence[Layer]:
        classes = len(facts["classes"])
        return [
            Layer("conv", "convolution 3x3, relu", (26, 26, 4), 40),
            Layer("norm", "batch normalization", (26, 26, 4), 8, 8),
            Layer("pool", "global average pooling", (4,)),
            Layer("output", "dense, softmax", (classes,), 5 * classes),
        ]


class Silent(ModelSpec):
    family: Literal["silent"] = "silent"
    framework: Framework = "torch"
    preset: str = "tiny"
    PRESETS = {"tiny": {}}


WEIGHTS = {
    "conv.weight": np.zeros((4, 1, 3, 3), np.float32),
    "conv.bias": np.zeros(4, np.float32),
    "norm.weight": np.zeros(4, np.float32),
    "norm.bias": np.zeros(4, np.float32),
    "norm.running_mean": np.zeros(4, np.float32),
    "norm.running_var": np.zeros(4, np.float32),
    "output.weight": np.zeros((2, 4), np.float32),
    "output.bias": np.zeros(2, np.float32),
}


def test_the_document_has_each_layer_and_the_totals() -> None:
    found = summarize(Small(), {"classes": ["x", "y", "z"], "image": [28, 28, 1]})
    assert found is not None
    assert json.loads(json.dumps(found)) == found
    assert found["layers"][3] == {
        "name": "output", "kind": "dense, softmax", "shape": [3], "parameters": 15, "fixed": 0,
    }  # fmt: skip
    assert (found["parameters"], found["fixed"], found["bytes"]) == (63, 8, 4 * 71)
    assert found["facts"] == {"classes": ["x", "y", "z"]}
    assert (found["family"], found["framework"], found["preset"], found["rows"]) == (
        "small", "torch", "tiny", "layers",
    )  # fmt: skip


def test_a_family_without_layers_has_no_summary() -> None:
    assert summarize(Silent(), {}) is None


def test_the_table_is_aligned_and_ends_with_the_totals() -> None:
    found = summarize(Small(), {"classes": ["x", "y"]})
    assert found is not None
    assert table(found) == (
        "small tiny (torch)\n"
        "\n"
        "layer   kind                    output shape  parameters  fixed\n"
        "------  ----------------------  ------------  ----------  -----\n"
        "conv    convolution 3x3, relu   26 x 26 x 4           40      0\n"
        "norm    batch normalization     26 x 26 x 4            8      8\n"
        "pool    global average pooling  4                      0      0\n"
        "output  dense, softmax          2                     10      0\n"
        "\n"
        "trained            58\n"
        "fixed               8\n"
        "bytes in float32  264\n"
    )


def test_the_table_of_weights_says_so() -> None:
    found = document(Silent(), "weights", of_weights(WEIGHTS), {})
    lines = table(found).splitlines()
    assert lines[2].split() == ["weight", "kind", "shape", "parameters", "fixed"]
    assert lines[4].split() == ["conv.weight", "weight", "4", "x", "1", "x", "3", "x", "3", "36", "0"]
    assert lines[8].split() == ["norm.running_mean", "running", "statistics", "4", "0", "4"]
    assert (found["parameters"], found["fixed"]) == (58, 8)


def test_any_length_and_a_single_number_have_shapes() -> None:
    rows = [Layer("embedding", "embedding", (None, 8), 80), Layer("scale", "scale", (), 1)]
    lines = table(document(Silent(), "layers", rows, {})).splitlines()
    assert lines[4].split()[2:] == ["any", "x", "8", "80"]
    assert lines[5].split()[2:] == ["1", "1"]


def test_frozen_layers_are_fixed() -> None:
    layers = frozen(Small().layers({"classes": ["a", "b"]}), ("conv", "norm."))
    assert [(one.parameters, one.fixed) for one in layers] == [(0, 40), (0, 16), (0, 0), (10, 0)]


def test_layers_with_the_numbers_of_the_weights_do_not_differ() -> None:
    layers = Small().layers({"classes": ["a", "b"]})
    assert differing(layers, WEIGHTS) is None
    assert differing(layers[:-1], WEIGHTS) == "no layer has the weight output.weight"
    three = Small().layers({"classes": ["a", "b", "c"]})
    assert differing(three, WEIGHTS) == "the layer output declares 15 parameters and its weights hold 10"
    assert differing([*layers, layers[0]], WEIGHTS) == "two layers have the same name"
    trained = [*layers[:1], Layer("norm", "batch normalization", (26, 26, 4), 16), *layers[2:]]
    assert differing(trained, WEIGHTS) == "the layers declare 0 fixed numbers and there are 8 of running statistics"


def test_a_weight_belongs_to_the_layer_with_the_longest_name() -> None:
    layers = [Layer("lstm", "LSTM", (3,), 1), Layer("lstm.back", "LSTM", (3,), 2)]
    weights = {"lstm.weight": np.zeros(1), "lstm.back.weight": np.zeros(2)}
    assert differing(layers, weights) is None

"""Settings of text classifiers: presets, what is refused, and the layers."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from worker.families.text_classifier import ngrams
from worker.families.text_classifier.family import FAMILY, TextClassifierModel
from worker.families.text_classifier.weights import initial
from worker.training.words.affixes import AFFIXES, BUCKETS


def model(**fields: Any) -> TextClassifierModel:
    return TextClassifierModel.model_validate(fields)


def parameters(**fields: Any) -> dict[str, int]:
    layers = model(**fields).layers({"vocabulary": 100, "classes": list("abc")})
    return {layer.name: layer.parameters for layer in layers}


def test_the_listings_are_as_printed() -> None:
    """Numbers of parameters are those that Keras reports: SimpleRNN(100) on 64, LSTM(50) twice."""
    assert parameters(preset="simple-rnn-100") == {
        "embedding": 6_400, "rnn0": 100 * (64 + 100 + 1), "pooling": 0, "output": 303,
    }  # fmt: skip
    assert parameters(preset="lstm-2x50") == {
        "embedding": 6_400, "rnn0": 4 * 50 * (64 + 50 + 1), "rnn1": 4 * 50 * 101, "pooling": 0, "output": 51,
    }  # fmt: skip
    listing = FAMILY.training_for("lstm-2x50")
    assert (listing["epochs"], listing["batch_size"]) == (10, 64)
    assert model(preset="lstm-2x50").activation == "relu"


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"affixes": False},
        {"ngrams": 2},
        {"ngrams": 0},
        {"preset": "simple-rnn-100"},
        {"preset": "lstm-2x50"},
        {"units": [], "pooling": "mean", "dense": [9, 8]},
        {"units": [6, 5], "cell": "lstm", "pooling": "max"},
    ],
)
def test_the_layers_have_the_weights_of_the_model(fields: dict[str, Any]) -> None:
    found, facts = model(**fields), {"vocabulary": 50, "classes": list("abc")}
    layers = found.layers(facts)
    weights = initial(found, 50, 3, 0)
    assert sum(layer.parameters for layer in layers) == sum(array.size for array in weights.values())
    assert {name.partition(".")[0] for name in weights} == {layer.name for layer in layers if layer.parameters}
    assert layers[-1].shape == ((1,) if found.output == "sigmoid" else (3,))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"units": [], "pooling": "last"}, "add units"),
        ({"tokenizer": "bpe", "vocabulary_size": 100, "affixes": False}, "vocabulary_size"),
        ({"length": 0}, "length"),
        ({"tokenizer": "char"}, "affixes are those of words; with the tokenizer `char` set affixes to false"),
        ({"cell": "transformer"}, "cell"),
    ],
)
def test_settings_that_no_model_can_have_are_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        model(**fields)


def test_the_default_preset_reads_affixes_and_the_listings_do_not() -> None:
    assert {name: model(preset=name).affixes for name in FAMILY.presets} == {
        "bigru-attention": True, "simple-rnn-100": False, "lstm-2x50": False,
    }  # fmt: skip
    assert parameters()["affixes"] == len(AFFIXES) * BUCKETS * 128


def test_the_default_preset_has_ngrams_and_the_listings_do_not() -> None:
    assert {name: (model(preset=name).ngrams, model(preset=name).label_smoothing) for name in FAMILY.presets} == {
        "bigru-attention": (3, 0.1), "simple-rnn-100": (0, 0.0), "lstm-2x50": (0, 0.0),
    }  # fmt: skip
    assert parameters()["output"] == (2 * 128 + 1) * 3 + 3 * ngrams.BUCKETS * 3


def test_unlabelled_text_and_a_third_class_are_unfit() -> None:
    unlabelled = model().unfit("tale@1", {"classes": []})
    assert unlabelled is not None
    assert "tale@1 has no classes" in unlabelled.msg
    assert "text,label" in unlabelled.msg
    three = model(preset="lstm-2x50").unfit("trec@1", {"classes": ["a", "b", "c"]})
    assert three is not None
    assert three.loc == ("output",)
    assert model(preset="lstm-2x50", output="softmax").unfit("trec@1", {"classes": ["a", "b", "c"]}) is None

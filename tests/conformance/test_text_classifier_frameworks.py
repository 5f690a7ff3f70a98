"""The text classifier in torch and in TensorFlow is one model, dropout and padding included."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from tests.support.frameworks import FRAMEWORKS, close, gradients, learner
from worker.families.text_classifier.words import WordNumbers
from worker.training.words.affixes import AFFIXES, BUCKETS
from worker.training.words.encoder import NO_AFFIX

pytest.importorskip("torch")
pytest.importorskip("tensorflow")

VOCABULARY, CLASSES, ROWS, LONGEST = 30, ["a", "b", "c"], 12, 9
MODELS: dict[str, dict[str, Any]] = {
    "attention over two bidirectional gru": {"units": [5, 4], "dense": [6]},
    "last state of a simple rnn": {"preset": "simple-rnn-100", "units": [7], "dropout": 0.2},
    "last states of both ways of relu lstms": {
        "cell": "lstm", "activation": "relu", "units": [5, 4], "pooling": "last",
    },
    "maximum over an lstm": {"cell": "lstm", "units": [6], "bidirectional": False, "pooling": "max"},
    "mean of embeddings": {"units": [], "pooling": "mean", "dense": [8], "dropout": 0.0},
    "attention over embeddings": {"units": [], "label_smoothing": 0.3},
    "attention over words and affixes": {"units": [5], "affixes": True},
    "words, affixes and n-grams of words": {"units": [5], "affixes": True, "ngrams": 2},
    "n-grams of tokens": {"units": [], "pooling": "mean", "ngrams": 3},
    "mean of words and affixes": {"units": [], "pooling": "mean", "affixes": True},
    "one logit": {"output": "sigmoid", "units": [6], "pooling": "mean"},
    "one logit, sharp labels": {"output": "sigmoid", "units": [6], "pooling": "mean", "label_smoothing": 0.0},
}  # fmt: skip


def settings(name: str) -> dict[str, Any]:
    return {"affixes": False, "ngrams": 0, "embedding": 6, "dropout": 0.2, "length": LONGEST, **MODELS[name]}


def pair(name: str, dropout: float | None = None, **training: Any) -> tuple[Any, Any]:
    facts = {"vocabulary": VOCABULARY, "classes": CLASSES[: 2 if name.startswith("one logit") else 3]}
    model = settings(name) if dropout is None else {**settings(name), "dropout": dropout}
    return tuple(  # type: ignore[return-value]
        learner("text_classifier", framework, facts, model, **training) for framework in FRAMEWORKS
    )


def words() -> Any:
    """A table of words: the first three without affixes, the last three unknown."""
    ids = np.append(np.arange(1, VOCABULARY - 2), [1, 1, 1])
    places = np.arange(len(AFFIXES)) * BUCKETS
    affixes = np.random.default_rng(4).integers(0, BUCKETS, (VOCABULARY, len(AFFIXES))) + places
    affixes[:3] = NO_AFFIX
    return np.concatenate([ids[:, None], affixes], 1).astype(np.int32)


def batch(one: Any) -> Mapping[str, Any]:
    """Texts of all lengths, in no order; the class is in one of their words."""
    classes = one.classes
    draw = np.random.default_rng(3)
    lengths = draw.permutation(np.arange(ROWS) % LONGEST + 1)
    x = np.where(np.arange(LONGEST) < lengths[:, None], draw.integers(5, VOCABULARY + 1, (ROWS, LONGEST)), 0)
    y = np.arange(ROWS) % classes
    x[:, 0] = y + 2
    tokens = x.astype(np.int32)
    return {"x": WordNumbers.of(tokens, words()) if one.model.affixes else tokens, "y": y.astype(np.int64)}


@pytest.mark.parametrize("name", MODELS)
def test_same_weights_and_batch_give_the_same_outputs_loss_and_gradients(name: str) -> None:
    torch, tensorflow = pair(name, optimizer="sgd", augment=["word_dropout", "word_replacement"])
    theirs = tensorflow.weights()
    for key, array in torch.weights().items():
        np.testing.assert_array_equal(array, theirs[key], err_msg=key)
    # Where activations are not linear; the recurrences stay, because larger ones amplify roundings.
    larger = {key: array if key.endswith("weight_hh") else 4 * array for key, array in theirs.items()}
    for one in (torch, tensorflow):
        one.load_weights(larger)
    data = batch(torch)
    np.testing.assert_allclose(torch.predict(data["x"], 5), tensorflow.predict(data["x"], 5), rtol=1e-4, atol=1e-6)
    for one in (torch, tensorflow):
        one.set_data(data)
    wanted, found = gradients(torch, ROWS), gradients(tensorflow, ROWS)
    assert wanted.keys() == found.keys() == torch.weights().keys()
    for key in wanted:
        assert close(found[key], wanted[key]), key
        assert np.abs(wanted[key]).max() > 0, key
    assert torch.read_metrics() == pytest.approx(tensorflow.read_metrics(), rel=1e-4)
    assert torch.evaluate(data, 5) == pytest.approx(tensorflow.evaluate(data, 4), rel=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_a_prediction_depends_on_its_own_text_alone(name: str) -> None:
    """Neither on the other texts of its batch, nor on the padding, nor on the order of the rows."""
    draw = np.random.default_rng(8)
    for one in pair(name):
        noise = {key: draw.normal(0, 0.3, array.shape) for key, array in one.weights().items() if "ngrams" in key}
        one.load_weights({key: (array + noise.get(key, 0)).astype(np.float32) for key, array in one.weights().items()})
        x = batch(one)["x"]
        wanted = one.predict(x, 5)
        assert wanted.shape == (ROWS, one.classes)
        np.testing.assert_allclose(wanted.sum(axis=1), 1, atol=1e-5)
        alone = np.concatenate([one.predict(row[None, : np.count_nonzero(row)], 1) for row in x])
        np.testing.assert_allclose(alone, wanted, atol=1e-6)
        np.testing.assert_allclose(one.predict(x[::-1], 5)[::-1], wanted, atol=1e-6)
        wider = np.concatenate([x, np.zeros_like(x)], axis=1)
        wider = WordNumbers.of(wider.view(np.ndarray), x.table) if one.model.affixes else wider
        np.testing.assert_allclose(one.predict(wider, 12), wanted, atol=1e-6)
        assert one.predict(x[:0], 5).shape == (0, one.classes)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("name", ["attention over two bidirectional gru", "one logit", "mean of words and affixes"])
def test_it_learns_which_word_tells_the_class(framework: str, name: str) -> None:
    one = pair(name, learning_rate=0.02, optimizer="adam")[FRAMEWORKS.index(framework)]
    data = batch(one)
    one.set_data(data)
    before = one.evaluate(data, 5)["loss"]
    for step in range(80):
        one.train_step(np.arange(ROWS), step)
    after = one.evaluate(data, 5)
    assert after["loss"] < 0.3 * before
    assert after["accuracy"] == 1.0
    assert (one.predict(data["x"], 5).argmax(axis=1) == data["y"]).all()


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("name", ["attention over embeddings", "one logit"])
def test_a_smoothed_label_counts_for_all_classes_in_training_only(framework: str, name: str) -> None:
    one = pair(name, dropout=0.0)[FRAMEWORKS.index(framework)]
    share, data = one.model.label_smoothing, batch(one)
    assert share > 0
    told = np.log(one.predict(data["x"], 5).astype(np.float64))
    of_label = -told[np.arange(ROWS), data["y"]]
    assert one.evaluate(data, 5)["loss"] == pytest.approx(of_label.mean(), rel=1e-5)
    one.set_data(data)
    one.train_step(np.arange(ROWS), 0)
    assert one.read_metrics()["loss"] == pytest.approx(((1 - share) * of_label - share * told.mean(1)).mean(), rel=1e-4)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_affixes_alone_tell_unknown_words_apart(framework: str) -> None:
    one = pair("attention over words and affixes")[FRAMEWORKS.index(framework)]
    table = words()
    x = WordNumbers.of(np.array([[28], [29], [1], [2]], np.int32), table)
    found = one.predict(x, 4)
    assert np.abs(found[0] - found[1]).max() > 1e-4, "both are `<unk>`"
    same = WordNumbers.of(np.array([[28], [1]], np.int32), np.where(np.arange(6) == 0, table, NO_AFFIX))
    np.testing.assert_allclose(one.predict(same, 4), found[[2, 2]], atol=1e-6)
    weights = one.weights()
    one.load_weights({**weights, "affixes.weight": 2 * weights["affixes.weight"]})
    again = one.predict(x, 4)
    np.testing.assert_allclose(again[2:], found[2:], atol=1e-6, err_msg="bare words have none")
    assert np.abs(again[:2] - found[:2]).max(axis=1).min() > 1e-4
    with pytest.raises(ValueError, match="WordNumbers"):
        one.predict(np.array([[1]], np.int32), 4)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_bfloat16_products_are_near_those_of_float32(framework: str) -> None:
    name = "attention over two bidirectional gru"
    at = FRAMEWORKS.index(framework)
    exact, rounded = pair(name)[at], pair(name, precision="bfloat16")[at]
    data = batch(exact)
    for one in (exact, rounded):
        one.set_data(data)
        one.train_step(np.arange(ROWS), 0)
    losses = [one.read_metrics()["loss"] for one in (exact, rounded)]
    assert losses[0] == pytest.approx(losses[1], rel=2e-2)
    assert losses[0] != losses[1]


@pytest.mark.parametrize(
    ("fields", "precision", "is_rounded"),
    [
        ({}, "auto", True),
        ({"preset": "simple-rnn-100"}, "auto", False),
        ({"preset": "lstm-2x50"}, "auto", False),
        ({"preset": "lstm-2x50", "activation": "tanh"}, "auto", True),
        ({"preset": "lstm-2x50"}, "bfloat16", True),
    ],
)
def test_only_cells_that_gain_compute_in_native_bfloat16_by_themselves(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], precision: str, is_rounded: bool
) -> None:
    import torch

    from worker.training.backends import torch_support

    monkeypatch.setattr(torch_support, "native_bfloat16", lambda device: True)
    facts = {"vocabulary": VOCABULARY, "classes": CLASSES[:2]}
    one = learner("text_classifier", "torch", facts, {"embedding": 6, **fields}, precision=precision)
    assert (one.computed is torch.bfloat16) is is_rounded

"""The CNN in torch and in TensorFlow is one model: each framework is the other's oracle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from tests.support.frameworks import FRAMEWORKS, close, gradients, learner
from worker.families.cnn.family import PRESETS

pytest.importorskip("torch")
pytest.importorskip("tensorflow")
from worker.families.cnn.tensorflow_learner import TensorflowCnn
from worker.families.cnn.tensorflow_pixels import augmentations

ROWS = 12
#: Every preset at its own size, the large one made small, and each normalisation.
MODELS: dict[str, dict[str, Any]] = {
    **{name: {"preset": name} for name in PRESETS if name != "cats-vs-dogs"},
    "cats-vs-dogs": {"preset": "cats-vs-dogs", "image_size": (38, 34), "filters": [4, 8, 6], "dense": [10]},
    "batch norm": {"image_size": (20, 23), "filters": [4, 6], "pool": [True, False], "normalization": "batch"},
    "layer norm": {"image_size": (20, 23), "filters": [4, 6], "pool": [True, False], "normalization": "layer"},
    "dense twice": {"image_size": (12, 14), "filters": [3], "pool": [True], "dense": [7, 5], "image_channels": 3},
    "separable": {"image_size": (12, 14), "filters": [3, 4], "pool": [True, False], "convolution": "separable"},
    "averages": {
        "image_size": (12, 14), "filters": [3], "pool": [True], "pooling": "average", "activation": "tanh",
        "padding": "same", "loss": "mean_squared_error", "l1": 0.001, "l2": 0.01, "normalization": "layer",
    },
}  # fmt: skip


def pair(model: Mapping[str, Any], **training: Any) -> tuple[Any, Any]:
    return tuple(learner("cnn", framework, facts(model), model, **training) for framework in FRAMEWORKS)  # type: ignore[return-value]


def facts(model: Mapping[str, Any]) -> dict[str, Any]:
    return {"classes": ["cat", "dog"] if model.get("preset") == "cats-vs-dogs" else [str(i) for i in range(10)]}


def batch(learner: Any) -> dict[str, Any]:
    draw = np.random.default_rng(7)
    shape = (ROWS, *learner.model.image_size, learner.model.image_channels)
    return {
        "x": draw.integers(0, 256, shape).astype(np.uint8),
        "y": draw.integers(0, len(facts({"preset": learner.model.preset})["classes"]), ROWS),
    }


@pytest.mark.parametrize("name", MODELS)
def test_same_weights_and_batch_give_the_same_outputs_loss_and_gradients(name: str) -> None:
    torch, tensorflow = pair(MODELS[name], optimizer="sgd")
    data = batch(torch)
    assert torch.weights().keys() == tensorflow.weights().keys()
    theirs = tensorflow.weights()
    for key, array in torch.weights().items():
        np.testing.assert_array_equal(array, theirs[key], err_msg=key)
    np.testing.assert_allclose(torch.predict(data["x"], 5), tensorflow.predict(data["x"], 5), rtol=1e-4, atol=1e-6)
    for one in (torch, tensorflow):
        one.set_data(data)
    wanted, found = gradients(torch, ROWS), gradients(tensorflow, ROWS)
    assert wanted.keys() == found.keys()
    assert torch.read_metrics() == pytest.approx(tensorflow.read_metrics(), rel=1e-4)
    for key in wanted:
        if torch.model.normalization == "batch" and key.startswith("conv") and key.endswith("bias"):
            continue  # what follows takes any constant out again: this gradient is nothing but rounding
        assert close(found[key], wanted[key]), key
    theirs = tensorflow.weights()
    for key, array in torch.weights().items():
        np.testing.assert_allclose(theirs[key], array, rtol=1e-4, atol=1e-6, err_msg=key)


@pytest.mark.parametrize("name", ["mnist-1conv", "cats-vs-dogs", "batch norm", "separable", "averages"])
def test_what_one_framework_trained_the_other_predicts_with(name: str) -> None:
    torch, tensorflow = pair(MODELS[name], learning_rate=0.01)
    data = batch(torch)
    for trained, other in ((torch, tensorflow), (tensorflow, torch)):  # the second goes on from what the first learned
        trained.set_data(data)
        for step in range(3):
            trained.train_step(np.arange(ROWS), step)
        assert np.abs(trained.predict(data["x"], 8) - other.predict(data["x"], 8)).max() > 1e-2
        other.load_weights(trained.weights())
        np.testing.assert_allclose(other.predict(data["x"], 8), trained.predict(data["x"], 8), atol=1e-4)
        assert other.evaluate(data, 5) == pytest.approx(trained.evaluate(data, 5), rel=1e-4)


@pytest.mark.parametrize("augment", [["shift"], ["rotate"], ["flip"], ["erase"], ["shift", "rotate", "flip", "erase"]])
def test_augmentation_moves_the_same_picture_by_the_same_amount(augment: list[str]) -> None:
    plain, _ = pair(MODELS["dense twice"], optimizer="sgd")
    torch, tensorflow = pair(MODELS["dense twice"], optimizer="sgd", augment=augment)
    for one in (plain, torch, tensorflow):
        one.set_data(batch(torch))
    without, wanted, found = (gradients(one, ROWS) for one in (plain, torch, tensorflow))
    assert not close(wanted["conv0.weight"], without["conv0.weight"], 1e-2)
    for key in wanted:
        assert close(found[key], wanted[key], 1e-3), key


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_network_gets_the_same_pictures_in_both_frameworks_at_every_precision(precision: str) -> None:
    model = {**MODELS["dense twice"], "image_size": (64, 64)}  # bfloat16 would move these by a tenth of a pixel
    torch, tensorflow = pair(model, augment=["shift", "rotate", "flip", "erase"], precision=precision)
    wanted, found = (_pictures(one) for one in (torch, tensorflow))
    np.testing.assert_allclose(found, wanted.transpose(0, 2, 3, 1), atol=1e-3)


def _pictures(learner: Any) -> Any:
    """Return the augmented pictures that the network reads in a training step."""
    seen: list[Any] = []
    forward = learner._forward

    def watched(x: Any, *rest: Any) -> Any:
        seen.append(x)
        return forward(x, *rest)

    learner._forward = watched
    data = batch(learner)
    if isinstance(learner, TensorflowCnn):  # without its graph, whose values cannot be looked at
        drawn = augmentations(learner.training.augment, learner.training.seed, 3, ROWS, learner.model.image_size)
        learner._step(data["x"], data["y"], np.float32(0.1), [], drawn)
    else:
        learner.set_data(data)
        learner.train_step(np.arange(ROWS), 3)
    return seen[0].numpy()


def test_weights_of_another_shape_are_refused_by_name() -> None:
    small, large = ({"image_size": (12, 12), "filters": [3], "pool": [True], "dense": [n]} for n in (4, 5))
    for one, other in zip(pair(small), pair(large), strict=True):
        with pytest.raises(ValueError, match=r"dense0\.weight"):
            one.load_weights(other.weights())

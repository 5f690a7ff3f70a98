"""What the CNN family needs no framework for: its data, its measures, its figures."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nightshift.families.learner import Splits
from nightshift.families.training import Training
from shared.datasets.builtins import digits
from shared.datasets.ingest.build import ImageSource, ImageSplit, store_images
from shared.errors import BadData
from worker.families.cnn import augmentation, data, evaluation, plots, weights
from worker.families.cnn.family import PRESETS, CnnModel


def model(**fields: Any) -> CnnModel:
    return CnnModel.model_validate(fields)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return store_images(tmp_path_factory.mktemp("datasets"), digits()).folder


# -- data -----------------------------------------------------------------------------------------


def test_digits_come_in_the_models_size_and_are_resized_once(stored: Path) -> None:
    splits = data.load_splits(stored, model(), Training(validation_split=0.1))
    assert splits.test is not None
    assert splits.validation is not None
    assert splits.train["x"].shape[1:] == (28, 28, 1)
    assert splits.train["x"].dtype == np.uint8
    assert splits.length + len(splits.validation["y"]) == len(splits.train["y"])
    assert splits.facts["classes"] == [str(i) for i in range(10)]
    cached = stored / "resized-28x28x1" / "train_x.npy"
    before = cached.stat().st_mtime_ns
    again = data.load_splits(stored, model(), Training())
    assert np.array_equal(again.train["x"], splits.train["x"])
    assert cached.stat().st_mtime_ns == before


def test_validation_rows_are_not_trained_on_and_follow_from_the_seed(stored: Path) -> None:
    one, same, other = (
        data.load_splits(stored, model(image_size=(8, 8), filters=[2], pool=[True]), Training(seed=seed))
        for seed in (1, 1, 2)
    )
    assert one.rows is not None
    assert same.rows is not None
    assert other.rows is not None
    assert one.rows.tolist() == same.rows.tolist() != other.rows.tolist()
    held_out = np.setdiff1d(np.arange(len(one.train["y"])), one.rows)
    assert one.validation is not None
    assert np.array_equal(one.validation["x"], one.train["x"][held_out])


def test_no_validation_part_is_no_validation_part(stored: Path) -> None:
    splits = data.load_splits(stored, model(), Training(validation_split=0.0))
    assert splits.validation is None
    assert splits.length == len(splits.train["y"])


def test_large_sets_stay_on_the_disk(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = data.load_splits(stored, model(), Training())
    monkeypatch.setattr(data, "IN_MEMORY_BYTES", 1000)
    mapped = data.load_splits(stored, model(), Training())
    assert isinstance(mapped.train["x"], np.memmap)
    assert isinstance(mapped.validation["x"], data.RowView)  # type: ignore[index]
    assert np.array_equal(mapped.validation["x"][3:9], whole.validation["x"][3:9])  # type: ignore[index]
    assert len(mapped.validation["y"]) == len(whole.validation["y"])  # type: ignore[index]


def test_a_sigmoid_needs_two_classes(stored: Path) -> None:
    with pytest.raises(BadData, match="the data set has 10"):
        data.load_splits(stored, model(output="sigmoid"), Training())


def test_a_valid_part_of_the_sets_own_is_used(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, 6, 6, 1), np.uint8)
    part = ImageSplit(np.arange(12) % 2, lambda: iter([images]))
    folder = store_images(
        tmp_path, ImageSource(["a", "b"], (6, 6, 1), {"train": part, "valid": part, "test": part})
    ).folder
    splits = data.load_splits(folder, model(image_size=(6, 6), filters=[2], pool=[True]), Training())
    assert splits.length == 12
    assert splits.validation is not None
    assert np.array_equal(splits.validation["x"], images)


@pytest.mark.parametrize("size", [(28, 28), (5, 7), (8, 3), (16, 30)])
def test_resizing_is_what_pillow_does(size: tuple[int, int]) -> None:
    images = np.random.default_rng(1).integers(0, 256, (4, 11, 13, 1), np.uint8)
    found = data.fit(images, (*size, 1))
    for ours, image in zip(found, images, strict=True):
        wanted = Image.fromarray(image[..., 0]).resize(size[::-1], Image.Resampling.BILINEAR)
        assert np.abs(ours[..., 0].astype(int) - np.asarray(wanted)).max() <= 2


def test_colours_become_grey_and_grey_becomes_colours() -> None:
    colours = np.random.default_rng(1).integers(0, 256, (3, 6, 6, 3), np.uint8)
    grey = data.fit(colours, (6, 6, 1))
    for ours, image in zip(grey, colours, strict=True):
        assert np.abs(ours[..., 0].astype(int) - np.asarray(Image.fromarray(image).convert("L"))).max() <= 1
    assert np.array_equal(data.fit(grey, (6, 6, 3)), np.repeat(grey, 3, axis=3))


# -- weights and augmentation ---------------------------------------------------------------------


def test_weights_of_the_first_preset() -> None:
    found = weights.initial(model(), 10, seed=0)
    assert {name: array.shape for name, array in found.items()} == {
        "conv0.weight": (32, 1, 3, 3), "conv0.bias": (32,), "conv1.weight": (64, 32, 3, 3), "conv1.bias": (64,),
        "conv2.weight": (64, 64, 3, 3), "conv2.bias": (64,), "dense0.weight": (64, 576), "dense0.bias": (64,),
        "output.weight": (10, 64), "output.bias": (10,),
    }  # fmt: skip
    assert sum(array.size for array in found.values()) == 93_322
    assert not found["conv1.bias"].any()
    assert found["conv1.weight"].std() == pytest.approx((2 / (32 * 9)) ** 0.5, rel=0.05)


def spans(**fields: Any) -> dict[str, float]:
    """The largest value of each kernel."""
    found = weights.initial(model(**fields), 10, seed=0)
    return {name: float(np.abs(array).max()) for name, array in found.items() if array.ndim > 1}


HE = {"conv0.weight": (6 / 9) ** 0.5, "conv1.weight": (6 / 288) ** 0.5, "dense0.weight": (6 / 576) ** 0.5}
GLOROT = {"conv0.weight": (6 / 297) ** 0.5, "conv1.weight": (6 / 864) ** 0.5, "dense0.weight": (6 / 640) ** 0.5}
OUTPUT = {"output.weight": (6 / 74) ** 0.5}


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"preset": "mnist-3conv-tuned"}, HE), ({"preset": "mnist-3conv"}, GLOROT),
        ({"preset": "mnist-3conv-tuned", "activation": "tanh"}, GLOROT),
        ({"preset": "mnist-3conv-tuned", "activation": "sigmoid"}, GLOROT),
        ({"preset": "mnist-3conv", "initialization": "he"}, HE),
        # As Keras counts: a depthwise kernel [kh, kw, in, 1] has kh * kw * (in + 1) of both.
        ({"preset": "mnist-3conv", "convolution": "separable"},
         {"conv1.depthwise": (6 / (9 * 33)) ** 0.5, "conv1.pointwise": (6 / 96) ** 0.5}),
        ({"preset": "mnist-3conv-tuned", "convolution": "separable"},
         {"conv1.depthwise": (3 / 9) ** 0.5, "conv1.pointwise": (6 / 32) ** 0.5}),
    ],
    ids=str,
)  # fmt: skip
def test_kernels_begin_uniform_in_the_range_of_their_initialization(
    fields: dict[str, Any], wanted: dict[str, float]
) -> None:
    found = spans(**fields)
    for name, limit in (wanted | OUTPUT).items():
        assert 0.97 * limit < found[name] <= limit * (1 + 1e-6), name


def test_initial_weights_of_earlier_versions_stay_bit_for_bit() -> None:
    found = weights.initial(model(), 10, seed=0)
    joined = b"".join(found[name].tobytes() for name in sorted(found))
    assert hashlib.sha256(joined).hexdigest()[:16] == "6eee3af7e8cd8467"


def test_a_stored_model_of_an_earlier_version_is_what_it_was() -> None:
    old = {
        "family": "cnn", "framework": "torch", "preset": "mnist-2conv", "image_size": [20, 20], "image_channels": 1,
        "filters": [8, 16], "kernel_size": 3, "pool": [True, False], "normalization": "batch", "dense": [12],
        "dropout": 0.1, "output": "softmax",
    }  # fmt: skip
    stored = CnnModel.model_validate_json(json.dumps(old))
    assert CnnModel.model_validate_json(stored.model_dump_json()) == stored
    found = stored.model_dump(mode="json")
    assert {name: found[name] for name in old} == old
    assert {name: value for name, value in found.items() if name not in old} == {
        "convolution": "standard", "padding": "valid", "pooling": "max", "activation": "relu", "loss": "cross_entropy",
        "l1": 0.0, "l2": 0.0, "initialization": "he",
    }  # fmt: skip


# -- layers ---------------------------------------------------------------------------------------


def rows_of(found: CnnModel, classes: int) -> list[tuple[Any, ...]]:
    layers = found.layers({"classes": [str(n) for n in range(classes)]})
    return [(layer.name, layer.kind, layer.shape, layer.parameters, layer.fixed) for layer in layers]


def test_layers_of_the_first_listing() -> None:
    assert rows_of(model(preset="mnist-3conv"), 10) == [
        ("input", "image", (28, 28, 1), 0, 0),
        ("conv0", "convolution 3x3, relu", (26, 26, 32), 320, 0),
        ("pool0", "max pooling 2x2", (13, 13, 32), 0, 0),
        ("conv1", "convolution 3x3, relu", (11, 11, 64), 18_496, 0),
        ("pool1", "max pooling 2x2", (5, 5, 64), 0, 0),
        ("conv2", "convolution 3x3, relu", (3, 3, 64), 36_928, 0),
        ("flatten", "flatten", (576,), 0, 0),
        ("dense0", "dense, relu", (64,), 36_928, 0),
        ("output", "dense, softmax", (10,), 650, 0),
    ]


def test_layers_of_a_model_with_every_option() -> None:
    found = model(
        image_size=(9, 8), image_channels=3, filters=[4, 6], pool=[True, False], kernel_size=2, convolution="separable",
        padding="same", pooling="average", normalization="batch", activation="tanh", dense=[5], dropout=0.25,
        output="sigmoid",
    )  # fmt: skip
    assert rows_of(found, 2) == [
        ("input", "image", (9, 8, 3), 0, 0),
        ("conv0", "separable convolution 2x2", (9, 8, 4), 12 + 12 + 4, 0),
        ("norm0", "batch normalization, tanh", (9, 8, 4), 8, 8),
        ("pool0", "average pooling 2x2", (4, 4, 4), 0, 0),
        ("conv1", "separable convolution 2x2", (4, 4, 6), 16 + 24 + 6, 0),
        ("norm1", "batch normalization, tanh", (4, 4, 6), 12, 12),
        ("flatten", "flatten", (96,), 0, 0),
        ("dense0", "dense, tanh", (5,), 485, 0),
        ("dropout0", "dropout 0.25", (5,), 0, 0),
        ("output", "dense, sigmoid", (1,), 6, 0),
    ]


@pytest.mark.parametrize("preset", PRESETS)
def test_layers_have_all_weights(preset: str) -> None:
    one = model(preset=preset)
    classes = one.expected_facts(None)["classes"]
    assert len(classes) == (2 if preset == "cats-vs-dogs" else 10)
    counted = sum(layer.parameters + layer.fixed for layer in one.layers({"classes": classes}))
    assert counted == sum(math.prod(shape) for shape in weights.shapes(one, len(classes)).values())


def test_layers_are_those_of_the_data_sets_classes() -> None:
    facts = model().expected_facts({"kind": "image", "classes": ["a", "b", "c"], "splits": {}})
    assert model().layers(facts)[-1].shape == (3,)


def test_augmentation_moves_no_further_than_it_says_and_repeats_by_step() -> None:
    theta = augmentation.affine(["shift"], 0, 3, 500)
    assert theta is not None
    assert np.array_equal(theta[:, :, :2], np.broadcast_to(np.eye(2, dtype=np.float32), (500, 2, 2)))
    assert 0.15 < np.abs(theta[:, :, 2]).max() <= 0.2
    turned = augmentation.affine(["rotate", "flip"], 0, 3, 500)
    assert turned is not None
    determinant = np.linalg.det(turned[:, :, :2])
    assert np.allclose(np.abs(determinant), 1, atol=1e-5)
    assert 0.4 < (determinant < 0).mean() < 0.6
    assert np.array_equal(theta, augmentation.affine(["shift"], 0, 3, 500))
    assert not np.array_equal(theta, augmentation.affine(["shift"], 0, 4, 500))
    assert augmentation.affine(["erase"], 0, 3, 5) is None


def test_erased_boxes_lie_in_the_picture() -> None:
    top, bottom, left, right = augmentation.erase_boxes(0, 0, 300, 10, 20).T
    assert ((top >= 0) & (top < bottom) & (bottom <= 10) & (left >= 0) & (left < right) & (right <= 20)).all()
    assert ((bottom - top) * (right - left)).max() <= 0.4 * 0.4 * 200


# -- measures and figures -------------------------------------------------------------------------


def judged(rows: int = 40, classes: int = 3) -> Any:
    draw = np.random.default_rng(0)
    labels = np.arange(rows) % classes
    probabilities = draw.dirichlet(np.ones(classes), rows).astype(np.float32)
    probabilities[np.arange(rows), labels] += 1
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    pictures = draw.integers(0, 256, (rows, 8, 8, 1), np.uint8)
    return evaluation.evaluated(probabilities, labels, ["$a_", "_b", "a long name"][:classes], pictures)


class Constant:
    """A learner that predicts the same for every image."""

    def predict(self, inputs: Any, batch_size: int) -> Any:
        return np.tile(np.float32([0.5, 0.3, 0.2]), (len(inputs), 1))


@pytest.mark.parametrize("loss", ["cross_entropy", "mean_squared_error"])
def test_a_model_of_another_loss_is_measured_by_it_too(loss: str) -> None:
    test = {"x": np.zeros((2, 8, 8, 1), np.uint8), "y": np.array([0, 2])}
    splits = Splits(test, None, test, {"classes": ["a", "b", "c"]}, 2)
    learner: Any = Constant()
    found = evaluation.report(learner, splits, model(loss=loss), Training())
    assert found.metrics["test_loss"] == pytest.approx(-(np.log(0.5) + np.log(0.2)) / 2)
    assert found.document["metrics"] == found.metrics
    if loss == "cross_entropy":
        assert "test_mean_squared_error" not in found.metrics
    else:
        errors = (0.25 + 0.09 + 0.04) + (0.25 + 0.09 + 0.64)
        assert found.metrics["test_mean_squared_error"] == pytest.approx(errors / 6)


def test_mistakes_lead_the_grid() -> None:
    arrays = judged().arrays
    wrong = arrays["labels"] != arrays["predicted"]
    assert len(wrong) == 25
    assert wrong.sum() == 0 or wrong[: wrong.sum()].all()


@pytest.mark.parametrize("rows", [40, 3])
def test_figures_are_drawn_whatever_classes_are_called(tmp_path: Path, rows: int) -> None:
    history = {"loss": [[1, 2.0], [2, 1.0]], "val_loss": [[2, 1.5]], "accuracy": [[1, 0.2], [2, 0.4]]}
    paths = plots.draw(judged(rows), history, tmp_path, best_step=2)
    assert [path.name for path in paths] == ["curves.png", "confusion_matrix.png", "roc.png", "predictions.png"]
    for path in paths:
        with Image.open(path) as image:
            assert min(image.size) > 300
            assert len(np.unique(np.asarray(image.convert("L")))) > 20

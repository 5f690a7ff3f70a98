"""What the CNN family needs no framework for: its data, its measures, its figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nightshift.families.training import Training
from shared.datasets.builtins import digits
from shared.datasets.ingest.build import ImageSource, ImageSplit, store_images
from shared.errors import BadData
from worker.families.cnn import augmentation, data, evaluation, plots, weights
from worker.families.cnn.family import CnnModel


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

"""A whole GAN job: sheets of every epoch, the best model by distance, scores of a judge that both frameworks share."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nightshift.families.learner import Splits
from nightshift.testing.attempts import outcome
from nightshift.testing.datasets import store_digits, store_tale
from shared.datasets.store import open_dataset
from shared.errors import BadData
from tests.support.training import CASES, attempt
from worker.families.gan.data import load_splits as load
from worker.families.gan.feature_extractor import extractor_model, load_extractor
from worker.families.gan.per_epoch import start

CASE = CASES["gan-torch"]


@pytest.fixture(scope="module")
def data_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return store_digits(tmp_path_factory.mktemp("datasets"))


def kept(data_set: Path) -> Path:
    return data_set / "judge1-8x8x1" / "judge.safetensors"


def test_a_job_leaves_scores_and_a_sheet_of_every_epoch(data_set: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    spec = CASE.spec(epochs=3, batch_size=64)
    assert attempt(spec, tmp_path / "job", data_set) == 0
    result, root = outcome(tmp_path / "job"), tmp_path / "job" / "artifacts"
    scores = {name: result["metrics"][name] for name in ("frechet_distance", "precision", "recall")}
    document = json.loads((root / "evaluation.json").read_text())
    assert document["metrics"] == scores
    assert document["rows"] == open_dataset(data_set).count("test")
    assert document["judge"]["test_accuracy"] > 0.8
    # Pictures of the training part are nearer to the test part than what three epochs of so small a GAN make.
    assert document["reference"]["frechet_distance"] < scores["frechet_distance"] / 3
    assert document["reference"]["precision"] > scores["precision"]
    sheets = sorted(path.name for path in (root / "samples").iterdir())
    assert sheets == ["epoch-001.png", "epoch-002.png", "epoch-003.png"]
    distances = rows(tmp_path / "job", "val_frechet_distance")
    assert len(distances) == 3
    best = 1 + min(range(3), key=lambda i: distances[i])
    assert pixels(root / "samples.png") == pixels(root / "samples" / f"epoch-{best:03}.png")


def rows(folder: Path, name: str) -> list[float]:
    points = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [point["value"] for point in points if point["name"] == name]


def pixels(path: Path) -> bytes:
    with Image.open(path) as image:
        return image.tobytes()


def test_without_a_validation_part_the_last_model_is_the_result(data_set: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    spec = CASE.spec(epochs=2, batch_size=64, validation_split=0.0, early_stopping=None)
    assert attempt(spec, tmp_path / "job", data_set) == 0
    assert not rows(tmp_path / "job", "val_frechet_distance")
    root = tmp_path / "job" / "artifacts"
    assert pixels(root / "samples.png") == pixels(root / "samples" / "epoch-002.png")
    assert outcome(tmp_path / "job")["metrics"]["frechet_distance"] > 0


def test_both_frameworks_look_with_the_same_eyes(tmp_path: Path) -> None:
    for framework in ("torch", "tensorflow"):
        pytest.importorskip(framework)
    splits = CASE.load_splits(store_digits(tmp_path))
    assert splits.test is not None
    first, second = (load_extractor(splits, framework, "cpu") for framework in ("torch", "tensorflow"))
    assert first is not None
    assert second is not None
    assert first.accuracy == second.accuracy > 0.8
    seen, again = (judge.features(splits.test["x"]) for judge in (first, second))
    assert seen.shape == (len(splits.test["x"]), 64)
    np.testing.assert_allclose(again, seen, rtol=1e-4, atol=1e-3)


def test_a_judge_is_the_same_for_every_job_that_trains_it(data_set: Path, tmp_path: Path) -> None:
    """It depends on the data alone: not on the job's seed, nor on what it holds out."""
    pytest.importorskip("torch")
    first = load_extractor(CASE.load_splits(data_set), "torch", "cpu")
    assert first is not None
    elsewhere = store_digits(tmp_path)
    second = load_extractor(CASE.load_splits(elsewhere, seed=9, validation_split=0.5), "torch", "cpu")
    assert second is not None
    assert kept(elsewhere).read_bytes() == kept(data_set).read_bytes()


def test_told_to_stop_the_judge_keeps_nothing_and_is_called_again(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    data_set = store_digits(tmp_path / "datasets")
    splits = CASE.load_splits(data_set)
    said: list[str] = []
    job = CASE.job()
    learner: Any = CASE.build(splits)
    after = start(learner, splits, job.model, job.training, tmp_path / "job", lambda: True, said.append)  # type: ignore[arg-type]
    assert "feature extractor" in said[0]
    assert not kept(data_set).exists()
    assert after(1)["val_frechet_distance"] > 0
    assert kept(data_set).exists()


@pytest.mark.parametrize("image", [(4, 4, 1), (8, 5, 3), (28, 28, 1), (64, 96, 3), (300, 200, 3)])
def test_there_is_a_judge_for_every_size(image: tuple[int, int, int]) -> None:
    height, width, _ = extractor_model(image, "torch").feature_map()
    assert min(height, width) < 7


def test_one_class_has_a_judge_too(data_set: Path) -> None:
    pytest.importorskip("torch")
    whole: Splits = CASE.load_splits(data_set)
    ones = {"x": whole.train["x"][:64], "y": np.zeros(64, np.int64)}
    judge = load_extractor(
        replace(whole, train=ones, test=None, facts={**whole.facts, "classes": ["one"]}, folder=None), "torch", "cpu"
    )
    assert judge is not None
    assert np.isfinite(judge.features(ones["x"])).all()


def test_a_text_is_refused(tmp_path: Path) -> None:
    job = CASE.job()
    with pytest.raises(BadData, match="needs a data set of images"):
        load(store_tale(tmp_path), job.model, job.training)  # type: ignore[arg-type]

"""The scores of samples against what is known of them, and the sheets they are shown on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nightshift.families.learner import Array
from worker.families.gan import scores
from worker.families.gan.plots import GAP, collect_epochs, draw_epoch, grid
from worker.families.gan.scores import Manifold, frechet_distance, precision_recall


def cloud(n: int, d: int = 4, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((n, d))


def test_the_distance_of_gaussians_is_the_formula() -> None:
    a = cloud(500)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, a + np.array([3, 0, 4, 0])) == pytest.approx(25)
    spread_twice = (a - a.mean(axis=0)) * 2 + a.mean(axis=0)  # tr(C + 4C - 2 * 2C) = tr C
    assert frechet_distance(a, spread_twice) == pytest.approx(np.trace(np.cov(a.T)))


def test_the_distance_agrees_with_scipy() -> None:
    linalg = pytest.importorskip("scipy.linalg")
    a, b = cloud(300), cloud(300, seed=1) @ cloud(4, seed=2) + 1
    mixed = linalg.sqrtm(np.cov(a.T) @ np.cov(b.T)).real
    wanted = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * mixed)
    assert frechet_distance(a, b) == pytest.approx(wanted)
    assert frechet_distance(b, a) == pytest.approx(wanted)


def test_fewer_rows_than_features_have_a_distance() -> None:
    assert np.isfinite(frechet_distance(cloud(3, 20), cloud(2, 20, seed=1)))


def test_precision_and_recall_tell_apart_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "CHUNK", 70)
    left, right = cloud(200), cloud(200, seed=1) + np.array([50, 0, 0, 0])
    real = np.concatenate([left, right])
    same = np.concatenate([cloud(200, seed=2), cloud(200, seed=3) + np.array([50, 0, 0, 0])])
    precision, recall = precision_recall(Manifold(real), Manifold(same))
    assert min(precision, recall) > 0.8
    only_left = cloud(400, seed=4)  # half of what there is: all look real, half is missing
    precision, recall = precision_recall(Manifold(real), Manifold(only_left))
    assert precision > 0.8
    assert recall == pytest.approx(0.5, abs=0.1)
    nowhere = cloud(400, seed=5) + np.array([0, 900, 0, 0])
    assert precision_recall(Manifold(real), Manifold(nowhere)) == (0.0, 0.0)


def test_a_neighbourhood_reaches_to_the_third_neighbour() -> None:
    real = np.arange(10.0)[:, None]  # 0 … 9: the third neighbour of 9 is 6, of 5 are two at distance 2
    assert Manifold(real).share_inside(np.array([[11.9]] * 4)) == 1.0
    assert Manifold(real).share_inside(np.array([[12.1]] * 4)) == 0.0


def test_balls_far_from_zero_reach_as_far() -> None:
    far = Manifold(np.arange(10.0)[:, None] + 1e6)  # float32 has steps of 0.06 there
    assert far.share_inside(np.array([[1e6 + 11.99], [1e6 + 12.01]])) == 0.5


@pytest.mark.parametrize("rows", [0, 3])
def test_too_few_points_have_no_manifold(rows: int) -> None:
    assert Manifold(cloud(rows)).share_inside(cloud(5)) == 0.0
    assert Manifold(cloud(9)).share_inside(cloud(0)) == 0.0


def test_a_sheet_shows_every_sample_once() -> None:
    samples = np.arange(10, dtype=np.uint8)[:, None, None, None] * np.ones((1, 40, 30, 3), np.uint8)
    sheet = np.asarray(grid(samples))
    assert sheet.shape == (2 * (80 + GAP) + GAP, 8 * (60 + GAP) + GAP, 3)
    assert [int((sheet[..., 0] == i).sum()) for i in range(10)] == [80 * 60] * 10
    assert sheet[GAP, GAP, 0] == 0
    assert sheet[2 * GAP + 80, 2 * GAP + 60, 0] == 9


def test_a_resumed_job_has_the_sheets_of_all_its_epochs(tmp_path: Path) -> None:
    samples = np.zeros((4, 6, 6, 1), np.uint8)
    for epoch in (1, 2, 3):
        draw_epoch(samples, tmp_path / "job", epoch)
    found = collect_epochs(tmp_path / "job", tmp_path / "artifacts", 2)
    assert [path.relative_to(tmp_path).as_posix() for path in found] == [
        "artifacts/samples/epoch-001.png", "artifacts/samples/epoch-002.png"
    ]  # fmt: skip
    assert all(path.stat().st_size for path in found)

"""Figures, looked at: nothing is cut off at the border, and what they show has its color."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from PIL import Image

from nightshift.families.learner import Evaluation
from worker.families.cnn import plots as cnn
from worker.families.mlp import plots as mlp
from worker.families.tagger import plots as tagger
from worker.training import plots
from worker.training.charts import BLUE, GREEN, ORANGE, RED, Panel, draw_row
from worker.training.classification.evaluation import evaluate
from worker.training.classification.plots import draw_confusion, draw_roc

#: Class names of few and many letters, narrow and wide ones, and more of them than are named in a figure.
NAMES = {
    "short": list("0123456789"),
    "long": [f"a rather long name of class number {number}" for number in range(20)],
    "wide": ["MW" * 30, "$W^2$ " * 4],
    "many": [f"a rather long name of class number {number}" for number in range(40)],
}


def pixels(path: Path) -> Any:
    return np.asarray(Image.open(path).convert("RGB"))


def colored(found: Any, color: str) -> int:
    """Return the number of pixels of about this color."""
    wanted = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)])
    return int((np.abs(found.astype(int) - wanted).max(axis=2) < 40).sum())


def is_whole(path: Path) -> bool:
    """Tell whether the outermost pixels are white: nothing is cut off."""
    found = pixels(path)
    return all((line == 255).all() for line in (found[0], found[-1], found[:, 0], found[:, -1]))


def document(names: list[str]) -> dict[str, Any]:
    rows = 10 * len(names)
    labels, scores = np.arange(rows) % len(names), np.random.default_rng(0).random((rows, len(names)))
    scores[np.arange(rows), labels] += 0.5
    return evaluate(scores / scores.sum(axis=1, keepdims=True), labels, names).document


def predictions(names: list[str], shape: tuple[int, int, int]) -> Evaluation:
    arrays = {
        "pictures": np.full((2, *shape), 128, np.uint8),
        "labels": np.array([0, 1]),
        "predicted": np.array([0, 0]),
        "confidence": np.array([0.5, 1.0]),
    }
    return Evaluation({}, {"classes": names}, arrays)


# -- curves ---------------------------------------------------------------------------------------


def test_a_curve_of_one_point_is_seen(tmp_path: Path) -> None:
    path = plots.draw_curves({"loss": [[1, 0.5]], "val_loss": [[1, 0.7]]}, tmp_path / "curves.png", best_step=1)
    found = pixels(path)[44:]  # below the legend
    assert colored(found, BLUE) > 10
    assert colored(found, ORANGE) > 10
    assert colored(found, GREEN) > 50


@pytest.mark.parametrize(
    "values", [[float("inf"), 1.0], [float("nan")], [1e300, -1e300], [0.0, 0.0], [1e-7, 9e-7], [1e9, 1e9 + 3]]
)
def test_curves_of_any_numbers_have_room(tmp_path: Path, values: list[float]) -> None:
    history = {"loss": list(map(list, enumerate(values, 10**7)))}
    assert is_whole(plots.draw_curves(history, tmp_path / "curves.png"))


def test_a_curve_ends_at_the_limits_of_its_panel(tmp_path: Path) -> None:
    panel = Panel("limits", xlim=(0, 1), ylim=(0, 1))
    panel.curve([-5, 5], [0.5, 0.5], RED)
    chart, (box,) = draw_row([panel], 400, 300)
    found = pixels(chart.save(tmp_path / "limits.png"))
    left, right = round(box.left), round(box.right)
    assert colored(found[:, left:right], RED) >= right - left
    assert colored(found[:, : left - 1], RED) == colored(found[:, right + 1 :], RED) == 0


def test_drawing_leaves_the_settings_of_matplotlib(tmp_path: Path) -> None:
    """Programs that draw run in processes with these modules loaded."""
    before = dict(matplotlib.rcParams)
    plots.draw_curves({"loss": [[1, 0.5]]}, tmp_path / "curves.png")
    assert dict(matplotlib.rcParams) == before
    assert before["text.parse_math"]


# -- classifiers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_figures_of_a_classifier_have_room_for_names(tmp_path: Path, names: list[str]) -> None:
    drawn = document(names)
    assert is_whole(draw_confusion(drawn, tmp_path / "confusion.png"))
    assert is_whole(draw_roc(drawn, tmp_path / "roc.png"))
    assert is_whole(cnn.draw_predictions(predictions(names, (3, 3, 1)), tmp_path / "predictions.png"))


def test_names_that_no_font_has_are_drawn(tmp_path: Path) -> None:
    assert is_whole(draw_confusion(document(["a\nb\0", ""]), tmp_path / "c.png"))


def test_a_dollar_does_not_begin_a_formula(tmp_path: Path) -> None:
    """As a formula it would be no wider than `x2`."""
    width = [pixels(draw_confusion(document([name, "a"]), tmp_path / "c.png")).shape[1] for name in ("x2", "$x^2$")]
    assert width[0] + 10 < width[1]


def test_pictures_of_any_size_fit_their_place(tmp_path: Path) -> None:
    for shape in ((1, 1, 1), (300, 200, 3), (8, 30, 1)):
        found = pixels(cnn.draw_predictions(predictions(["one", "two"], shape), tmp_path / "p.png"))
        gray = (np.abs(found.astype(int) - 128).max(axis=2) < 2).sum()
        assert gray > 0.8 * 2 * 170**2 * min(shape[:2]) / max(shape[:2])
        assert colored(found, RED) > 1_000


def test_many_classes_are_drawn(tmp_path: Path) -> None:
    counts = np.eye(300, dtype=int).tolist()
    many = {"confusion_matrix": counts, "classes": list(map(str, range(300))), "metrics": {"test_accuracy": 1.0}}
    assert max(pixels(draw_confusion(many, tmp_path / "c.png")).shape) < 2_000


# -- numbers and entities -------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 6_000])
def test_figures_of_numbers_have_room(tmp_path: Path, rows: int) -> None:
    wanted = 1e6 * np.random.default_rng(0).normal(size=rows)
    metrics = {"test_mae": 123_456.7, "test_rmse": 1.234e-17, "test_r2": 0.5}
    report = Evaluation(metrics, {}, {"predicted": wanted + 0.125, "wanted": wanted})
    path = mlp.draw_residuals(report, tmp_path / "residuals.png")
    assert is_whole(path)
    assert colored(pixels(path), BLUE) > 20


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_the_figure_of_entities_has_room_for_names(tmp_path: Path, names: list[str]) -> None:
    rows = [{"entity": name, "precision": 1.0, "recall": 0.0, "f1": 0.5, "support": 10_000} for name in names]
    path = tagger.draw_entities({"per_entity": rows, "metrics": {"f1_entity": 0.5}}, tmp_path / "entities.png")
    assert is_whole(path)
    assert all(colored(pixels(path), color) > 50 for color in (BLUE, GREEN))

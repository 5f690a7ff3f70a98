"""Figures, looked at: where a value lies, what is written, and which pixels have its color."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nightshift.families.learner import Evaluation
from worker.training import plots
from worker.training.canvas import Canvas
from worker.training.classification.plots import draw_confusion
from worker.training.plots import BLUE, GREEN, ORANGE, RED, Panel


def pixels(canvas: Canvas, path: Path) -> Any:
    return np.asarray(Image.open(canvas.save(path)).convert("RGB"))


def colored(found: Any, color: str) -> Any:
    """Return [rows, columns] of the pixels of about this color."""
    wanted = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)])
    return np.argwhere(np.abs(found.astype(int) - wanted).max(axis=2) < 40)


def test_a_point_lies_where_its_axes_say(tmp_path: Path) -> None:
    canvas = Canvas(400, 300)
    panel = Panel(canvas, (0, 0, 400, 300), (0.0, 10.0), (0.0, 1.0), title="t", xlabel="x", ylabel="y")
    panel.dots([2.5], [0.75], RED, 8)
    (row, column), (left, bottom, width, height) = (
        colored(pixels(canvas, tmp_path / "a.png"), RED).mean(0),
        panel.inside,
    )
    assert abs(column - (left + 0.25 * width)) < 1.5
    assert abs(row - (300 - bottom - 0.75 * height)) < 1.5


def test_a_line_does_not_leave_its_axes(tmp_path: Path) -> None:
    canvas = Canvas(400, 300)
    panel = Panel(canvas, (0, 0, 400, 300), (0.0, 1.0), (0.0, 1.0))
    panel.line([-5, 5], [-5, 5], RED)
    rows, columns = colored(pixels(canvas, tmp_path / "a.png"), RED).T
    left, bottom, width, height = panel.inside
    assert left - 2 <= columns.min() < columns.max() <= left + width + 2
    assert bottom - 2 <= 300 - rows.max() < 300 - rows.min() <= bottom + height + 2


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (1e-7, 9e-7), (1e6, 1e6 + 3), (-5e9, 5e9)])
def test_ticks_are_different_numbers_inside(low: float, high: float) -> None:
    found = plots.ticks(low, high, 6)
    assert 2 <= len(found) <= 8
    assert len({text for _, text in found}) == len(found)
    for place, text in found:
        assert low <= place <= high
        assert float(text.replace("−", "-")) == pytest.approx(place, rel=1e-6, abs=(high - low) * 1e-3)


def test_steps_are_whole() -> None:
    assert [text for _, text in plots.ticks(0.95, 1.05, 6, whole=True)] == ["1"]


def test_a_curve_of_one_point_is_seen(tmp_path: Path) -> None:
    path = plots.draw_curves({"loss": [[1, 0.5]], "val_loss": [[1, 0.7]]}, tmp_path / "curves.png", best_step=1)
    found = np.asarray(Image.open(path).convert("RGB"))[32:]  # below the legend
    assert len(colored(found, BLUE)) > 10
    assert len(colored(found, ORANGE)) > 10
    assert len(colored(found, GREEN)) > 50


@pytest.mark.parametrize("values", [[float("inf"), 1.0], [float("nan")], [1e300, -1e300], [0.0, 0.0]])
def test_curves_of_any_numbers_are_drawn(tmp_path: Path, values: list[float]) -> None:
    history = {"loss": list(map(list, enumerate(values, 1)))}
    assert plots.draw_curves(history, tmp_path / "curves.png").stat().st_size > 1_000


def test_a_confusion_matrix_has_room_for_any_names(tmp_path: Path) -> None:
    """Long names make the picture larger; characters that no font has are no error."""
    sizes = []
    for names in (["a", "b"], ["$x^2$ " * 4, "a\nb\0"], ["n" * 500, ""]):
        document = {"confusion_matrix": [[3, 1], [0, 0]], "classes": names, "metrics": {"test_accuracy": 0.75}}
        path = draw_confusion(document, tmp_path / "c.png")
        sizes.append(Image.open(path).size)
    assert sizes[0] < sizes[1] < sizes[2]
    assert max(sizes[2]) < 1_500


def test_many_classes_are_drawn(tmp_path: Path) -> None:
    counts = np.eye(300, dtype=int).tolist()
    document = {"confusion_matrix": counts, "classes": list(map(str, range(300))), "metrics": {"test_accuracy": 1.0}}
    with Image.open(draw_confusion(document, tmp_path / "c.png")) as image:
        assert max(image.size) < 2_000


def test_pictures_of_any_size_fit_their_place(tmp_path: Path) -> None:
    from worker.families.cnn.plots import draw_predictions

    for shape in ((1, 1, 1), (300, 200, 3), (8, 30, 1)):
        arrays = {
            "pictures": np.full((2, *shape), 128, np.uint8),
            "labels": np.array([0, 1]),
            "predicted": np.array([0, 0]),
            "confidence": np.array([0.5, 1.0]),
        }
        report = Evaluation({}, {"classes": ["one", "two"]}, arrays)
        found = np.asarray(Image.open(draw_predictions(report, tmp_path / "p.png")).convert("RGB"))
        gray = (np.abs(found.astype(int) - 128).max(axis=2) < 2).sum()
        assert gray > 0.7 * 2 * 170**2 * min(shape[0], shape[1]) / max(shape[0], shape[1])
        assert len(colored(found, RED)) > 1_000

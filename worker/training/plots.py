"""Learning curves of any family, and names in figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from nightshift.metrics import PANELS, chart_title, curve_label
from worker.training.charts import BLUE, DPI, GREEN, ORANGE, Chart, Panel, draw_row

History = Mapping[str, Sequence[Sequence[float]]]

#: Width of the panel of a metric, and its height.
_WIDTH, _HEIGHT = 5.2 * DPI, 3.6 * DPI
#: Characters shown of a name.
_MOST_LETTERS = 40


def draw_curves(history: History, path: Path, best_step: int | None = None) -> Path:
    """Draw one panel per kind of metric recorded; the step of the best model is marked."""
    return chart_of(history, best_step).save(path)


def chart_of(history: History, best_step: int | None) -> Chart:
    """Return the chart of learning curves."""
    parts = [(chart_title(names[0]), [name for name in names if history.get(name)]) for names in PANELS]
    parts = [(title, names) for title, names in parts if names] or [("loss", [])]
    panels = [_panel(title, names, history, best_step) for title, names in parts]
    return draw_row(panels, _WIDTH * len(panels), _HEIGHT)[0]


def _panel(title: str, names: list[str], history: History, best_step: int | None) -> Panel:
    panel = Panel(title, xlabel="step", whole=True)
    for name, color in zip(names, (BLUE, ORANGE), strict=False):
        steps, values = zip(*history[name], strict=True)
        # A line of one point would not be seen.
        marker = "o" if name.startswith("val_") or len(steps) == 1 else "none"
        panel.curve(steps, values, color, marker=marker, markersize=4)
        panel.legend.append((curve_label(name), color, False))
    if best_step is not None:
        panel.across("x", best_step, GREEN)
        panel.legend += [("best model", GREEN, True)] if names else []
    return panel


def shown(name: str) -> str:
    """Return a name for a figure: in one line, and shortened if it is long."""
    name = "".join(letter if letter.isprintable() else " " for letter in name)
    return name if len(name) <= _MOST_LETTERS else name[: _MOST_LETTERS - 1] + "…"

"""Files beside the evaluation of a tagger: curves, confusion matrix, F1 of each entity type, worst sentences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nightshift.families.learner import Evaluation
from worker.training.canvas import Canvas
from worker.training.classification.plots import draw_confusion
from worker.training.plots import BLUE, GREEN, INK, ORANGE, Entry, History, Panel, draw_curves, shown

#: Entity types in the figure: those with most entities.
MOST_TYPES = 30


def draw(report: Evaluation, history: History, folder: Path, best_step: int | None = None) -> list[Path]:
    """Write the figures and `worst_sentences.txt` into `folder` and return their paths."""
    paths = [draw_curves(history, folder / "curves.png", best_step)] if history else []
    if not report.document:
        return paths
    paths.append(draw_confusion(report.document, folder / "confusion_matrix.png"))
    if report.document.get("per_entity"):
        paths.append(draw_entities(report.document, folder / "entities.png"))
    return [*paths, write_worst(report.document, folder / "worst_sentences.txt")]


def draw_entities(document: dict[str, Any], path: Path) -> Path:
    """Draw precision, recall and F1 of each entity type."""
    rows = sorted(document["per_entity"], key=lambda row: -row["support"])[:MOST_TYPES]
    canvas = Canvas(900, 140 + 66 * len(rows))
    panel = Panel(
        canvas,
        (0, 0, canvas.width, canvas.height),
        (0.0, 1.12),
        (len(rows) - 0.4, -0.6),
        title=f"entities · F1 {document['metrics']['f1_entity']:.4f}",
        xlabel="share",
        yticks=[(float(number), f"{shown(row['entity'])} ({row['support']:,})") for number, row in enumerate(rows)],
    )
    colors = {"precision": BLUE, "recall": ORANGE, "f1": GREEN}
    for place, (name, color) in enumerate(colors.items()):
        for number, row in enumerate(rows):
            _draw_bar(panel, number + 0.26 * (place - 1), row[name], color)
    panel.legend_in_head([Entry(name, color) for name, color in colors.items()])
    return canvas.save(path)


def _draw_bar(panel: Panel, y: float, share: float, color: str) -> None:
    (left, right), (top, bottom) = panel.across([0, share]), panel.along([y - 0.12, y + 0.12])
    panel.canvas.box(left, bottom, right - left, top - bottom, fill=color)
    panel.canvas.text(right + 5, (top + bottom) / 2, f"{share:.3f}", 7, INK, along="middle")


def write_worst(document: dict[str, Any], path: Path) -> Path:
    """Write the worst sentences in columns: token, tag, and the predicted tag where it is another one."""
    worst = document["worst_sentences"]
    head = f"the {len(worst)} sentences of the test part with errors and the largest loss: token, tag, predicted\n"
    parts = [f"── loss {one['loss']:.3f} · row {one['row']}\n{_columns(one)}" for one in worst]
    path.write_text("\n".join([head if worst else "no errors on the test part\n", *parts]), encoding="utf-8")
    return path


def _columns(one: dict[str, Any]) -> str:
    widths = [max(map(len, one[name])) for name in ("tokens", "tags")]
    rows = zip(one["tokens"], one["tags"], one["predicted"], strict=True)
    return "".join(
        f"{token:{widths[0]}}  {tag:{widths[1]}}  {found if found != tag else ''}".rstrip() + "\n"
        for token, tag, found in rows
    )

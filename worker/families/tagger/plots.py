"""Files beside the evaluation of a tagger: curves, confusion matrix, F1 of each entity type, worst sentences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nightshift.families.learner import Evaluation
from worker.training.charts import BLUE, DPI, GREEN, ORANGE, Panel, draw_row
from worker.training.classification.plots import draw_confusion
from worker.training.plots import History, draw_curves, shown

#: Entity types in the figure: those with most entities.
MOST_TYPES = 30
_WIDTH = 7.5 * DPI


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
    title = f"entities · F1 {document['metrics']['f1_entity']:.4f}"
    names = {float(place): f"{shown(row['entity'])} ({row['support']:,})" for place, row in enumerate(rows)}
    panel = Panel(title, "share", xlim=(0, 1.12), ylim=(len(rows) - 0.4, -0.6), yticks=names)
    colors = {"precision": BLUE, "recall": ORANGE, "f1": GREEN}
    for number, (name, color) in enumerate(colors.items()):
        panel.legend.append((name, color, False))
        for place, row in enumerate(rows):
            middle = place + 0.26 * (number - 1)
            panel.bar(0, row[name], middle + 0.12, middle - 0.12, color, f"{row[name]:.3f}")
    return draw_row([panel], _WIDTH, (1.2 + 0.55 * len(rows)) * DPI)[0].save(path)


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

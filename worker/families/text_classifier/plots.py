"""Files beside the evaluation of a classifier of text: the figures of any classifier, and its mistakes to read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nightshift.families.learner import Evaluation
from worker.training.classification import plots as classification
from worker.training.plots import History


def draw(report: Evaluation, history: History, folder: Path, best_step: int | None = None) -> list[Path]:
    """Write the figures and `mistakes.txt` into `folder` and return their paths."""
    paths = classification.draw(report, history, folder, best_step)
    return [*paths, write_mistakes(report.document, folder / "mistakes.txt")] if report.document else paths


def write_mistakes(document: dict[str, Any], path: Path) -> Path:
    """Write the surest mistakes, the surest one first: what was predicted, how surely, what it is, and the text."""
    mistakes = document["mistakes"]
    head = f"the {len(mistakes)} surest mistakes on the test part\n" if mistakes else "no mistakes on the test part\n"
    parts = [
        f"── {one['probability']:.1%} {one['predicted']}, is {one['class']} · row {one['row']}\n{one['text']}\n"
        for one in mistakes
    ]
    path.write_text("\n".join([head, *parts]), encoding="utf-8")
    return path

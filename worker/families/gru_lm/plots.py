"""Plots of a language model: learning curves, and text samples to read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nightshift.families.learner import Evaluation
from worker.families.gru_lm.evaluation import TEMPERATURE, TOP_K
from worker.training.plots import History, draw_curves


def draw(report: Evaluation, history: History, folder: Path, best_step: int | None = None) -> list[Path]:
    """Write `samples.txt`, and `curves.png` if there is a history, and return their paths."""
    curves = [draw_curves(history, folder / "curves.png", best_step)] if history else []
    return [*curves, write_samples(report.document, folder / "samples.txt")]


def write_samples(document: dict[str, Any], path: Path) -> Path:
    """Write each sample after its prompt, which ends at the mark."""
    head = f"temperature {TEMPERATURE}, of the {TOP_K} likeliest tokens; given from the test part up to the mark ⟫\n"
    parts = [f"── {i} {'─' * 72}\n{one['prompt']}⟫{one['text']}\n" for i, one in enumerate(document["samples"], 1)]
    path.write_text("\n".join([head, *parts]), encoding="utf-8")
    return path

"""Caches that a forkserver fills; otherwise each runner would, which takes much of a small job's time."""

from __future__ import annotations

import io
import mimetypes

import numpy as np

from worker.training.classification.evaluation import evaluate
from worker.training.plots import chart_of


def fill() -> None:
    """Load fonts, image formats, types of files, and what scikit-learn looks up. Starts no thread."""
    mimetypes.init()
    evaluate(np.eye(2, dtype=np.float32), np.array([0, 1]), ["a", "b"])
    chart_of({"loss": [[0, 0.0], [1, 1.0]]}, 1).write(io.BytesIO())

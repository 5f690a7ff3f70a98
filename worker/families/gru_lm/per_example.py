"""Per-example scores of a language model: one example is one window."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from nightshift.families.learner import Array, Learner
from worker.families.gru_lm.data import TextSplits
from worker.families.gru_lm.evaluation import BATCH_SIZE
from worker.families.gru_lm.family import GruLmModel


def examples(learner: Learner, splits: TextSplits, model: GruLmModel) -> WindowScores:
    """Return the loss of each window of the test part, or of the training part if there is none."""
    windows = (splits.test or splits.train)["windows"]
    losses = -learner.predict(windows, BATCH_SIZE).astype(np.float64).mean(axis=1)
    return WindowScores(losses, windows.shape[1] - 1, splits.stream.folder.name)


@dataclass(frozen=True)
class WindowScores:
    """Losses [n] in nats per token, the mean of each window."""

    losses: Array
    window: int
    #: Name of the token stream: equal for the same text in the same tokens.
    stream: str
    rows: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", len(self.losses))

    def incomparable(self, other: WindowScores) -> str | None:
        if self.stream != other.stream:
            return "their tokenizers differ, so scores per token mean different things; fine-tuning keeps the tokenizer"
        return "their windows differ" if self.window != other.window else None

    def score(self, metric: str) -> float:
        return float(self.resampled(metric, np.ones((1, self.rows)))[0])

    def resampled(self, metric: str, counts: Array) -> Array:
        loss = np.asarray(counts @ self.losses / counts.sum(axis=1))
        with np.errstate(over="ignore"):
            return np.exp(loss) if metric == "test_perplexity" else loss

"""What is known of metrics by their name: which is better, and what a figure is a mean over."""

from __future__ import annotations

from typing import Literal

#: Curves with a point every few steps: means over the steps since the point before, of weights that changed with each. They
#: say where a run is, never what it came to. Results that were written before there were `train_…` hold the last point.
OF_STEPS = frozenset({"loss", "accuracy", "perplexity", "g_loss", "d_loss", "learning_rate", "samples_per_second"})
#: What such a point is called where figures of whole runs are.
LAST_STEPS = "last batches"
#: The one figure a finished job is known by: the first of these that it has.
HEADLINES = (
    "test_accuracy", "test_perplexity", "frechet_distance", "test_loss",
    "val_accuracy", "val_perplexity", "val_frechet_distance", "val_loss",
    "train_accuracy", "train_perplexity", "train_loss",
)  # fmt: skip
_FALLING = ("loss", "perplexity", "distance", "error")
_RISING = ("accuracy", "precision", "recall", "f1", "auc")
#: The losses of players against each other: that one falls says nothing of the pictures.
_NEITHER = ("g_loss", "d_loss")

#: Which of two values is the better one.
Sense = Literal["max", "min"]


def sense(name: str) -> Sense | None:
    """Which is better of a metric, as its name says; None: neither."""
    if name.endswith(_NEITHER):
        return None
    if any(word in name for word in _FALLING):
        return "min"
    return "max" if any(word in name for word in _RISING) else None


def result_sense(name: str) -> Sense | None:
    """Which is better where whole runs or models are compared; None: neither, or it is no figure of a whole run."""
    return None if name in OF_STEPS else sense(name)


def label(name: str) -> str:
    """What a figure is called among those of whole runs: `test_loss`, but `loss (last batches)`."""
    return f"{name} ({LAST_STEPS})" if name in OF_STEPS else name

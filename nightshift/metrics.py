"""The table of metrics: label, better side, order, the curves of steps, and the headline of a job.

The API, the workers, the commands and the pages read these facts here; no other module repeats them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

#: Which of two values is the better one.
Sense = Literal["max", "min"]

#: Prefixes of a metric's name: the part of the data that it is measured on, the most telling part first.
PARTS = ("test_", "val_", "train_")


@dataclass(frozen=True)
class Metric:
    """A metric, on any part of the data or as a mean over classes (`f1_macro`)."""

    label: str
    #: None: neither. A falling loss of one network of a GAN says nothing about its images.
    better: Sense | None = None
    #: For curves with a point every few steps: the label of the curve in its chart.
    curve: str | None = None


METRICS: Mapping[str, Metric] = {
    "loss": Metric("loss", "min", curve="training"),
    "accuracy": Metric("accuracy", "max", curve="training"),
    "perplexity": Metric("perplexity", "min", curve="training"),
    "g_loss": Metric("loss", curve="generator"),
    "d_loss": Metric("loss", curve="discriminator"),
    "frechet_distance": Metric("Fréchet distance", "min"),
    "precision": Metric("precision", "max"),
    "recall": Metric("recall", "max"),
    "f1": Metric("F1", "max"),
    "auc": Metric("area under the ROC curve", "max"),
    "learning_rate": Metric("learning rate", curve="training"),
    "samples_per_second": Metric("samples per second", curve="training"),
}

#: Curves with a point every few steps: means over the steps since the point before, of weights that changed with each.
#: They tell where a run is, never its result. Results written before there were `train_…` hold the last point.
OF_STEPS = frozenset(name for name, metric in METRICS.items() if metric.curve)
#: The label of such a point among metrics of whole runs.
LAST_STEPS = "last batches"
#: The headline of a finished job: the first of these metrics that it has.
HEADLINES = (
    "test_accuracy", "test_perplexity", "frechet_distance", "test_loss",
    "val_accuracy", "val_perplexity", "val_frechet_distance", "val_loss",
    "train_accuracy", "train_perplexity", "train_loss",
)  # fmt: skip
#: The curve of a job's sparkline: the first of these that it has.
MAIN_CURVES = ("loss", "g_loss", "val_loss", "samples_per_second")
#: Curves that share a chart, in the order of the charts.
PANELS: tuple[tuple[str, ...], ...] = (
    ("loss", "val_loss"),
    ("g_loss", "d_loss"),
    ("accuracy", "val_accuracy"),
    ("perplexity", "val_perplexity"),
    ("val_frechet_distance",),
)
#: Metrics whose curves share a chart on pages, with and without a part before the name; these charts come first.
CHARTS = ("loss", "accuracy", "perplexity")
#: How fast a run goes, never one of its results; charts of these come last.
PACE = ("learning_rate", "samples_per_second")
#: The same curves, those of training first.
CURVES = tuple(sorted((name for panel in PANELS for name in panel), key=lambda name: name.startswith("val_")))


def metric_of(name: str) -> Metric | None:
    """Return the row of `METRICS` for `val_loss`, `f1_macro`, …; None for an unknown metric."""
    for part in PARTS:
        name = name.removeprefix(part)
    return METRICS.get(name) or METRICS.get(name.partition("_")[0])


def sense(name: str) -> Sense | None:
    """Return which side is better; None: neither, or not known."""
    metric = metric_of(name)
    return metric.better if metric else None


def result_sense(name: str) -> Sense | None:
    """Return which side is better between whole runs or models; None for curves of steps, too."""
    return None if name in OF_STEPS else sense(name)


def label(name: str) -> str:
    """Return the label among metrics of whole runs: `test_loss`, but `loss (last batches)`."""
    return f"{name} ({LAST_STEPS})" if name in OF_STEPS else name


def curve_label(name: str) -> str:
    """Return the label of a curve in its chart: `training`, `validation`, `generator`."""
    metric = metric_of(name)
    return "validation" if name.startswith("val_") else (metric and metric.curve) or name


def chart_title(name: str) -> str:
    """Return the title of a curve's chart."""
    metric = metric_of(name)
    return metric.label if metric else name


def facts() -> dict[str, Sequence[str] | str]:
    """Return the table for the scripts of the pages in Flower (static/js/figures.js)."""
    return {
        "ofSteps": sorted(OF_STEPS),
        "lastSteps": LAST_STEPS,
        "headlines": HEADLINES,
        "lowerIsBetter": _with(better="min"),
        "higherIsBetter": _with(better="max"),
        "neither": tuple(name for name in _with(better=None) if name not in PACE),
        "fractions": _with(better="max"),
        "pace": PACE,
        "charts": CHARTS,
        "parts": PARTS,
    }


def _with(*, better: Sense | None) -> tuple[str, ...]:
    return tuple(name for name, metric in METRICS.items() if metric.better == better)

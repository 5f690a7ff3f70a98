"""The table of metrics: label, better side, order, the curves of steps, and the headline of a job.

The API, the workers, the commands and the pages read these facts here; no other module repeats them. Installed
plug-ins add theirs by `declare` when a process starts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

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


#: The built-in metrics.
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
    "r2": Metric("R²", "max"),
    "mae": Metric("mean absolute error", "min"),
    "rmse": Metric("root mean squared error", "min"),
    "learning_rate": Metric("learning rate", curve="training"),
    "samples_per_second": Metric("samples per second", curve="training"),
}

#: Curves with a point every few steps: means over the steps since the point before, of weights that changed with each.
#: They tell where a run is, never its result. Results written before there were `train_…` hold the last point.
#: `is_of_steps` knows those of plug-ins, too.
OF_STEPS = frozenset(name for name, metric in METRICS.items() if metric.curve)
#: The label of such a point among metrics of whole runs.
LAST_STEPS = "last batches"
#: The headline of a finished job: the first of these metrics that it has.
HEADLINES = (
    "f1_entity", "test_accuracy", "test_perplexity", "frechet_distance", "test_r2", "test_loss",
    "val_accuracy", "val_perplexity", "val_frechet_distance", "val_r2", "val_loss",
    "train_accuracy", "train_perplexity", "train_loss",
)  # fmt: skip
#: The built-in curves of a job's sparkline, the most telling one first.
MAIN_CURVES = ("loss", "g_loss", "val_loss", "samples_per_second")
#: Curves that share a chart, in the order of the charts.
PANELS: tuple[tuple[str, ...], ...] = (
    ("loss", "val_loss"),
    ("g_loss", "d_loss"),
    ("accuracy", "val_accuracy"),
    ("perplexity", "val_perplexity"),
    ("val_frechet_distance",),
    ("val_r2",),
    ("val_mae",),
)
#: Metrics of which 1 is the best value but that are no shares, so not shown as percentages.
NO_SHARES = ("r2",)
#: Metrics whose curves share a chart on pages, with and without a part before the name; these charts come first.
CHARTS = ("loss", "accuracy", "perplexity")
#: How fast a run goes, never one of its results; charts of these come last.
PACE = ("learning_rate", "samples_per_second")
#: The same curves, those of training first.
CURVES = tuple(sorted((name for panel in PANELS for name in panel), key=lambda name: name.startswith("val_")))


#: Names that can be declared: those of metric rows that columns and charts can show.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.@-]{0,63}")
#: The metrics that plug-ins have declared, by plug-in and by name without its part.
_declared: dict[str, dict[str, Metric]] = {}


def declare(owner: str, metrics: Mapping[str, Metric]) -> None:
    """Add the metrics of a plug-in (`program gbm`) to the table, in place of those that it declared before.

    A name holds with and without each part: `test_r2` declares `r2`, `val_r2` and `train_r2`, too. A built-in
    metric, or one of another plug-in, may be declared with the same facts. Raises ValueError for other facts, naming
    both, and for a bad name; the table is unchanged then.
    """
    found: dict[str, Metric] = {}
    for name, metric in metrics.items():
        base = _without_part(name)
        if not _NAME.fullmatch(name):
            raise ValueError(f"{owner}: a metric's name is a letter and at most 63 of A-Z, 0-9, _.@-; not {name!r}")
        others = {owner: found, **{other: theirs for other, theirs in _declared.items() if other != owner}}
        for other, theirs in others.items():
            if theirs.get(base, metric) != metric:
                raise ValueError(_conflict(owner, base, metric, other, theirs[base]))
        if _redefines(base, metric):
            raise ValueError(_conflict(owner, base, metric, "Nightshift", _built_in(base)))
        found[base] = metric
    _declared[owner] = found


def _redefines(base: str, metric: Metric) -> bool:
    """Return whether the facts differ from those of the built-in metric of this name (`f1`) or family (`f1_macro`)."""
    known = _built_in(base)
    if known is None or known.better != metric.better:
        return known is not None
    return base in METRICS and (metric.label != known.label or metric.curve not in (None, known.curve))


def _conflict(owner: str, name: str, metric: Metric, other: str, theirs: Metric | None) -> str:
    return f"{owner} declares the metric {name} as {metric}, but {other} has it as {theirs}; give it another name"


def _without_part(name: str) -> str:
    for part in PARTS:
        name = name.removeprefix(part)
    return name


def _built_in(base: str) -> Metric | None:
    return METRICS.get(base) or METRICS.get(base.partition("_")[0])


def _own(base: str) -> Metric | None:
    """Return a plug-in's metric."""
    return next((metrics[base] for metrics in _declared.values() if base in metrics), None)


def metric_of(name: str) -> Metric | None:
    """Return the row of the table for `val_loss`, `f1_macro`, …; None for an unknown metric."""
    base = _without_part(name)
    return METRICS.get(base) or _own(base) or _built_in(base)


def is_of_steps(name: str) -> bool:
    """Return whether a metric is a mean over a few steps and so not a result of the run."""
    own = _own(name)
    return name in OF_STEPS or bool(own and own.curve)


def sense(name: str) -> Sense | None:
    """Return which side is better; None: neither, or not known."""
    metric = metric_of(name)
    return metric.better if metric else None


def result_sense(name: str) -> Sense | None:
    """Return which side is better between whole runs or models; None for curves of steps, too."""
    return None if is_of_steps(name) else sense(name)


def label(name: str) -> str:
    """Return the label among metrics of whole runs: `test_loss`, but `loss (last batches)`."""
    return f"{name} ({LAST_STEPS})" if is_of_steps(name) else name


def headline(measured: Mapping[str, object]) -> str | None:
    """Return the metric that a finished job is known by, or None.

    That is the first of `HEADLINES` that it has; else one that a plug-in has declared, of data it has not seen first;
    else any that is measured on the test or validation part.
    """
    figures = [name for name, value in measured.items() if isinstance(value, int | float)]
    usual = (name for name in HEADLINES if name in figures)
    own = (name for part in (*PARTS[:2], "") for name in figures if name.startswith(part) and _is_own_result(name))
    unseen = (name for part in PARTS[:2] for name in figures if name.startswith(part))
    return next(chain(usual, own, unseen), None)


def main_curves() -> tuple[str, ...]:
    """Return the curves that a job's sparkline can be of: the first of these that the job has."""
    own = (name for metrics in _declared.values() for name in metrics if name not in METRICS)
    return (*MAIN_CURVES, *(part + name for name in own for part in ("", "val_")))


def _is_own_result(name: str) -> bool:
    return _own(_without_part(name)) is not None and result_sense(name) is not None


def curve_label(name: str) -> str:
    """Return the label of a curve in its chart: `training`, `validation`, `generator`."""
    metric = metric_of(name)
    return "validation" if name.startswith("val_") else (metric and metric.curve) or name


def chart_title(name: str) -> str:
    """Return the title of a curve's chart."""
    metric = metric_of(name)
    return metric.label if metric else name


def facts() -> dict[str, Any]:
    """Return the table for the scripts of the pages in Flower (static/js/figures.js)."""
    rows = (row for metrics in _declared.values() for row in metrics.items())
    own = {name: metric for name, metric in rows if name not in METRICS}
    return {
        "ofSteps": sorted({*OF_STEPS, *(name for name, metric in own.items() if metric.curve)}),
        "lastSteps": LAST_STEPS,
        "headlines": HEADLINES,
        "lowerIsBetter": _with(better="min"),
        "higherIsBetter": _with(better="max"),
        "neither": tuple(name for name in _with(better=None) if name not in PACE),
        "fractions": tuple(name for name in _with(better="max") if name not in NO_SHARES),
        "pace": PACE,
        "charts": CHARTS,
        "parts": PARTS,
        "declared": {name: {"label": metric.label, "better": metric.better} for name, metric in own.items()},
    }


def _with(*, better: Sense | None) -> tuple[str, ...]:
    return tuple(name for name, metric in METRICS.items() if metric.better == better)

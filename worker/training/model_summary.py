"""The summary of a job's model: `summary.txt`, and the same as data beside the weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nightshift.families.fields import ModelSpec
from nightshift.families.layers import Layer
from nightshift.families.learner import Array
from nightshift.families.summary import FILE, differing, document, frozen, of_weights, table
from worker.training.artifacts import write_json


def write(
    root: Path, model: ModelSpec, weights: Mapping[str, Array], facts: Mapping[str, Any], log: Callable[..., None]
) -> list[Path]:
    """Write both files and return their paths. `facts` are those of the learner."""
    text = root / "summary.txt"
    found = of_learner(model, weights, facts, log)
    text.write_text(table(found), encoding="utf-8")
    return [text, write_json(root / FILE, found)]


def of_learner(
    model: ModelSpec, weights: Mapping[str, Array], facts: Mapping[str, Any], log: Callable[..., None]
) -> dict[str, Any]:
    """Return the summary: the layers that the family declares, else a row for each weight.

    Layers that raise an error or differ from the weights are logged and not shown; the model itself is as good as ever.
    """
    layers, why = _declared(model, weights, facts)
    if why is not None:
        log(f"the summary lists weights, because layers() of the family {model.family} is wrong: {why}", "warning")
    rows = "weights" if layers is None else "layers"
    shown = of_weights(weights) if layers is None else layers
    return document(model, rows, frozen(shown, tuple(facts.get("frozen") or ())), facts)


def _declared(
    model: ModelSpec, weights: Mapping[str, Array], facts: Mapping[str, Any]
) -> tuple[Sequence[Layer] | None, str | None]:
    try:
        layers = model.layers(facts)
        why = None if layers is None else differing(layers, weights)
    except Exception as error:  # an own family's code must not fail a job that has trained
        return None, f"{type(error).__name__}: {error}"
    return (None if why else layers), why

"""The summary of a model: its layers with shapes and numbers of parameters, as data and as a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from nightshift.families.layers import RUNNING, Layer

if TYPE_CHECKING:
    from nightshift.families.fields import ModelSpec
    from nightshift.families.learner import Array

#: Path of the data in a job's artifacts: with the model, so that a version of it has one, too.
FILE = "model/summary.json"
#: Bytes of a number in `model.safetensors`.
_FLOAT32_BYTES = 4
_GAP = "  "


def summarize(model: ModelSpec, facts: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the summary of a model on data with these facts; None if its family declares no layers."""
    layers = model.layers(facts)
    return None if layers is None else document(model, "layers", layers, facts)


def document(model: ModelSpec, rows: str, layers: Sequence[Layer], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return a summary as JSON values. `rows` says what they are: `layers`, or `weights` of unknown layers."""
    trained, fixed = sum(one.parameters for one in layers), sum(one.fixed for one in layers)
    needed = model.expected_facts(None)
    return {
        "family": model.family,
        "framework": model.framework,
        "preset": model.preset,
        "rows": rows,
        "layers": [{**asdict(one), "shape": list(one.shape)} for one in layers],
        "parameters": trained,
        "fixed": fixed,
        "bytes": _FLOAT32_BYTES * (trained + fixed),
        "facts": {name: facts[name] for name in needed if name in facts},
    }


def of_weights(weights: Mapping[str, Array]) -> list[Layer]:
    """Return a row for each weight, in place of layers that a family does not declare."""
    return [
        Layer(name, "running statistics", tuple(array.shape), 0, array.size)
        if RUNNING in name
        else Layer(name, "weight", tuple(array.shape), array.size)
        for name, array in weights.items()
    ]


def frozen(layers: Iterable[Layer], prefixes: Sequence[str]) -> list[Layer]:
    """Return the layers of a run that does not train weights whose names begin with one of the prefixes."""
    return [
        replace(one, parameters=0, fixed=one.fixed + one.parameters)
        if f"{one.name}.".startswith(tuple(prefixes))
        else one
        for one in layers
    ]


def differing(layers: Sequence[Layer], weights: Mapping[str, Array]) -> str | None:
    """Return what differs between layers and a learner's weights, or None if each layer has its numbers."""
    held = {one.name: 0 for one in layers}
    if len(held) < len(layers):
        return "two layers have the same name"
    for name, array in weights.items():
        owner = max((one for one in held if name.startswith(f"{one}.")), key=len, default=None)
        if owner is None:
            return f"no layer has the weight {name}"
        held[owner] += array.size
    for one in layers:
        if (declared := one.parameters + one.fixed) != held[one.name]:
            return f"the layer {one.name} declares {declared:,} parameters and its weights hold {held[one.name]:,}"
    fixed = sum(array.size for name, array in weights.items() if RUNNING in name)
    if (declared := sum(one.fixed for one in layers)) < fixed:
        return f"the layers declare {declared:,} fixed numbers and there are {fixed:,} of running statistics"
    return None


# -- as a table -------------------------------------------------------------------------------------


def table(summary: Mapping[str, Any]) -> str:
    """Return the summary as an aligned table in plain text, with the totals below."""
    rows, has_fixed = summary["layers"], summary["fixed"] > 0
    titles = ["layer" if summary["rows"] == "layers" else "weight", "kind", "output shape", "parameters"]
    if summary["rows"] != "layers":
        titles[2] = "shape"
    cells = [[one["name"], one["kind"], shape(one["shape"]), f"{one['parameters']:,}"] for one in rows]
    if has_fixed:
        titles.append("fixed")
        cells = [[*line, f"{one['fixed']:,}"] for line, one in zip(cells, rows, strict=True)]
    widths = [max(map(len, column)) for column in zip(titles, *cells, strict=True)]
    lines = [_line(titles, widths), _GAP.join("-" * width for width in widths)]
    lines += [_line(line, widths) for line in cells]
    head = f"{summary['family']} {summary['preset']} ({summary['framework']})"
    return "\n".join([head, "", *lines, "", *_totals(summary), ""])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    left, right = cells[:3], cells[3:]
    parts = [f"{cell:<{width}}" for cell, width in zip(left, widths, strict=False)]
    return _GAP.join([*parts, *(f"{cell:>{width}}" for cell, width in zip(right, widths[3:], strict=True))]).rstrip()


def _totals(summary: Mapping[str, Any]) -> list[str]:
    totals = {
        "trained": f"{summary['parameters']:,}",
        "fixed": f"{summary['fixed']:,}",
        "bytes in float32": f"{summary['bytes']:,}",
    }
    width = max(map(len, totals.values()))
    return [f"{name:<16}{_GAP}{value:>{width}}" for name, value in totals.items()]


def shape(sizes: Sequence[int | None]) -> str:
    """Return `26 x 26 x 32`; a length that may be any is `any`, and a single number `1`."""
    return " x ".join("any" if size is None else str(size) for size in sizes) or "1"

"""Choose the columns that a model reads, and fit their encoding to the rows that are trained on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nightshift.families.learner import Array
from shared.errors import BadData
from worker.families.mlp import columns, summaries
from worker.families.mlp.encoding import CategoryColumn, Column, Encoding, NumberColumn
from worker.families.mlp.family import MlpModel
from worker.families.mlp.tasks import content_of

#: The column that divides the rows into parts, if its values are names of parts.
SPLIT = "split"


def candidates(model: MlpModel, types: Mapping[str, str], *, divided: bool) -> list[str]:
    """Return the columns that the model may read: the named ones, else all but the target and the one of parts."""
    if model.features is not None:
        return list(model.features)
    taken = {model.target, SPLIT} if divided else {model.target}
    return [name for name in types if name not in taken]


def fitted(table: pa.Table, names: Iterable[str], model: MlpModel, rows: Array, note: list[str]) -> Encoding:
    """Return the encoding of columns by their statistics on these rows; `note` gets what is left out and why.

    Raises BadData for a column of text that would be numbers but for a few values, and if nothing is left.
    """
    found: list[Column] = []
    left: dict[str, list[str]] = {}
    chosen = set(model.features or ()) | set(model.categorical or ())
    for name in names:
        column = _fitted(name, table[name], model, rows, chosen=name in chosen)
        if isinstance(column, str):
            left.setdefault(column, []).append(name)
        else:
            found.append(column)
    note += [f"left out, {why}: {_listed(names)}" for why, names in left.items()]
    if not found:
        raise BadData(f"the table has no column to learn from beside the target; {'; '.join(note)}")
    return Encoding(found)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10:,} more" if len(names) > 10 else "")


def _fitted(name: str, column: pa.ChunkedArray, model: MlpModel, rows: Array, *, chosen: bool) -> Column | str:
    """Return the encoding of one column, or why it is left out. Raises BadData."""
    content = content_of(str(column.type))
    if content == "other" and not chosen:
        return f"no numbers or texts ({column.type})"
    if content in ("text", "truth") or name in (model.categorical or ()):
        return _categories(name, column, model, rows, chosen=chosen)
    return _numbers(name, columns.numbers(name, column)[rows])


def _categories(name: str, column: pa.ChunkedArray, model: MlpModel, rows: Array, *, chosen: bool) -> Column | str:
    if name not in (model.categorical or ()) and (few := columns.not_numbers(column)) is not None:
        raise BadData(
            f"column {name!r} is text, because row {few.row + 1:,} has {columns.shown(few.value)} ({few.count:,} of "
            f"its {few.of:,} values are no numbers); {summaries.WAYS_OUT}"
        )
    taken = columns.texts(name, column).take(pa.array(rows))
    counted = pc.value_counts(taken.drop_null())
    values, counts = counted.field(0).to_pylist(), np.asarray(counted.field(1), np.int64)
    why = summaries.why_no_categories(len(values), len(rows), int(taken.null_count), chosen=chosen)
    if why is not None:
        return why
    order = sorted(range(len(values)), key=lambda place: (-counts[place], values[place]))
    return CategoryColumn(name, [values[place] for place in order[: summaries.MOST_CATEGORIES]])


def _numbers(name: str, values: Array) -> Column | str:
    present = values[~np.isnan(values)]
    marked = len(present) < len(values)
    if not len(present):
        return summaries.EMPTY
    if not marked and present.min() == present.max():
        return summaries.CONSTANT
    median = float(np.median(present))
    mean, std = moments(np.where(np.isnan(values), median, values))
    return NumberColumn(name, median, mean, std, marked)


def moments(values: Array) -> tuple[float, float]:
    """Return mean and standard deviation, 1 for equal values, without overflow."""
    largest = float(np.abs(values).max())
    if not largest:
        return 0.0, 1.0
    scaled = values / largest
    spread = float(scaled.std()) * largest
    return float(scaled.mean()) * largest, spread if spread > 0 and np.isfinite(spread) else 1.0


def encoded(table: pa.Table, encoding: Encoding, parts: Mapping[str, Array], first_row: int = 0) -> dict[str, Array]:
    """Return the inputs of a model, float32 [rows, width], for each part's rows of a table. Raises BadData."""
    inputs = {part: np.zeros((len(rows), encoding.width), np.float32) for part, rows in parts.items()}
    at = 0
    for column in encoding.columns:
        values = _values(column, table[column.name], first_row)
        for part, rows in parts.items():
            column.write(values[rows], inputs[part][:, at : at + column.width])
        at += column.width
    return inputs


def _values(column: Column, values: pa.ChunkedArray, first_row: int) -> Array:
    if isinstance(column, NumberColumn):
        return columns.numbers(column.name, values, first_row)
    return columns.places(columns.texts(column.name, values), column.values)

"""Columns that a table of jobs can show, sort and search by: fields, results and curves, settings, tags.

    state, dataset, duration, …     a field
    training.learning_rate, lr      a setting of the spec
    test_accuracy, metric.loss      a result, else the last value of a curve
    best.val_loss, min.x, max.x     the best, lowest or highest value of a curve
    tag.team                        a tag

A plain name is a field, else a setting, else a metric; `metric.` selects a metric where a setting has the same name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import (
    Float,
    Select,
    String,
    Text,
    and_,
    case,
    cast,
    func,
    literal,
    literal_column,
    null,
    select,
    type_coerce,
)

from nightshift.errors import InvalidRequest
from nightshift.metrics import sense
from shared.clock import db_now
from shared.db.schema import curve_summaries, jobs

Sort = Literal["text", "number", "time", "seconds", "any"]

#: Short names of settings, and their path in a spec.
SHORT = {
    "lr": "training.learning_rate", "batch": "training.batch_size", "framework": "framework", "preset": "model.preset",
    **{name: f"training.{name}" for name in (
        "epochs", "max_steps", "batch_size", "optimizer", "learning_rate", "momentum", "nesterov", "beta1",
        "beta2", "rho", "epsilon", "weight_decay", "lr_schedule", "lr_factor", "lr_patience", "lr_min",
        "warmup_steps", "grad_clip", "seed", "precision", "validation_split", "augment",
    )},
    "early_stopping": "training.early_stopping.metric", "register_as": "register_as", "model_ref": "model_ref",
    "freeze": "freeze", "max_retries": "max_retries", "timeout_seconds": "timeout_seconds",
}  # fmt: skip
#: First part of a setting's path in a spec.
GROUPS = ("training", "model", "params", "checkpoint", "resources", "inference", "promote")
#: The expression of each field, and the kind of its values.
FIELDS: dict[str, tuple[Any, Sort]] = {
    "id": (jobs.c.id, "text"),
    "name": (jobs.c.name, "text"),
    "state": (jobs.c.state, "text"),
    "kind": (jobs.c.kind, "text"),
    "family": (jobs.c.family, "text"),
    "framework": (jobs.c.framework, "text"),
    "dataset": (jobs.c.dataset, "text"),
    "device": (jobs.c.device, "text"),
    "worker": (jobs.c.worker, "text"),
    "priority": (jobs.c.priority, "number"),
    "attempt": (jobs.c.fence, "number"),
    "retries": (jobs.c.retries, "number"),
    "created": (jobs.c.created_at, "time"),
    "started": (jobs.c.started_at, "time"),
    "finished": (jobs.c.finished_at, "time"),
    "age": (db_now() - jobs.c.created_at, "seconds"),
    "duration": (func.coalesce(jobs.c.finished_at, db_now()) - jobs.c.started_at, "seconds"),
    "waited": (func.coalesce(jobs.c.started_at, jobs.c.finished_at, db_now()) - jobs.c.created_at, "seconds"),
}
#: Fields inside a JSON column.
_INSIDE: dict[str, tuple[Any, tuple[str, ...]]] = {
    "progress": (jobs.c.progress, ("percent",)),
    "error": (jobs.c.error, ("type",)),
}
_KEY = re.compile(r"[A-Za-z_][\w.\-/@ ]{0,120}")


@dataclass(frozen=True)
class ColumnKey:
    """A parsed column: `key` as requested, `what` it is, and its `name` or path."""

    key: str
    what: Literal["field", "setting", "tag", "metric", "lowest", "highest"]
    name: str

    @property
    def path(self) -> tuple[str, ...]:
        """Return the parts of `name`."""
        return tuple(self.name.split("."))


def parse_key(key: str) -> ColumnKey:
    """Parse the name of a column. Raises InvalidRequest."""
    if not _KEY.fullmatch(key) or '"' in key:
        raise InvalidRequest.field(("column",), f"{key[:40]!r} is no column; columns are named as in {EXAMPLES}")
    prefix, dot, rest = key.partition(".")
    if key in FIELDS or key in _INSIDE:
        return ColumnKey(key, "field", key)
    if dot and rest:
        if prefix == "tag":
            return ColumnKey(key, "tag", rest)
        if prefix == "metric":
            return ColumnKey(key, "metric", rest)
        if prefix in ("best", "min", "max"):
            better = sense(rest) if prefix == "best" else prefix
            return ColumnKey(key, "highest" if better == "max" else "lowest", rest)
        if prefix in GROUPS:
            return ColumnKey(key, "setting", key)
    if key in SHORT:
        return ColumnKey(key, "setting", SHORT[key])
    return ColumnKey(key, "metric", key)


EXAMPLES = "state, test_accuracy, best.val_loss, training.learning_rate (or lr), tag.team"


@dataclass(frozen=True)
class Value:
    """A column in SQL: its numeric value (NULL for other values) and its text."""

    kind: Sort
    number: Any
    text: Any

    def order(self, descending: bool) -> list[Any]:
        """Return the sort keys: numbers before text, jobs without a value last in both directions."""
        keys = [key for key in (self.number, self.text) if key is not None]
        return [(key.desc() if descending else key).nulls_last() for key in keys]


def value_of(key: ColumnKey, dialect: str) -> Value:
    """Return the SQL expressions of a column."""
    match key.what:
        case "field" if key.name in _INSIDE:
            column, path = _INSIDE[key.name]
            return _of_json(column, path, dialect)
        case "field":
            expression, kind = FIELDS[key.name]
            is_text = kind == "text"
            return Value(kind, None if is_text else expression, func.lower(expression) if is_text else None)
        case "setting":
            return _of_json(jobs.c.spec, key.path, dialect)
        case "tag":
            return _of_json(jobs.c.tags, (key.name,), dialect)
        case "metric":
            result = _of_json(jobs.c.result, ("metrics", key.name), dialect).number
            return Value("number", func.coalesce(result, _summary(key.name, curve_summaries.c.last)), None)
        case _:
            return Value("number", _summary(key.name, curve_summaries.c[key.what]), None)


def _summary(name: str, column: Any) -> Any:
    of_job = and_(curve_summaries.c.job_id == jobs.c.id, curve_summaries.c.name == name)
    return select(column).where(of_job).correlate(jobs).scalar_subquery()


def _of_json(column: Any, path: Sequence[str], dialect: str) -> Value:
    return _in_sqlite(column, path) if dialect == "sqlite" else _in_postgres(column, path)


def _in_sqlite(column: Any, path: Sequence[str]) -> Value:
    place = literal("$" + "".join(f'."{part}"' for part in path))
    kind, found = func.json_type(column, place), func.json_extract(column, place)
    is_number = kind.in_(("integer", "real"))
    number = case((is_number, cast(found, Float)), else_=null())
    text = case((is_number, null()), (kind.in_(("true", "false")), kind), else_=func.lower(cast(found, String)))
    return Value("any", number, text)


def _in_postgres(column: Any, path: Sequence[str]) -> Value:
    """Extract the value in a subquery: Postgres parses the whole document again for every function applied to it."""
    value = select(func.json_extract_path(column, *path).label("found")).correlate(jobs).offset(0).subquery()
    is_number = func.json_typeof(value.c.found) == "number"
    content = type_coerce(value.c.found.op("#>>")(literal_column("'{}'")), Text)
    number = select(case((is_number, cast(content, Float(53))), else_=null()))
    text = select(case((is_number, null()), else_=func.lower(content)))
    return Value("any", number.scalar_subquery(), text.scalar_subquery())


# -- values shown in a page of the table ----------------------------------------------------------


def shown_values(
    rows: Sequence[Mapping[str, Any]], keys: Sequence[ColumnKey], summaries: Mapping[tuple[str, str], Any]
) -> list[dict[str, Any]]:
    """Return {key: value} of each row for keys other than fields; `summaries` comes from `summaries_of`."""
    return [
        {key.key: _shown(row, key, summaries.get((row["id"], key.name))) for key in keys if key.what != "field"}
        for row in rows
    ]


def summaries_of(job_ids: Sequence[str], keys: Sequence[ColumnKey]) -> Select[Any] | None:
    """Select (job_id, name, last, lowest, highest) of the curves in `keys`; None when there are none."""
    names = sorted({key.name for key in keys if key.what in ("metric", "lowest", "highest")})
    if not names or not job_ids:
        return None
    columns = [curve_summaries.c[name] for name in ("job_id", "name", "last", "lowest", "highest")]
    return select(*columns).where(curve_summaries.c.job_id.in_(job_ids), curve_summaries.c.name.in_(names))


def _shown(row: Mapping[str, Any], key: ColumnKey, summary: Any) -> Any:
    match key.what:
        case "setting":
            return _inside(row["spec"], key.path)
        case "tag":
            return (row["tags"] or {}).get(key.name)
        case "metric":
            value = _inside(row["result"], ("metrics", key.name))
            return value if isinstance(value, int | float) else summary and summary.last
        case _:
            return summary and getattr(summary, key.what)


def _inside(value: Any, path: Sequence[str]) -> Any:
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
    return value


def leaves(spec: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the settings of a spec by their path."""
    found: dict[str, Any] = {}
    for name, value in spec.items():
        if isinstance(value, dict) and value:
            found |= leaves(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found

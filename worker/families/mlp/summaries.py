"""What the summary of a table says of a model before the table is read: misfits, the task, rows and inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from nightshift.errors import FieldError
from worker.families.mlp.tasks import Content, TableTask, content_of, task_of

if TYPE_CHECKING:
    from worker.families.mlp.family import MlpModel

#: Categories of a column that are kept, the most frequent ones. Too high: inputs that few rows have.
MOST_CATEGORIES = 100
#: Different texts that are categories also where most rows have one of their own, as in a small table.
FEW_CATEGORIES = 10
#: Share of the rows in the test part, where no column names the parts.
TEST_SHARE = 0.2
#: Names of columns in a message.
_SHOWN = 8

EMPTY, CONSTANT = "without any value", "the same value in all rows"
WAYS_OUT = "correct it, or name the column in model.categorical to learn its values as categories"


def why_no_categories(distinct: int, rows: int, missing: int, *, chosen: bool) -> str | None:
    """Return why a column of text is left out, or None. One that the job names is kept whatever it holds."""
    if distinct == 0:
        return EMPTY
    if distinct == 1 and not missing:
        return CONSTANT
    if not chosen and (distinct > MOST_CATEGORIES or distinct > max(FEW_CATEGORIES, rows // 2)):
        return "too many different texts to be categories (model.categorical keeps the most frequent ones)"
    return None


def objection(model: MlpModel, dataset: str, summary: Mapping[str, Any]) -> FieldError | None:
    """Return which setting does not fit a table with this summary, or None."""
    described = _described(summary)
    if model.target is None:
        return FieldError(("target",), f"is required: the column to predict. {dataset} has {_names(list(described))}")
    if not described:
        return None
    is_complete = summary["preview"]["column_count"] == len(described)
    types = {name: str(column["type"]) for name, column in described.items()}
    return (is_complete and unknown(model, dataset, types)) or _misfit(model, dataset, described) or None


def unknown(model: MlpModel, dataset: str, types: Mapping[str, str]) -> FieldError | None:
    """Return which setting names a column that the table lacks, or None. `types`: of all columns, by name."""
    if model.target is None:
        return FieldError(("target",), f"is required: the column to predict. {dataset} has {_names(list(types))}")
    if model.target not in types:
        return FieldError(("target",), f"{dataset} has no column {model.target!r}{_near(model.target, types)}")
    for field in ("features", "categorical"):
        for place, name in enumerate(getattr(model, field) or ()):
            if name not in types:
                return FieldError((field, place), f"{dataset} has no column {name!r}{_near(name, types)}")
    return None


def _near(name: str, types: Mapping[str, str]) -> str:
    near = get_close_matches(name.casefold(), {column.casefold(): column for column in types}, 3, 0.6)
    found = [column for column in types if column.casefold() in near]
    return f"; did you mean {' or '.join(map(repr, found))}?" if found else f"; it has {_names(list(types))}"


def _names(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else "")


def _misfit(model: MlpModel, dataset: str, described: Mapping[str, Mapping[str, Any]]) -> FieldError | None:
    target = described.get(model.target or "")
    if target is not None and (why := bad_target(model, _content(target), few=target.get("not_numbers"))) is not None:
        return FieldError(("target",), f"{dataset}: column {model.target!r} {why}")
    for name, column in described.items():
        few = column.get("not_numbers")
        if few and name != model.target and _reads(model, name) and name not in (model.categorical or ()):
            where = f"line {few['line']:,}" if few.get("line") else f"row {few['row']:,}"
            message = (
                f"{dataset}: column {name!r} is text, because {where} has {few['value']!r} ({few['count']:,} of its "
                f"{few['of']:,} values are no numbers); {WAYS_OUT}"
            )
            return FieldError(("features",), message)
    return None


def _reads(model: MlpModel, name: str) -> bool:
    return model.features is None or name in model.features


def bad_target(model: MlpModel, content: Content, few: Mapping[str, Any] | None = None) -> str | None:
    """Return why a column with this content cannot be the target, or None."""
    if content in ("other", "day"):
        return "holds dates or lists; a target holds classes or numbers"
    if content in ("text", "truth") and model.wanted_task == "numbers":
        first = (
            f": {'line ' + str(few['line']) if few.get('line') else 'row ' + str(few['row'])} has {few['value']!r}"
            if few
            else ""
        )
        return f"is {'text' if content == 'text' else 'true and false'}{first}; the task numbers needs numbers"
    return None


def task(model: MlpModel, summary: Mapping[str, Any]) -> TableTask | None:
    """Return the task that a model gets on a table with this summary; None: not known."""
    if model.wanted_task is not None:
        return model.wanted_task
    target = _described(summary).get(model.target or "")
    return None if target is None else task_of(_content(target), target["distinct"] or 0)


def most_rows(model: MlpModel, summary: Mapping[str, Any], validation_split: float) -> int | None:
    """Return at most how many rows are trained on: those with a target that are in no other part."""
    target = _described(summary).get(model.target or "")
    if target is None:
        return None
    rows = int(summary["splits"]["rows"]["count"]) - int(target["nulls"])
    if "split" in _described(summary):
        return rows
    # Each class gives a fifth of its rows to the test part, rounded to a whole row, and at least one if it has two.
    if task(model, summary) == "numbers":
        rows -= min(max(1, round(rows * TEST_SHARE)), rows - 1)
    return rows - (min(max(1, round(rows * validation_split)), rows - 1) if validation_split > 0 else 0)


def expected_facts(model: MlpModel, summary: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the facts of a learner on a table with this summary; without one, on ten columns of numbers."""
    described = _described(summary or {})
    if not described:
        columns = [{"name": f"column {place}", "kind": "numbers"} for place in range(10)]
        return {"preprocessing": {"columns": columns}} | _classes(model.wanted_task == "classes", 2)
    rows = int((summary or {})["splits"]["rows"]["count"])
    names = model.features or [name for name in described if name != model.target]
    found = [_expected(model, described[name], rows) for name in names if name in described]
    target = described.get(model.target or "")
    is_classes = (task(model, summary or {}) or model.wanted_task) == "classes"
    classes = (target or {}).get("distinct") or 2
    return {"preprocessing": {"columns": [one for one in found if one]}} | _classes(is_classes, classes)


def _classes(there_are: bool, count: int) -> dict[str, Any]:
    return {"classes": [str(place) for place in range(count)]} if there_are else {}


def _expected(model: MlpModel, column: Mapping[str, Any], rows: int) -> dict[str, Any] | None:
    name, content, missing = column["name"], _content(column), column["nulls"]
    chosen = name in (model.features or ()) or name in (model.categorical or ())
    if content == "other":
        return None
    if content in ("text", "truth") or name in (model.categorical or ()):
        distinct = column["distinct"] or 0
        if why_no_categories(distinct, rows, missing, chosen=chosen) is not None:
            return None
        return {"name": name, "kind": "categories", "values": [str(n) for n in range(min(distinct, MOST_CATEGORIES))]}
    constant = column["distinct"] == 0 or (column["distinct"] == 1 and not missing)
    return None if constant else {"name": name, "kind": "numbers", "marked": missing > 0}


def _described(summary: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    columns = (summary.get("preview") or {}).get("columns") or ()
    return {column["name"]: column for column in columns}


def _content(column: Mapping[str, Any]) -> Content:
    return content_of(str(column["type"]))

"""Search language for jobs: words and `name operator value`, all of which must match.

digits nightly                 each word is in name, data set, model, framework, kind, worker or a tag, or begins the id
"lr sweep"                     a phrase
state:failed,cancelled         one of these           name:sweep   contains      name=sweep   equals
test_accuracy > 0.95           a result or the last value of a curve; also best.val_loss, min.x, max.x; 95 % is 0.95
lr < 0.01  batch_size=64       a setting, by its name or its path (model.preset:mnist); `none` matches null
tag:team  tag:team=vision      a tag
who:ada  age < 2d  duration > 1h30m  created > 2026-11-01  progress >= 50  error:crashed  is:archived  kind:shard
-state:failed  -nightly        negation
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import String, and_, cast, exists, false, func, not_, or_, select, true

from nightshift.errors import InvalidRequest
from nightshift.names import SHARD
from nightshift.states import FINAL_STATES, JobState
from shared.db.schema import api_keys, jobs
from shared.jobs.queries.columns import FIELDS, SHORT, ColumnKey, Value, parse_key, value_of

#: Most terms of a search.
MAX_TERMS = 20
#: Columns in which words are searched.
_SEARCHED = (jobs.c.name, jobs.c.dataset, jobs.c.family, jobs.c.framework, jobs.c.kind, jobs.c.worker)
#: Shortest word that is compared with ids: two characters would match every 256th job.
_LEAST_OF_AN_ID = 4
_TERM = re.compile(
    r"""(?P<no>-)?(?:
        (?P<key>[A-Za-z_][\w.\-/@]*)\s*(?P<operator><=|>=|!=|=|<|>|:)\s*(?P<value>"[^"]*"?|[^\s"]+(?:\s+%)?)?
        | "(?P<phrase>[^"]*)"?
        | (?P<word>[^\s"]+))""",
    re.VERBOSE,
)
_LENGTHS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
_LENGTH = re.compile(r"(\d+(?:\.\d+)?)(min|[smhdw])")


def conditions(text: str, dialect: str, kind: str | None = None) -> list[Any]:
    """Parse a search into SQL conditions; archived jobs only match with `is:archived` or `is:any`.

    Shards match only if the search has `kind:shard`, or `kind`, a filter beside it, selects them. Raises InvalidRequest
    with a correction.
    """
    terms = list(_TERM.finditer(text))
    if len(terms) > MAX_TERMS:
        raise _wrong(f"may have at most {MAX_TERMS} words and conditions")
    found = [_condition(term, dialect) for term in terms]
    if not any(term["key"] == "is" and term["value"] in _WITH_ARCHIVED for term in terms):
        found.append(jobs.c.archived_at.is_(None))
    if kind is None and not any(term["key"] == "kind" and term["value"] == SHARD for term in terms):
        found.append(jobs.c.part_of.is_(None))
    return found


def _condition(term: re.Match[str], dialect: str) -> Any:
    if term["key"] is None:
        found = _mentions(term["word"] if term["phrase"] is None else term["phrase"])
    else:
        if not (value := (term["value"] or "").strip('"')):
            raise _wrong(f"{term['key']}{term['operator']} needs a value, for example {_example(term['key'])}")
        found = _compared(term["key"], term["operator"], value, dialect)
    return not_(func.coalesce(found, false())) if term["no"] else found


def _mentions(word: str) -> Any:
    found = [column.icontains(word, autoescape=True) for column in _SEARCHED]
    found.append(cast(jobs.c.tags, String).icontains(word, autoescape=True))
    if len(word) >= _LEAST_OF_AN_ID:
        found.append(jobs.c.id.startswith(word.lower(), autoescape=True))
    return or_(*found)


def _compared(key: str, operator: str, value: str, dialect: str) -> Any:
    special = _SPECIAL.get(key.lower())
    if special is None:
        column = parse_key(key)
        if column.what == "metric" and operator in ":=" and _number(value) is None:
            raise _unknown(key)
        return _by_value(column, value_of(column, dialect), operator, value)
    if operator not in (":", "=", "!="):
        raise _wrong(f"{key} cannot be compared with {operator}; write {_example(key)}")
    found = special(value, dialect)
    return not_(func.coalesce(found, false())) if operator == "!=" else found


def _by_value(key: ColumnKey, column: Value, operator: str, value: str) -> Any:
    if operator in ("<", ">", "<=", ">="):
        if column.number is None:
            raise _wrong(f"{key.key} is text and cannot be compared with {operator}; write {key.key}:{value}")
        return column.number.op(operator)(_measure(key, column, value))
    if operator == "!=":
        return not_(func.coalesce(_equal(key, column, "=", value), false()))
    return or_(*(_equal(key, column, operator, part) for part in value.split(",") if part))


def _equal(key: ColumnKey, column: Value, operator: str, value: str) -> Any:
    sides = [side for side in (column.number, column.text) if side is not None]
    if value.lower() in ("none", "null"):
        return and_(*(side.is_(None) for side in sides))
    if column.text is None:
        return column.number == _measure(key, column, value)
    text = column.text == value.lower() if operator == "=" else column.text.contains(value.lower(), autoescape=True)
    number = _number(value)
    return text if number is None or column.number is None else or_(text, column.number == number)


def _measure(key: ColumnKey, column: Value, value: str) -> float:
    """Return the value as a number in the column's unit. Raises InvalidRequest."""
    if column.kind == "time":
        found, wanted = _moment(value), "a date or time, for example created > 2026-11-01 (UTC)"
    elif column.kind == "seconds":
        found, wanted = _seconds(value), f"a duration, for example {key.key} > 90s, 10m, 2h or 3d"
    else:
        found, wanted = _number(value), f"a number, for example {key.key} > 0.9"
    if found is None:
        raise _wrong(f"{value!r} is not valid; {key.key} needs {wanted}")
    return found


def _number(value: str) -> float | None:
    share = value.endswith("%")
    try:
        found = float(value.rstrip("% "))
    except ValueError:
        return None
    if not abs(found) < 1e300:
        return None
    return found / 100 if share else found


def _seconds(value: str) -> float | None:
    """Parse a duration: `90`, `90s`, `1h30m`."""
    parts = _LENGTH.findall(value)
    if parts and "".join(map("".join, parts)) == value:
        return sum(float(number) * _LENGTHS[unit] for number, unit in parts)
    return _number(value)


def _moment(value: str) -> float | None:
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


# -- names that are more than a column ------------------------------------------------------------


def tagged(tag: str, dialect: str) -> Any:
    """Return the condition for a tag: `key=value`, or `key` for any value."""
    key, has_value, value = tag.partition("=")
    each = func.json_each if dialect == "sqlite" else func.json_each_text
    entries = each(jobs.c.tags).table_valued("key", "value", name="tag")
    condition = entries.c.key == key
    if has_value:
        condition = and_(condition, entries.c.value == value)
    return exists(select(1).select_from(entries).where(condition).correlate(jobs))


def _state(value: str, dialect: str) -> Any:
    states, wanted = [state.value for state in JobState], value.lower().split(",")
    for state in wanted:
        if state not in states:
            raise _wrong(f"there is no state {state!r}; states: {', '.join(states)}")
    return jobs.c.state.in_(wanted)


def _who(value: str, dialect: str) -> Any:
    """Match the name of one of the owner's keys, which the table shows."""
    owners = select(api_keys.c.owner_id).where(api_keys.c.name.icontains(value, autoescape=True))
    return or_(jobs.c.owner_id.in_(owners), jobs.c.owner_id == value)


def _model(value: str, dialect: str) -> Any:
    named = [value_of(parse_key(key), dialect).text for key in ("model.preset", "model_ref", "family")]
    return or_(*(text.contains(value.lower(), autoescape=True) for text in named))


def _id(value: str, dialect: str) -> Any:
    return jobs.c.id.startswith(value.lower(), autoescape=True)


def _is(value: str, dialect: str) -> Any:
    found = _KINDS.get(value.lower())
    if found is None:
        raise _wrong(f"is:{value} is unknown; use is: with one of {', '.join(_KINDS)}")
    return found


_KINDS: dict[str, Any] = {
    "final": jobs.c.state.in_(sorted(FINAL_STATES)),
    "live": jobs.c.state.not_in(sorted(FINAL_STATES)),
    "archived": jobs.c.archived_at.is_not(None),
    "any": true(),
}
#: Values of `is:` that include archived jobs.
_WITH_ARCHIVED = ("archived", "any")
_SPECIAL: dict[str, Callable[[str, str], Any]] = {
    "state": _state, "who": _who, "owner": _who, "tag": tagged, "model": _model, "id": _id, "job": _id, "is": _is,
}  # fmt: skip
_EXAMPLES = {
    "state": "state:failed", "who": "who:ada", "tag": "tag:team=vision", "model": "model:mnist", "is": "is:final",
    "age": "age < 2d", "duration": "duration > 1h", "created": "created > 2026-11-01",
}  # fmt: skip


def _example(key: str) -> str:
    return _EXAMPLES.get(key) or (f"{key}:words" if key in FIELDS else f"{key} > 0.5")


def _unknown(key: str) -> InvalidRequest:
    known = [*_SPECIAL, *FIELDS, *SHORT]
    near = difflib.get_close_matches(key, known, 1, 0.6)
    hint = f"did you mean {near[0]}?" if near else "use state:, name:, dataset:, tag:, who: or a metric."
    return _wrong(f'there is no field {key!r}; {hint} Put "quotes" around text that contains : or =')


def _wrong(message: str) -> InvalidRequest:
    return InvalidRequest.field(("q",), message)

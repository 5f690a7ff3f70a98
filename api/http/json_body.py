"""Strict parsing of JSON bodies: syntax, depth, numbers, duplicate keys, strings.

The standard parser accepts NaN and lone surrogates and keeps the last of duplicate keys; each would later cause a 500
or a wrong result. A body that cannot be parsed is 400; a value that is not valid JSON is 422 with its path.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

from nightshift.errors import FieldError, InvalidRequest, MalformedRequest

#: Largest nesting of objects and lists. The deepest spec has 4 levels; the parser's own limit is the C stack.
MAX_DEPTH = 32
#: Largest number of digits of an integer. Python parses at most 4,300; no field takes more than 13.
MAX_DIGITS = 1_000
#: Largest number of errors in one response.
MAX_ERRORS = 20

Loc = tuple[str | int, ...]


class _Duplicated(dict[str, Any]):
    """An object with duplicate keys; it exists only until `_objections` has reported them."""

    names: list[str]


def parse_json(raw: bytes) -> Any:
    """Return the value of a body. Raises only MalformedRequest (400) and InvalidRequest (422)."""
    try:
        value = json.loads(raw.decode("utf-8"), parse_int=_integer, object_pairs_hook=_object)
    except UnicodeDecodeError:
        raise MalformedRequest("The body is not UTF-8.") from None
    except RecursionError:
        raise _too_deep() from None
    except json.JSONDecodeError as error:
        raise MalformedRequest(
            f"The body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}."
        ) from None
    errors = list(_first(_objections(value)))
    if errors:
        raise InvalidRequest("The body has values that are not JSON or that no field accepts.", errors)
    return value


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise MalformedRequest(f"The body holds an integer of more than {MAX_DIGITS} digits.")
    return int(digits)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) == len(pairs):
        return value
    duplicated, seen = _Duplicated(value), set[str]()
    duplicated.names = [name for name, _ in pairs if name in seen or seen.add(name)]  # type: ignore[func-returns-value]
    return duplicated


def _objections(root: Any) -> Iterable[FieldError]:
    """Yield an error for each invalid value. Iterative, so that deep nesting cannot exhaust the stack."""
    waiting: list[tuple[Loc, Any]] = [((), root)]
    while waiting:
        loc, value = waiting.pop()
        if len(loc) > MAX_DEPTH:
            raise _too_deep()
        if isinstance(value, str):
            yield from _bad_text(loc, value)
        elif isinstance(value, float) and not math.isfinite(value):
            yield FieldError(loc, "must be a finite number (JSON has no NaN or infinity)")
        elif isinstance(value, list):
            waiting.extend(((*loc, index), item) for index, item in enumerate(value))
        elif isinstance(value, dict):
            if isinstance(value, _Duplicated):
                yield from (FieldError((*loc, name), "is given more than once") for name in value.names)
            for name, item in value.items():
                yield from _bad_text((*loc, name), name, "the field's name ")
                waiting.append(((*loc, name), item))


def _bad_text(loc: Loc, text: str, what: str = "") -> Iterable[FieldError]:
    if "\x00" in text:
        yield FieldError(loc, f"{what}must not contain U+0000")
    if any("\ud800" <= char <= "\udfff" for char in text):
        yield FieldError(loc, f"{what}must not contain half of a surrogate pair")


def _first(errors: Iterable[FieldError]) -> Iterable[FieldError]:
    for count, error in enumerate(errors):
        if count == MAX_ERRORS:
            return
        yield error


def _too_deep() -> MalformedRequest:
    return MalformedRequest(f"The body is nested more than {MAX_DEPTH} levels deep.")

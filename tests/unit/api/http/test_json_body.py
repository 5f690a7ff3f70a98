"""The guard in front of every JSON body: what is 400, what is 422, and where it is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from api.http.json_body import MAX_DEPTH, parse_json
from nightshift.errors import InvalidRequest, MalformedRequest

Loc = tuple[str | int, ...]


def _objections(raw: str | bytes) -> list[tuple[Loc, str]]:
    with pytest.raises(InvalidRequest) as caught:
        parse_json(raw if isinstance(raw, bytes) else raw.encode())
    return [(error.loc, error.msg) for error in caught.value.errors]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b'{"a": 1,}',
        b"{'a': 1}",
        b'{"a": 1} {"b": 2}',
        b"\xff\xfe{}",
        b'{"a": "\xe9"}',
        b'\xef\xbb\xbf{"a": 1}',
        b'{"a": 01}',
        b'{"a": "\n"}',
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        b'{"a": ' + b"9" * 5_000 + b"}",
        b'{"a": -' + b"9" * 5_000 + b"}",
    ],
    ids=lambda raw: repr(raw[:20]),
)
def test_what_cannot_be_parsed_is_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedRequest):
        parse_json(raw)


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_numbers_that_json_does_not_have_are_named(literal: str) -> None:
    assert [loc for loc, _ in _objections('{"training": {"learning_rate": ' + literal + "}}")] == [
        ("training", "learning_rate")
    ]


def test_duplicate_fields_are_named_with_their_place() -> None:
    assert _objections('{"a": [{"b": 1, "c": 2, "b": 3}]}') == [(("a", 0, "b"), "is given more than once")]


@pytest.mark.parametrize("text", [r"\u0000", r"x\ud800", r"\udc00\ud800"])
def test_text_no_database_takes_is_refused_in_values_and_names(text: str) -> None:
    assert _objections('{"name": ["' + text + '"]}')[0][0] == ("name", 0)
    assert "field's name" in _objections('{"' + text + '": 1}')[0][1]


def test_a_proper_surrogate_pair_is_one_character() -> None:
    assert parse_json(rb'{"name": "\ud83d\ude00"}') == {"name": "😀"}


def test_all_objections_come_at_once_but_not_without_end() -> None:
    assert len(_objections('{"a": NaN, "b": "\\u0000", "c": 1, "c": 2}')) == 3
    assert len(_objections(json.dumps([float("nan")] * 1_000))) == 20


@pytest.mark.parametrize("value", [None, True, 0, -1.5, 10**100, "é", [], {}, {"a": [{"b": None}]}])
def test_json_comes_out_as_it_went_in(value: Any) -> None:
    assert parse_json(json.dumps(value).encode()) == value


def test_the_deepest_body_allowed_is_taken() -> None:
    assert parse_json(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)
    with pytest.raises(MalformedRequest, match="deep"):
        parse_json(b"[" * (MAX_DEPTH + 2) + b"]" * (MAX_DEPTH + 2))

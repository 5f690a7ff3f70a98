"""From a parsed body to a spec: every wrong field is named at its place, with the way out, and no value is echoed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from api.services.spec_errors import parse_spec
from api.services.submission import check_idempotency_key, hash_of
from nightshift.errors import InvalidRequest
from shared.specs import supported
from shared.specs.times import seconds_of
from tests.support.api import TRAIN

Loc = tuple[str | int, ...]

#: Something that would be recognised in an answer.
ODD = "qzx-marker"

WRONG: list[tuple[dict[str, Any], Loc, str]] = [
    ({"kind": None}, ("kind",), "train"),
    ({"kind": ODD}, ("kind",), "train"),
    ({"kind": ["train"]}, ("kind",), "train"),
    ({"dataset": None}, ("dataset",), "string"),
    ({"dataset": "../" + ODD}, ("dataset",), "letters"),
    ({"dataset": ODD + "\n"}, ("dataset",), "letters"),
    ({"dataset": "\u202e" + ODD}, ("dataset",), "letters"),
    ({"dataset": "a" * 101}, ("dataset",), "letters"),
    ({"name": ODD + "\u202e"}, ("name",), "control"),
    ({"name": ODD + "\n"}, ("name",), "control"),
    ({"name": " " + ODD}, ("name",), "white space"),
    ({"name": "x" * 201}, ("name",), "200"),
    ({"name": ""}, ("name",), "1 character"),
    ({"model": None}, ("model",), "dictionary"),
    ({"model": ODD}, ("model",), "dictionary"),
    ({"model": {"family": ODD}}, ("model", "family"), "cnn"),
    ({"model": {"family": 1}}, ("model", "family"), "cnn"),
    ({"model": {"preset": ODD}}, ("model", "preset"), "mnist-3conv"),
    ({"model": {"preset": None}}, ("model", "preset"), "mnist-3conv"),
    ({"model": {"framework": ODD}}, ("model", "framework"), "torch"),
    ({"model": {"filter": [8]}}, ("model", "filter"), "filters"),
    ({"model": {"filters": []}}, ("model", "filters"), "at least 1"),
    ({"model": {"filters": [8, 0, 8]}}, ("model", "filters", 1), "greater than or equal to 1"),
    ({"model": {"filters": [2**70, 8, 8]}}, ("model", "filters", 0), "65536"),
    ({"model": {"image_size": ["28", 28]}}, ("model", "image_size", 0), "integer"),
    ({"model": {"image_size": [4, 4]}}, ("model",), "too small"),
    ({"model": {"dropout": 1.0}}, ("model", "dropout"), "less than 1"),
    ({"training": None}, ("training",), "dictionary"),
    ({"training": []}, ("training",), "dictionary"),
    ({"training": {"epochs": 0}}, ("training", "epochs"), "1"),
    ({"training": {"epochs": -1}}, ("training", "epochs"), "1"),
    ({"training": {"epochs": 10**9}}, ("training", "epochs"), "100000"),
    ({"training": {"epochs": 2**70}}, ("training", "epochs"), "100000"),
    ({"training": {"epochs": "1"}}, ("training", "epochs"), "integer"),
    ({"training": {"epochs": 1.0}}, ("training", "epochs"), "integer"),
    ({"training": {"epochs": True}}, ("training", "epochs"), "integer"),
    ({"training": {"epochs": None}}, ("training", "epochs"), "integer"),
    ({"training": {"learning_rate": 0}}, ("training", "learning_rate"), "greater than 0"),
    ({"training": {"learning_rate": -0.1}}, ("training", "learning_rate"), "greater than 0"),
    ({"training": {"learning_rate": "0.1"}}, ("training", "learning_rate"), "number"),
    ({"training": {"seed": -1}}, ("training", "seed"), "0"),
    ({"training": {"seed": 2**32}}, ("training", "seed"), "4294967295"),
    ({"training": {"validation_split": 1}}, ("training", "validation_split"), "less than 1"),
    ({"training": {"optimizer": ODD}}, ("training", "optimizer"), "adamw"),
    ({"training": {"augment": [ODD]}}, ("training", "augment", 0), "rotate"),
    ({"training": {"augment": ["word_dropout"]}}, ("training", "augment", 0), "rotate"),
    ({"training": {"early_stopping": {"patience": 0}}}, ("training", "early_stopping", "patience"), "1"),
    ({"training": {"early_stopping": {"metrics": ODD}}}, ("training", "early_stopping", "metrics"), "'metric'"),
    ({"training": {"epoch": 3}}, ("training", "epoch"), "'epochs'"),
    ({"training": {ODD: 3}}, ("training", ODD), "learning_rate"),
    ({"epochs": 3}, ("epochs",), "'training'"),
    ({"priorty": 3}, ("priorty",), "'priority'"),
    ({"priority": 10}, ("priority",), "9"),
    ({"priority": "5"}, ("priority",), "integer"),
    ({"max_retries": -1}, ("max_retries",), "0"),
    ({"timeout_seconds": 0}, ("timeout_seconds",), "greater than 0"),
    ({"timeout_seconds": 1e300}, ("timeout_seconds",), "less than"),
    ({"checkpoint": {"every_steps": 0}}, ("checkpoint", "every_steps"), "1"),
    ({"checkpoint": {"keep": 1}}, ("checkpoint", "keep"), "'keep_"),
    ({"resources": {"device": "tpu"}}, ("resources", "device"), "cpu"),
    ({"resources": {"gpus": 2}}, ("resources", "gpus"), "1"),
    ({"after": [ODD]}, ("after", 0), "pattern"),
    ({"after": ODD}, ("after",), "list"),
    ({"tags": {"team": 1}}, ("tags", "team"), "string"),
    ({"tags": [ODD]}, ("tags",), "dictionary"),
    ({"register_as": "a/b"}, ("register_as",), "letters"),
    ({"run_at": 5}, ("run_at",), "string"),
    ({"model_ref": "digits"}, ("model_ref",), "unknown field"),
]


@pytest.mark.parametrize(("fields", "loc", "hint"), WRONG, ids=lambda value: str(value)[:40])
def test_a_wrong_field_is_named_with_the_way_out(fields: dict[str, Any], loc: Loc, hint: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_spec({**TRAIN, **fields})
    assert [error.loc for error in caught.value.errors] == [loc]
    assert hint in caught.value.errors[0].msg
    if ODD not in loc:  # the name of an unknown field is said, a value never
        assert ODD not in str(caught.value.errors)
        assert ODD not in caught.value.detail


@pytest.mark.parametrize("field", ["kind", "model", "dataset"])
def test_a_missing_field_is_named(field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_spec({name: value for name, value in TRAIN.items() if name != field})
    assert [error.loc for error in caught.value.errors] == [(field,)]
    assert "is required" in caught.value.errors[0].msg


@pytest.mark.parametrize("body", [None, 1, "x", [], [TRAIN], True])
def test_a_body_that_is_no_object_is_refused(body: Any) -> None:
    with pytest.raises(InvalidRequest, match="object"):
        parse_spec(body)


def test_all_wrong_fields_are_named_at_once() -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_spec({**TRAIN, "priority": 10, "training": {"epochs": 0, "seed": -1}, "tag": {}})
    assert {error.loc for error in caught.value.errors} == {
        ("priority",), ("training", "epochs"), ("training", "seed"), ("tag",)
    }  # fmt: skip


def test_what_no_worker_runs_is_refused_at_its_field() -> None:
    places: dict[str, tuple[str, ...]] = {"family": ("model", "family"), "framework": ("model", "framework")}
    objection = supported.objection("train", "cnn", "jax", places)
    assert objection is not None
    assert objection.loc == ("model", "framework")
    objection = supported.objection("train", "vae", "torch", places)
    assert objection is not None
    assert objection.loc == ("model", "family")
    assert "cnn" in objection.msg


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2027-01-31T02:00:00Z", 1801360800.0),
        ("2027-01-31T02:00:00+01:00", 1801357200.0),
        ("2027-01-31t02:00:00.25z", 1801360800.25),
        ("2027-01-31T02:00:00.123456789Z", 1801360800.123456),
        ("1970-01-01T00:00:00+10:00", 0.0),
    ],
)
def test_run_at_is_rfc_3339_with_an_offset(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "tomorrow", "2027-01-31", "2027-01-31T02:00:00", "2027-02-30T00:00:00Z", "2027-01-31T25:00:00Z",
     "2027-01-31T02:00:00+99:99", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "２０２７-01-31T02:00:00Z",
     "2027-W05-1T00:00:00Z", "1969-12-31T23:59:59Z", "2033-13-01T00:00:00Z"],
)  # fmt: skip
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_spec({**TRAIN, "run_at": text})
    assert [error.loc for error in caught.value.errors] == [("run_at",)]


@pytest.mark.parametrize("key", ["", "x" * 256, "a b", "a\tb", "é", "\x7f"])
def test_an_idempotency_key_is_short_printable_ascii(key: str) -> None:
    with pytest.raises(InvalidRequest, match="Idempotency-Key"):
        check_idempotency_key(key)
    check_idempotency_key("x" * 255)


def test_bodies_are_the_same_whatever_their_order_and_white_space() -> None:
    assert hash_of(json.loads('{"a": 1,  "b": [1, 2]}')) == hash_of(json.loads('{"b":[1,2],"a":1}'))
    assert hash_of({"a": 1}) != hash_of({"a": 2})

"""Whatever comes in: a problem document, never a 5xx, and never an echo of what was sent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.api import TRAIN, Api, assert_problem

JSON = {"Content-Type": "application/json"}
ODD = "qzx-marker"


@pytest.fixture(scope="module")
def api(shared_api: Api) -> Api:
    """Whatever it was sent before makes no difference."""
    return shared_api


def _post(api: Api, raw: bytes | Iterator[bytes], **headers: str) -> Any:
    return api.post("/v1/jobs", content=raw, headers={**JSON, **headers})


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"[" * 100_000, b'{"a":' * 20_000, b'{"priority": ' + b"1" * 5_000 + b"}", b"\xff", b'{"a": 1} x'],
    ids=lambda raw: repr(raw[:12]),
)
def test_what_does_not_parse_is_400(api: Api, raw: bytes) -> None:
    assert_problem(_post(api, raw), 400)


@pytest.mark.parametrize(
    ("raw", "loc"),
    [
        ('{"training": {"learning_rate": NaN}}', ("training", "learning_rate")),
        ('{"training": {"learning_rate": Infinity}}', ("training", "learning_rate")),
        ('{"training": {"learning_rate": 1e999}}', ("training", "learning_rate")),
        ('{"name": "\\u0000' + ODD + '"}', ("name",)),
        ('{"name": "' + ODD + '\\ud800"}', ("name",)),
        ('{"priority": 5, "priority": 6}', ("priority",)),
        ('{"\\ud800": 5}', ("\ufffd",)),
        ('{"%s": 5}' % ("x" * 5_000), ("x" * 64 + "…",)),
        ('{"a\\u202eb": 5}', ("a\ufffdb",)),
    ],
)  # fmt: skip
def test_what_parses_but_means_nothing_is_422_at_its_place(api: Api, raw: str, loc: tuple[str, ...]) -> None:
    body = json.dumps(TRAIN)[:-1] + ", " + raw[1:]
    answer = _post(api, body.encode())
    assert_problem(answer, 422, loc)
    assert ODD not in answer.text


def test_wrong_values_are_named_and_not_echoed(api: Api) -> None:
    answer = api.submit(name=ODD + "\n", training={"epochs": ODD, "learning_rate": 0}, priority=2**70)
    assert_problem(answer, 422, ("name",), ("priority",), ("training", "epochs"), ("training", "learning_rate"))
    assert ODD not in answer.text
    assert str(2**70) not in answer.text


def test_the_largest_body_is_taken_and_one_byte_more_is_not(api: Api) -> None:
    limit = api.settings.max_body_bytes
    body = json.dumps(TRAIN).encode()
    assert _post(api, body + b" " * (limit - len(body))).status_code == 202
    assert_problem(_post(api, body + b" " * (limit - len(body) + 1)), 413)


def test_a_chunked_body_is_counted_too(api: Api) -> None:
    def endless() -> Iterator[bytes]:
        yield from (b" " * 100_000 for _ in range(1_000))

    assert_problem(_post(api, endless()), 413)
    assert _post(api, iter([json.dumps(TRAIN).encode()])).status_code == 202


@pytest.mark.parametrize("declared", ["99999999999", "9" * 50])
def test_a_body_that_announces_too_much_is_refused_before_it_comes(api: Api, declared: str) -> None:
    assert_problem(_post(api, b"{}", **{"Content-Length": declared}), 413)


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/x-tar"},
        {"Content-Type": ""},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    ],
)
def test_another_content_type_is_415(api: Api, headers: dict[str, str]) -> None:
    assert_problem(_post(api, json.dumps(TRAIN).encode(), **headers), 415)


def test_a_content_type_with_parameters_is_json_too(api: Api) -> None:
    content_type = "Application/JSON; charset=utf-8"
    assert _post(api, json.dumps(TRAIN).encode(), **{"Content-Type": content_type}).status_code == 202


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nope", 404),
        ("GET", "/v1", 404),
        ("GET", "/v1/jobs/../../etc/passwd", 404),
        ("GET", "/v1/jobs/%2e%2e%2f%2e%2e%2fetc", 404),
        ("PUT", "/v1/jobs", 405),
        ("PUT", "/v1/jobs/0123456789abcdef", 405),
        ("DELETE", "/v1/jobs/0123456789abcdef", 404),
        ("GET", "/v1/jobs/0123456789abcdef/cancel", 405),
        ("GET", "/v1/models/..", 404),
        ("GET", "/v1/models/%0Aname", 422),
        ("GET", "/v1/models/name%E2%80%AE", 422),
        ("GET", "/v1/datasets/%00", 422),
        ("GET", "/v1/datasets/none", 404),
        ("GET", "/v1/models/none", 404),
        ("GET", "/v1/jobs/0123456789abcdef/metrics?after_step=9223372036854775808", 422),
        ("GET", "/v1/jobs/0123456789abcdef/metrics?max_points=1", 422),
        ("GET", "/v1/jobs/0123456789abcdef/metrics?name=%00", 422),
        ("GET", "/v1/jobs/0123456789abcdef/logs?cursor=-1", 400),
        ("GET", "/v1/jobs/0123456789abcdef/logs?cursor=99999999999999999999", 400),
        ("GET", "/v1/jobs/0123456789abcdef/artifacts/%00", 422),
        ("GET", "/v1/jobs/0123456789abcdef/artifacts/..%2f..%2fapi_key", 404),
    ],
)
def test_strange_paths_are_problems(api: Api, method: str, path: str, status: int) -> None:
    answer = api.send(method, path)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    if status == 405:
        assert answer.headers["allow"]


@pytest.mark.parametrize("last", ["x", "-1", "1.5", "9" * 30, "١"])
def test_a_bad_last_event_id_is_400(api: Api, last: str) -> None:
    job_id = api.submit().json()["id"]
    assert_problem(api.get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": last.encode()}), 400)

"""Every /v1 route wants a key; whatever is wrong with it, the answer is the same 401."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from shared.clock import db_now
from shared.db.engine import write
from shared.db.schema import api_keys
from tests.support.api import TRAIN, Api, assert_problem

WITHOUT_A_KEY = {"/healthz", "/readyz"}


def _routes(api: Api) -> list[tuple[str, str]]:
    paths = api.app.openapi()["paths"]
    return [(method.upper(), path) for path, methods in paths.items() for method in methods]


def test_every_route_but_the_probes_wants_a_key(api: Api) -> None:
    asked = 0
    for method, template in _routes(api):
        path = template.replace("{job_id}", "0123456789abcdef").replace("{name}", "x").replace("{path}", "x")
        answer = api.http.request(method, path)
        if template in WITHOUT_A_KEY:
            assert answer.status_code == 200, template
        else:
            assert_problem(answer, 401)
            assert answer.headers["www-authenticate"].startswith("Bearer")
            asked += 1
    assert asked > 15


@pytest.mark.parametrize(
    "header",
    [b"", b"Bearer", b"Bearer ", b"Bearer x", b"Basic bmlnaHRzaGlmdDp4", b"Bearer \xc3\xa9\xff", b"Bearer a b",
     b"bearer\xa0x", b"Bearer " + b"x" * 5_000, b"Bearer ns_\x01"],
)  # fmt: skip
def test_a_wrong_key_is_401(api: Api, header: bytes) -> None:
    assert_problem(api.http.get("/v1/jobs", headers={"Authorization": header}), 401)


def test_a_key_is_not_found_by_its_beginning_or_its_case(api: Api) -> None:
    for wrong in (api.key[:-1], api.key + "x", api.key.swapcase(), api.key[1:]):
        assert_problem(api.get("/v1/jobs", key=wrong), 401)
    assert api.get("/v1/jobs").status_code == 200


def test_a_revoked_key_is_401_at_once(api: Api) -> None:
    other = api.new_key("someone")
    assert api.get("/v1/jobs", key=other).status_code == 200
    with write(api.engine) as conn:
        conn.execute(update(api_keys).where(api_keys.c.owner_id == "someone").values(revoked_at=db_now()))
    assert_problem(api.get("/v1/jobs", key=other), 401)


def test_two_keys_of_one_owner_see_the_same_jobs(api: Api) -> None:
    job_id = api.submit().json()["id"]
    second = api.new_key("owner-1")
    assert api.get(f"/v1/jobs/{job_id}", key=second).status_code == 200


def test_without_a_key_nothing_is_said_about_the_body(api: Api) -> None:
    assert_problem(api.http.post("/v1/jobs", content=b"{", headers={"Content-Type": "text/plain"}), 401)
    assert_problem(api.http.post("/v1/jobs", json=TRAIN), 401)
    assert api.get("/v1/jobs").json()["items"] == []

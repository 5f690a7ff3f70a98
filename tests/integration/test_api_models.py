"""The model registry over HTTP: aliases move, roll back and are audited; held versions stay."""

from __future__ import annotations

from typing import Any

import pytest

from shared.db.engine import write
from shared.jobs import transitions
from shared.jobs.states import StopRequest
from tests.support.api import Api, assert_problem
from tests.support.factories import OWNER, make_spec
from tests.unit.shared.models.test_registry import trained


@pytest.fixture
def digits(api: Api) -> Api:
    """The model `digits` in three versions."""
    for accuracy in (0.90, 0.95, 0.97):
        trained(api.engine, "digits", accuracy)
    return api


def promote(api: Api, version: int, alias: str = "champion", **fields: Any) -> Any:
    return api.send("PUT", f"/v1/models/digits/aliases/{alias}", json={"version": version, **fields})


def test_a_model_is_everybodys_but_the_ids_of_the_jobs_behind_it_are_not(digits: Api) -> None:
    mine = digits.get("/v1/models/digits").json()["versions"][0]["job_id"]
    assert isinstance(mine, str)
    stranger = digits.new_key("somebody else")
    paths = ["/v1/models", "/v1/models/digits", "/v1/models/digits/compare?a=1&b=3"]
    seen = [digits.get(path, key=stranger) for path in paths]
    assert [answer.status_code for answer in seen] == [200] * 3
    assert seen[0].json()["items"][0]["champion"]["job_id"] is None
    assert {version["job_id"] for version in seen[1].json()["versions"]} == {None}
    assert not [answer.url for answer in seen if mine in answer.text]


def test_an_alias_moves_and_comes_back(digits: Api) -> None:
    assert promote(digits, 2, reason="better on the frozen set").json()["aliases"] == {"champion": 2}
    assert promote(digits, 3, "candidate").json()["aliases"] == {"champion": 2, "candidate": 3}
    promote(digits, 3)
    rolled = [digits.post("/v1/models/digits/rollback").json()["aliases"]["champion"] for _ in range(2)]
    assert rolled == [2, 1]
    assert_problem(digits.post("/v1/models/digits/rollback"), 409)
    page = digits.get("/v1/models/digits/history").json()
    found = [(item["change"], item["alias"], item["from_version"], item["to_version"]) for item in page["items"]]
    assert found == [
        ("rollback", "champion", 2, 1),
        ("rollback", "champion", 3, 2),
        ("set", "champion", 2, 3),
        ("set", "candidate", None, 3),
        ("set", "champion", 1, 2),
        ("set", "champion", None, 1),
    ]
    assert (page["items"][4]["who"], page["items"][4]["why"]) == (OWNER, "better on the frozen set")
    assert page["items"][5]["who"].startswith("job:")


def test_a_rollback_names_its_alias_and_passes_over_what_is_deleted(digits: Api) -> None:
    for version in (1, 2, 3):
        promote(digits, version, "live")
    promote(digits, 3)
    assert digits.send("DELETE", "/v1/models/digits/versions/2").status_code == 204
    answer = digits.post("/v1/models/digits/rollback", json={"alias": "live", "reason": "it drifts"})
    assert answer.json()["aliases"] == {"champion": 3, "live": 1}
    assert_problem(digits.post("/v1/models/digits/rollback", json={"alias": "nobody"}), 404)
    assert_problem(digits.post("/v1/models/digits/rollback", json={"to": 1}), 422, ("to",))


def test_promoting_twice_is_one_change(digits: Api) -> None:
    for _ in range(2):
        promote(digits, 2)
    assert len(digits.get("/v1/models/digits/history").json()["items"]) == 2
    page = digits.get("/v1/models/digits/history", params={"limit": 1}).json()
    rest = digits.get("/v1/models/digits/history", params={"cursor": page["next_cursor"]}).json()
    assert len(rest["items"]) == 1


def test_what_cannot_be_promoted(digits: Api) -> None:
    assert_problem(promote(digits, 9), 404)
    assert_problem(promote(digits, 0), 422, ("version",))
    assert_problem(promote(digits, 1, "7"), 422, ("alias",))
    assert_problem(digits.send("PUT", "/v1/models/nothing/aliases/champion", json={"version": 1}), 404)
    assert_problem(digits.get("/v1/models/nothing/history"), 404)


def test_a_version_that_is_held_is_not_deleted(digits: Api) -> None:
    held = assert_problem(digits.send("DELETE", "/v1/models/digits/versions/1"), 409)
    assert "'champion'" in held["detail"]
    spec = make_spec().model_dump(mode="json")
    job = {"kind": "evaluate", "model_ref": "digits@2", "dataset": "digits", "resources": spec["resources"]}
    job_id = _submit(digits, job)
    held = assert_problem(digits.send("DELETE", "/v1/models/digits/versions/2"), 409)
    assert job_id in held["detail"]
    with write(digits.engine) as conn:
        transitions.request_stop(conn, job_id, StopRequest.CANCEL, OWNER)
    assert digits.send("DELETE", "/v1/models/digits/versions/2").status_code == 204
    assert_problem(digits.send("DELETE", "/v1/models/digits/versions/2"), 404)


def _submit(api: Api, body: dict[str, Any]) -> str:
    from shared.jobs.transitions import NewJob
    from shared.specs.jobs import job_spec_adapter

    with write(api.engine) as conn:
        return transitions.submit(conn, NewJob(owner_id=OWNER, spec=job_spec_adapter.validate_python(body))).job_id


def test_a_number_is_never_given_again(digits: Api) -> None:
    assert digits.send("DELETE", "/v1/models/digits/versions/3").status_code == 204
    trained(digits.engine, "digits")
    assert [version["version"] for version in digits.get("/v1/models/digits").json()["versions"]] == [4, 2, 1]


def test_two_versions_side_by_side(digits: Api) -> None:
    answer = digits.get("/v1/models/digits/compare", params={"a": "champion", "b": "3"}).json()
    assert (answer["a"]["version"], answer["b"]["version"], answer["same_dataset"]) == (1, 3, True)
    assert answer["metrics"]["a"] == {"a": 0.90, "b": 0.97, "difference": pytest.approx(0.07)}
    assert_problem(digits.get("/v1/models/digits/compare", params={"a": "1", "b": "best"}), 404)

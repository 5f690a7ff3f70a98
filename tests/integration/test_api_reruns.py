"""Jobs that are there, changed: run again with another spec, or edited in what is not computation."""

from __future__ import annotations

from typing import Any

import pytest

from nightshift.states import JobState
from tests.support.api import Api
from tests.support.factories import job_in_state

PRESET = {"model": {"family": "cnn", "preset": "mnist-1conv-linear"}}


def rerun(api: Api, job_id: str, body: dict[str, Any], **headers: str) -> Any:
    return api.post(f"/v1/jobs/{job_id}/rerun", json=body, headers=headers)


def origin(api: Api, **fields: Any) -> dict[str, Any]:
    answer: dict[str, Any] = api.submit(**PRESET | fields).json()
    return answer


def shown(api: Api, answer: Any) -> dict[str, Any]:
    assert answer.status_code == 202, answer.text
    found: dict[str, Any] = api.get(answer.headers["Location"]).json()
    return found


def test_a_job_runs_again_with_what_was_changed(api: Api) -> None:
    old = origin(api, name="first", training={"epochs": 2}, tags={"team": "vision"}, run_at="2099-01-01T00:00:00Z")
    new = shown(api, rerun(api, old["id"][:8], {"set": {"training.learning_rate": 0.003, "name": "second"}}))
    expected = {**old["spec"], "name": "second", "run_at": None}
    expected["training"] = {**old["spec"]["training"], "learning_rate": 0.003}
    assert new["spec"] == expected
    assert new["copied_from"] == {
        "id": old["id"],
        "name": "first",
        "changes": [
            {"path": "name", "before": "first", "after": "second"},
            {"path": "training.learning_rate", "before": 0.001, "after": 0.003},
        ],
    }
    assert new["state"] == "queued"
    assert api.get(f"/v1/jobs/{old['id']}").json()["copied_from"] is None


def test_nothing_changed_is_the_same_again_also_of_a_job_that_ended(api: Api) -> None:
    job_id = job_in_state(api.engine, JobState.FAILED)
    new = shown(api, rerun(api, job_id, {}))
    assert new["copied_from"] == {"id": job_id, "name": None, "changes": []}
    assert new["spec"] == api.get(f"/v1/jobs/{job_id}").json()["spec"]


def test_another_preset_brings_its_own_layers(api: Api) -> None:
    new = shown(api, rerun(api, origin(api)["id"], {"set": {"model.preset": "mnist-2conv"}}))
    assert (new["spec"]["model"]["filters"], new["spec"]["model"]["dense"]) == ([32, 64], [128])


PROMOTE = {"metric": "test_accuracy", "evaluate_on": "digits"}


def test_a_name_a_registration_and_a_promotion_are_not_copied(api: Api) -> None:
    old = origin(api, name="nightly", register_as="digits", promote=PROMOTE)
    new = shown(api, rerun(api, old["id"], {}))
    assert [new["spec"][field] for field in ("name", "register_as", "promote")] == [None, None, None]
    assert new["spec"] == {**old["spec"], "name": None, "register_as": None, "promote": None}
    assert new["copied_from"] == {"id": old["id"], "name": "nightly", "changes": []}


def test_what_is_asked_for_is_registered_and_promoted(api: Api) -> None:
    old = origin(api, register_as="digits", promote=PROMOTE)
    registered = shown(api, rerun(api, old["id"], {"set": {"register_as": "mine"}}))["spec"]
    assert (registered["register_as"], registered["promote"]) == ("mine", None)
    sets = {"register_as": "digits", "promote.metric": "f1_macro"}
    promoted = shown(api, rerun(api, old["id"], {"set": sets}))["spec"]
    assert promoted["promote"] == {**old["spec"]["promote"], "metric": "f1_macro"}
    refused = rerun(api, old["id"], {"set": {"promote.metric": "f1_macro"}})
    assert (refused.status_code, refused.json()["errors"][0]["loc"]) == (422, ["register_as"])


def test_a_whole_spec_registers_what_it_says(api: Api) -> None:
    old = origin(api, register_as="digits")
    assert shown(api, rerun(api, old["id"], {"spec": old["spec"]}))["spec"]["register_as"] == "digits"


def test_a_whole_spec_may_come_instead(api: Api) -> None:
    old = origin(api)
    spec = {**old["spec"], "training": {"epochs": 3, "early_stopping": {"metric": "val_loss", "patience": 2}}}
    new = shown(api, rerun(api, old["id"], {"spec": spec, "set": {"training.early_stopping.patience": 4}}))
    assert new["spec"]["training"]["early_stopping"]["patience"] == 4
    assert {change["path"] for change in new["copied_from"]["changes"]} >= {
        "training.epochs",
        "training.early_stopping.patience",
    }


def test_sent_twice_with_one_key_it_is_one_job(api: Api) -> None:
    old = origin(api)
    first, second = (rerun(api, old["id"], {}, **{"Idempotency-Key": "again-1"}).json() for _ in range(2))
    assert (first["id"], second["created"]) == (second["id"], False)


@pytest.mark.parametrize(
    ("sets", "loc"),
    [
        ({"training.epochs": 0}, ["training", "epochs"]),
        ({"training.epoch": 3}, ["training", "epoch"]),
        ({"name.first": "x"}, ["name"]),
        ({"kind": "cook"}, ["kind"]),
        ({"dataset": "nowhere"}, ["dataset"]),
    ],
)
def test_what_is_no_spec_is_refused_at_its_field(api: Api, sets: dict[str, Any], loc: list[str]) -> None:
    answer = rerun(api, origin(api, name="a name")["id"], {"set": sets})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["loc"] == loc


@pytest.mark.parametrize("body", [{"set": 1}, {"set": {"": 1}}, {"set": {"a..b": 1}}, {"sets": {}}, {"spec": []}, []])
def test_a_body_that_is_no_change_is_refused(api: Api, body: Any) -> None:
    assert rerun(api, origin(api)["id"], body).status_code == 422


def test_another_owners_job_cannot_be_rerun(api: Api) -> None:
    old = origin(api)
    assert api.post(f"/v1/jobs/{old['id']}/rerun", json={}, key=api.new_key("somebody else")).status_code == 404


def test_a_long_value_is_remembered_short(api: Api) -> None:
    tags = {f"tag {number}": "x" * 200 for number in range(3)}
    changes = shown(api, rerun(api, origin(api)["id"], {"set": {"tags": tags}}))["copied_from"]["changes"]
    assert [len(change["after"]) for change in changes] == [200] * 3


# -- edit -----------------------------------------------------------------------------------------


def test_what_is_not_computation_is_edited(api: Api) -> None:
    job_id = origin(api, name="before")["id"]
    changes = {"name": None, "notes": "first line\r\nsecond", "tags": {"keep": "yes"}, "priority": 8}
    answer = api.send("PATCH", f"/v1/jobs/{job_id}", json=changes)
    assert answer.status_code == 200, answer.text
    shown = answer.json()
    assert [shown[field] for field in changes] == [None, "first line\nsecond", {"keep": "yes"}, 8]
    assert (shown["spec"]["name"], shown["spec"]["priority"]) == ("before", 5)
    assert [job["id"] for job in api.get("/v1/jobs", params={"tag": "keep=yes"}).json()["items"]] == [job_id]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"priority": 10}, "priority"),
        ({"notes": "bell \x07"}, "notes"),
        ({"notes": "x" * 20_001}, "notes"),
        ({"name": ""}, "name"),
        ({"tags": {f"tag {number}": "x" for number in range(51)}}, "tags"),
        ({"training": {"epochs": 9}}, "training"),
        ({"tags": None}, "tags"),
    ],
)
def test_an_edit_that_cannot_be_is_refused_at_its_field(api: Api, changes: dict[str, Any], field: str) -> None:
    answer = api.send("PATCH", f"/v1/jobs/{origin(api)['id']}", json=changes)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["loc"][0] == field


def test_tags_that_become_too_many_are_refused(api: Api) -> None:
    job_id = origin(api, tags={f"old {number}": "x" for number in range(30)})["id"]
    answer = api.send("PATCH", f"/v1/jobs/{job_id}", json={"tags": {f"new {number}": "x" for number in range(30)}})
    assert (answer.status_code, answer.json()["errors"][0]["loc"]) == (422, ["tags"])


def test_editing_another_owners_job_or_a_finished_ones_priority_is_refused(api: Api) -> None:
    job_id = job_in_state(api.engine, JobState.SUCCEEDED)
    assert api.send("PATCH", f"/v1/jobs/{job_id}", json={"priority": 1}).status_code == 409
    assert api.send("PATCH", f"/v1/jobs/{job_id}", json={"name": "x"}, key=api.new_key("other")).status_code == 404

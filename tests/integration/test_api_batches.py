"""`POST /v1/jobs/batch`: all or none, or each with its own answer; in one transaction, and idempotent."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import func, select

from shared.db.engine import read
from shared.db.schema import jobs
from shared.specs.batches import MAX_JOBS
from shared.specs.examples import BATCH_EXAMPLES
from tests.support.api import TRAIN, Api
from tests.support.factories import OWNER

GOOD = {**TRAIN, "name": "good"}
BAD = {**TRAIN, "dataset": "nothing-of-that-name"}
WRONG = {"kind": "train", "modle": {}}


def batch(api: Api, *specs: dict[str, Any], key: str | None = None, **fields: Any) -> Any:
    headers = {"Idempotency-Key": key} if key is not None else {}
    return api.post("/v1/jobs/batch", json={"jobs": list(specs), **fields}, headers=headers)


def count(api: Api) -> int:
    with read(api.engine) as conn:
        return conn.scalar(select(func.count()).select_from(jobs)) or 0


def test_all_jobs_are_written_in_order(api: Api) -> None:
    answer = batch(api, *({**GOOD, "name": f"job {number}", "priority": number} for number in range(5)))
    assert answer.status_code == 202, answer.text
    items = answer.json()["items"]
    assert [item["name"] for item in items] == [f"job {number}" for number in range(5)]
    assert all(item["created"] and item["state"] == "queued" and item["error"] is None for item in items)
    for number, item in enumerate(items):
        assert api.get(f"/v1/jobs/{item['id']}").json()["priority"] == number
    assert api.rung == [("auto", items[4]["id"])], "one doorbell for the queue"


def test_one_refused_job_refuses_all(api: Api) -> None:
    answer = batch(api, GOOD, BAD, GOOD, WRONG)
    assert answer.status_code == 422
    assert count(api) == 0
    assert api.rung == []
    problem = answer.json()
    assert "1, 3" in problem["detail"]
    assert {tuple(error["loc"][:2]) for error in problem["errors"]} == {("jobs", 1), ("jobs", 3)}
    assert ["jobs", 1, "dataset"] in [error["loc"] for error in problem["errors"]]


def test_a_job_that_the_transaction_refuses_rolls_back_the_others(api: Api) -> None:
    """Dependencies are looked up in the transaction that writes."""
    answer = batch(api, GOOD, {**GOOD, "after": ["0" * 16]})
    assert answer.status_code == 422
    assert ["jobs", 1, "after", 0] in [error["loc"] for error in answer.json()["errors"]]
    assert count(api) == 0


def test_each_job_has_its_own_answer(api: Api) -> None:
    answer = batch(api, GOOD, BAD, {**GOOD, "after": ["0" * 16]}, WRONG, GOOD, mode="each")
    assert answer.status_code == 202, answer.text
    items = answer.json()["items"]
    assert [bool(item["id"]) for item in items] == [True, False, False, False, True]
    assert [item["error"] and item["error"]["status"] for item in items] == [None, 422, 422, 422, None]
    assert items[1]["error"]["errors"][0]["loc"] == ["dataset"]
    assert count(api) == 2


@pytest.mark.parametrize("mode", ["all", "each"])
def test_a_repeated_batch_returns_the_same_jobs(api: Api, mode: str) -> None:
    first, again = (batch(api, GOOD, GOOD, key="sweep", mode=mode).json()["items"] for _ in range(2))
    assert [item["id"] for item in again] == [item["id"] for item in first]
    assert len({item["id"] for item in first}) == 2
    assert [item["created"] for item in first + again] == [True, True, False, False]
    assert count(api) == 2
    assert len(api.rung) == 1, "nothing was created, so nothing is rung for"


def test_a_changed_batch_with_the_same_key_is_refused(api: Api) -> None:
    batch(api, GOOD, GOOD, key="sweep")
    assert batch(api, GOOD, key="sweep").status_code == 422, "fewer jobs"
    assert batch(api, GOOD, {**GOOD, "priority": 9}, key="sweep").status_code == 422
    answers = batch(api, GOOD, GOOD, GOOD, key="sweep", mode="each").json()["items"]
    assert [item["error"] and item["error"]["status"] for item in answers] == [422, 422, None]


def test_what_was_refused_is_submitted_by_the_repeated_batch(api: Api) -> None:
    """A batch of `each` can be repeated once what it lacked is there."""
    specs = [GOOD, {**GOOD, "model": {"family": "cnn", "preset": "no such"}}]
    first = batch(api, *specs, key="sweep", mode="each").json()["items"]
    again = batch(api, *specs, key="sweep", mode="each").json()["items"]
    assert again[0]["id"] == first[0]["id"]
    assert first[1]["error"] == again[1]["error"]
    assert first[1]["error"] is not None


def test_the_size_of_a_batch_is_bounded(api: Api) -> None:
    assert batch(api).status_code == 422
    answer = batch(api, *[{"kind": "train"}] * (MAX_JOBS + 1))
    assert answer.status_code == 422
    assert f"{MAX_JOBS}" in answer.text


def test_jobs_belong_to_the_owner_of_the_key(api: Api) -> None:
    assert api.http.post("/v1/jobs/batch", json={"jobs": [GOOD]}).status_code == 401
    other = api.new_key("somebody-else")
    mine = batch(api, GOOD, key="same").json()["items"][0]["id"]
    theirs = api.post("/v1/jobs/batch", json={"jobs": [GOOD]}, key=other, headers={"Idempotency-Key": "same"}).json()[
        "items"
    ][0]["id"]
    assert mine != theirs
    assert api.get(f"/v1/jobs/{theirs}").status_code == 404
    with read(api.engine) as conn:
        assert conn.scalar(select(jobs.c.owner_id).where(jobs.c.id == mine)) == OWNER


@pytest.mark.parametrize("example", BATCH_EXAMPLES)
def test_examples_of_the_documentation_are_answered(api: Api, example: str) -> None:
    answer = api.post("/v1/jobs/batch", json=BATCH_EXAMPLES[example]["value"])
    assert answer.status_code == 202, answer.text


def test_jobs_of_a_batch_that_are_not_due_are_not_rung_for(api: Api) -> None:
    later = {**GOOD, "run_at": "2099-01-01T00:00:00Z"}
    batch(api, later, {**later, "resources": {"device": "gpu"}}, {**GOOD, "resources": {"device": "cpu"}})
    assert [device for device, _ in api.rung] == ["cpu"]
    api.submit(run_at="2099-01-01T00:00:00Z")
    assert [device for device, _ in api.rung] == ["cpu"]

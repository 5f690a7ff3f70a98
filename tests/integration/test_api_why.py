"""GET /v1/jobs/{id}/why: for every state, for its owner only, and the same through SDK and command line."""

from __future__ import annotations

import pytest

from nightshift.states import JobState
from tests.support.api import Api, assert_problem
from tests.support.factories import job_in_state


@pytest.mark.parametrize("state", list(JobState))
def test_every_state_has_a_reason(api: Api, state: JobState) -> None:
    job_id = job_in_state(api.engine, state)
    answer = api.get(f"/v1/jobs/{job_id[:8]}/why")
    assert answer.status_code == 200
    told = answer.json()
    assert (told["id"], told["state"]) == (job_id, state)
    assert told["sentence"].startswith("It ")
    assert told["sentence"].endswith(".")
    assert told["reasons"]
    assert all(reason["code"] and reason["sentence"] for reason in told["reasons"])


def test_another_owners_job_is_not_explained(api: Api) -> None:
    job_id = job_in_state(api.engine, JobState.QUEUED)
    assert_problem(api.get(f"/v1/jobs/{job_id}/why", key=api.new_key("somebody")), 404)

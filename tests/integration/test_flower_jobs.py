"""The pages of jobs inside Flower, over HTTP: what they tell, whose jobs they show, and what they let people do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from nightshift.states import JobState
from shared.db.engine import read, write
from shared.jobs import queries, transitions
from shared.jobs.states import AttemptOutcome
from shared.jobs.transitions import ArtifactRecord, Ending, Lease, LogRow, MetricRow
from shared.specs.jobs import job_spec_adapter
from tests.support.factories import ERROR, commit_checkpoint, job_in_state, running_job, submit_job
from tests.support.flower_app import FlowerApp, running_flower_app

HOSTILE = "</script><script>alert(1)</script>"


@pytest.fixture
def flower(sqlite_engine: Engine, tmp_path: Path) -> Iterator[FlowerApp]:
    with running_flower_app(sqlite_engine, tmp_path) as app:
        yield app


def running(flower: FlowerApp, **fields: Any) -> Lease:
    return running_job(flower.engine, owner_id=flower.owner, **fields)


def job(flower: FlowerApp, job_id: str) -> dict[str, Any]:
    with read(flower.engine) as conn:
        return queries.job_view(queries.get_job(conn, job_id, None))


def served(flower: FlowerApp, path: str) -> Any:
    """The data that a page brings along."""
    page = flower.client.get(f"/nightshift{path}")
    assert page.status_code == 200, page.text
    found = re.search(r'<script type="application/json" id="ns-data">(.*?)</script>', page.text, re.DOTALL)
    assert found
    return json.loads(found[1])


# -- the table ------------------------------------------------------------------------------------


def test_the_first_page_is_the_table_of_jobs(flower: FlowerApp) -> None:
    answer = flower.client.get("/", follow_redirects=True)
    assert (answer.status_code, answer.url.path) == (200, "/nightshift/jobs")
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "script-src" not in policy, "scripts may come from this server only, none from the page itself"


def test_the_table_tells_how_each_job_stands(flower: FlowerApp) -> None:
    lease = running(flower, name=HOSTILE, tags={"team": "vision"})
    with write(flower.engine) as conn:
        points = [MetricRow("loss", step, 0, 1 / (step + 1)) for step in range(100)]
        transitions.record(conn, lease, progress={"step": 99, "total_steps": 200, "percent": 49.5}, metrics=points)
    (row,) = served(flower, "/jobs")["items"]
    assert (row["name"], row["state"], row["who"], row["device"]) == (HOSTILE, "running", "test", "cpu")
    assert row["progress"]["percent"] == 49.5
    assert row["headline"] == {"name": "loss", "value": 0.01}
    assert row["spark"]["points"][0] == [0, 1.0]
    assert row["spark"]["points"][-1] == [99, 0.01]
    assert len(row["spark"]["points"]) <= 32


def test_a_name_cannot_end_the_data_it_stands_in(flower: FlowerApp) -> None:
    lease = running(flower, name=HOSTILE)
    for path in ("/jobs", f"/jobs/{lease.job_id}", f"/compare?ids={lease.job_id}"):
        assert HOSTILE not in flower.client.get(f"/nightshift{path}").text


def test_search_filter_sort_and_pages(flower: FlowerApp) -> None:
    mine = {"owner_id": flower.owner}
    for number in range(7):
        submit_job(flower.engine, name=f"sweep {number}", priority=number, **mine)
    job_in_state(flower.engine, JobState.SUCCEEDED, name="100% done", tags={"team": "text"}, **mine)

    def names(**query: Any) -> list[str]:
        return [row["name"] for row in flower.data("/jobs/data", **query)["items"]]

    assert names(q="sweep", sort="name", limit=3) == ["sweep 0", "sweep 1", "sweep 2"]
    assert names(q="sweep", sort="name", limit=3, page=3) == ["sweep 6"]
    assert names(q="sweep", sort="name", limit=3, page=99) == ["sweep 6"], "past the end is the end"
    assert names(sort="-priority")[1:3] == ["sweep 6", "sweep 5"]
    assert names(state="succeeded") == names(q="100%") == names(q="TEXT") == ["100% done"]
    assert names(q="%") == ["100% done"], "a per cent sign is no wildcard"
    answer = flower.data("/jobs/data", state="succeeded", family="cnn", dataset="digits", kind="train")
    assert (answer["total"], answer["counts"]["queued"], answer["counts"]["succeeded"]) == (1, 7, 1)
    first = flower.data("/jobs/data", q="sweep 3")["items"][0]
    assert flower.data("/jobs/data", q=first["id"][:7])["items"] == [first]


@pytest.mark.parametrize(
    "query", ["state=gone", "sort=1;2", "columns=a%22b", "page=0", "limit=1000000", "page=-1", "q=%00"]
)
def test_a_strange_question_is_refused(flower: FlowerApp, query: str) -> None:
    answer = flower.client.get(f"/nightshift/jobs/data?{query}")
    assert answer.status_code == 422
    assert answer.json()["error"]


def test_a_method_that_an_address_does_not_take_is_no_fault_of_ours(flower: FlowerApp) -> None:
    refused = flower.post("/jobs/data")
    assert (refused.status_code, "does not support this HTTP method" in refused.json()["error"]) == (405, True)
    page = flower.client.delete("/nightshift/jobs", headers={"X-XSRFToken": flower.client.cookies["_xsrf"]})
    assert (page.status_code, "Internal error" in page.text) == (405, False)


def test_unchanged_data_costs_no_transfer(flower: FlowerApp) -> None:
    submit_job(flower.engine, owner_id=flower.owner)
    first = flower.client.get("/nightshift/jobs/data")
    again = flower.client.get("/nightshift/jobs/data", headers={"If-None-Match": first.headers["Etag"]})
    assert (again.status_code, again.content) == (304, b"")


# -- whose ----------------------------------------------------------------------------------------


def test_another_owners_job_is_not_there(flower: FlowerApp) -> None:
    theirs = running_job(flower.engine, name="theirs").job_id
    assert flower.data("/jobs/data")["total"] == 0
    for path in ("", "/live", "/curves", "/log", "/files/model/config.json"):
        assert flower.client.get(f"/nightshift/jobs/{theirs}{path}").status_code == 404
    assert flower.client.get(f"/nightshift/compare/data?ids={theirs}").status_code == 404
    assert flower.post(f"/jobs/{theirs}/cancel").status_code == 404
    assert job(flower, theirs)["stop_requested"] is None


def test_everyones_jobs_where_the_operator_says_so(sqlite_engine: Engine, tmp_path: Path) -> None:
    with running_flower_app(sqlite_engine, tmp_path, flower_shows="everyone") as flower:
        theirs = running_job(flower.engine, name="theirs").job_id
        assert [row["name"] for row in flower.data("/jobs/data")["items"]] == ["theirs"]
        assert flower.post(f"/jobs/{theirs}/cancel").status_code == 200
        assert job(flower, theirs)["stop_requested"] == "cancel"


def test_every_page_and_all_data_want_a_key(flower: FlowerApp) -> None:
    job_id = running(flower).job_id
    for path in ("/jobs", "/jobs/data", f"/jobs/{job_id}", f"/jobs/{job_id}/curves", "/compare", "/nothing"):
        assert flower.client.get(f"/nightshift{path}", auth=("nightshift", "wrong")).status_code == 401


# -- one job --------------------------------------------------------------------------------------


def test_the_page_tells_each_attempt_and_why_it_ended(flower: FlowerApp) -> None:
    lease = running(flower)
    commit_checkpoint(flower.engine, lease, step=10)
    error = ERROR | {"type": "crashed", "message": "the runner was killed by SIGKILL", "retryable": True}
    with write(flower.engine) as conn:
        ending = Ending(signal=9, peak_memory_bytes=1000)
        transitions.fail(conn, lease, outcome=AttemptOutcome.CRASHED, error=error, ending=ending)
    shown = served(flower, f"/jobs/{lease.job_id}")
    (attempt,) = shown["attempts"]
    assert (attempt["outcome"], attempt["signal"], attempt["peak_memory_bytes"]) == ("crashed", 9, 1000)
    assert attempt["error"]["message"] == "the runner was killed by SIGKILL"
    assert [(part["state"], part["outcome"]) for part in shown["timeline"]] == [
        ("queued", None), ("running", "crashed"), ("queued", None),
    ]  # fmt: skip
    assert shown["timeline"][-1]["to"] is None
    assert [checkpoint["step"] for checkpoint in shown["checkpoints"]] == [10]
    assert shown["why"]["sentence"]
    assert shown["actions"] == ["pause", "finish", "cancel"]


def test_what_happens_next_comes_without_asking_for_all_again(flower: FlowerApp) -> None:
    lease = running(flower)
    path = f"/jobs/{lease.job_id}"
    seq = served(flower, path)["seq"]
    assert flower.data(f"{path}/live", after=seq) == {"events": [], "more": False}
    with write(flower.engine) as conn:
        transitions.record(
            conn, lease, progress={"step": 1}, metrics=[MetricRow("loss", 1, 0, 0.5)], logs=[LogRow("info", HOSTILE)]
        )
    news = flower.data(f"{path}/live", after=seq)
    assert [event["type"] for event in news["events"]] == ["log", "metric", "progress"]
    assert news["overview"]["job"]["progress"]["step"] == 1
    assert flower.data(f"{path}/curves")["curves"]["loss"]["value"] == [0.5]


def test_the_log_comes_from_its_end(flower: FlowerApp) -> None:
    lease = running(flower)
    with write(flower.engine) as conn:
        transitions.record(conn, lease, logs=[LogRow("info", f"line {number}") for number in range(1000)])
    lines = served(flower, f"/jobs/{lease.job_id}")["log"]
    assert [line["message"] for line in lines] == [f"line {number}" for number in range(600, 1000)]
    earlier = flower.data(f"/jobs/{lease.job_id}/log", before=lines[0]["seq"], limit=2)["lines"]
    assert [line["message"] for line in earlier] == ["line 598", "line 599"]


def test_files_are_served_as_what_they_are_and_run_nothing(flower: FlowerApp, tmp_path: Path) -> None:
    lease = running(flower)
    stored = {"page.html": (b"<script>alert(1)</script>", "text/html"), "curves.png": (b"\x89PNG", "image/png")}
    records = []
    for name, (content, media_type) in stored.items():
        (tmp_path / "storage").mkdir(exist_ok=True)
        (tmp_path / "storage" / name).write_bytes(content)
        records.append(ArtifactRecord(name, name, "0" * 64, len(content), media_type))
    with write(flower.engine) as conn:
        transitions.commit_artifacts(conn, lease, records)
    answers = {name: flower.client.get(f"/nightshift/jobs/{lease.job_id}/files/{name}") for name in stored}
    assert {name: answer.content for name, answer in answers.items()} == {name: stored[name][0] for name in stored}
    assert answers["page.html"].headers["Content-Disposition"].startswith("attachment")
    assert answers["curves.png"].headers["Content-Disposition"].startswith("inline")
    assert all("sandbox" in answer.headers["Content-Security-Policy"] for answer in answers.values())
    for path in ("../nightshift.db", "..%2Fnightshift.db", "%2Fetc%2Fpasswd", "gone.png"):
        assert flower.client.get(f"/nightshift/jobs/{lease.job_id}/files/{path}").status_code == 404


def test_several_jobs_are_laid_over_each_other(flower: FlowerApp) -> None:
    leases = [running(flower, name=name) for name in ("one", "two")]
    for lease in leases:
        with write(flower.engine) as conn:
            transitions.record(conn, lease, metrics=[MetricRow("loss", 1, 0, 0.5)])
    ids = ",".join(lease.job_id for lease in leases)
    shown = flower.data("/compare/data", ids=ids)["jobs"]
    assert [(one["name"], one["curves"]["loss"]["step"]) for one in shown] == [("one", [1]), ("two", [1])]


# -- what people may do ---------------------------------------------------------------------------


def test_buttons_do_what_they_say(flower: FlowerApp) -> None:
    lease = running(flower)
    path = f"/jobs/{lease.job_id}"
    assert flower.post(f"{path}/pause").json()["stop_requested"] == "pause"
    assert served(flower, path)["actions"] == ["finish", "cancel"]
    with write(flower.engine) as conn:
        transitions.stop(conn, lease, outcome=AttemptOutcome.PAUSED)
    assert served(flower, path)["actions"] == ["resume", "cancel"]
    assert flower.post(f"{path}/resume").json()["state"] == "queued"
    assert flower.post(f"{path}/cancel").json()["state"] == "cancelled"
    refused = flower.post(f"{path}/pause")
    assert refused.status_code == 409
    assert "cancelled" in refused.json()["error"]
    assert served(flower, path)["actions"] == ["archive", "delete"]
    assert flower.post(f"{path}/archive").json()["archived_at"]
    assert served(flower, path)["actions"] == ["unarchive", "delete"]


def test_run_again_is_a_new_job_with_the_same_spec_but_for_what_was_changed(flower: FlowerApp) -> None:
    fields: dict[str, Any] = {"name": "again", "tags": {"a": "b"}, "register_as": "digits"}
    old = submit_job(flower.engine, owner_id=flower.owner, **fields).job_id
    given = served(flower, f"/jobs/new?like={old}")
    assert given["origin"]["registered_as"] == "digits"
    cifar = next(one for one in given["datasets"] if one["name"] == "cifar10")
    assert cifar.items() >= {"kind": "image", "availability": "needs_download"}.items()
    assert set(cifar["families"]) >= {"cnn", "gan"}
    spec = given["origin"]["spec"] | {"priority": 7}
    sent = [flower.post("/jobs/submit", {"spec": spec, "like": old, "token": given["token"]}) for _ in range(2)]
    new, same = (answer.json()["id"] for answer in sent)
    assert (new != old, same) == (True, new)
    assert job(flower, new)["spec"] == job(flower, old)["spec"] | {"priority": 7, "name": None, "register_as": None}
    assert job(flower, new)["copied_from"]["changes"] == [{"path": "priority", "before": 5, "after": 7}]
    assert job(flower, new)["state"] == "queued"


def test_a_job_by_hand_is_refused_at_its_fields(flower: FlowerApp) -> None:
    fields = {field["path"]: field for field in served(flower, "/jobs/new")["forms"]["train"]}
    assert (fields["training.epochs"]["minimum"], fields["training.epochs"]["often"]) == (1, True)
    assert fields["training.lr_schedule"]["enum"] == ["constant", "cosine", "onecycle", "plateau"]
    spec = {"kind": "train", "model": {"family": "cnn"}, "dataset": "digits", "training": {"epochs": 0, "seed": "x"}}
    refused = flower.post("/jobs/submit", {"spec": spec})
    assert refused.status_code == 422
    assert [error["loc"] for error in refused.json()["errors"]] == [["training", "epochs"], ["training", "seed"]]
    for body in ({"spec": []}, {}, {"spec": spec, "like": 5}, {"spec": [], "like": "0123456789abcdef"}):
        assert flower.post("/jobs/submit", body).status_code in (404, 422)


def test_a_post_without_the_pages_token_is_refused(flower: FlowerApp) -> None:
    job_id = running(flower).job_id
    path = f"/nightshift/jobs/{job_id}/cancel"
    assert flower.client.post(path).status_code == 403
    assert flower.post(f"/jobs/{job_id}/cancel", **{"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert flower.post(f"/jobs/{job_id}/cancel", Origin="http://evil.example").status_code == 403
    assert job(flower, job_id)["stop_requested"] is None


def test_read_only_shows_all_and_changes_nothing(sqlite_engine: Engine, tmp_path: Path) -> None:
    with running_flower_app(sqlite_engine, tmp_path, flower_read_only=True) as flower:
        job_id = running(flower).job_id
        page = flower.client.get(f"/nightshift/jobs/{job_id}").text
        assert '"readOnly": true' in page
        for action in ("cancel", "finish", "pause", "resume"):
            assert flower.post(f"/jobs/{job_id}/{action}").status_code == 403
        assert flower.post(f"/jobs/{job_id}/edit", {"name": "x"}).status_code == 403
        assert flower.post("/jobs/submit").status_code == 403
        assert flower.client.get("/nightshift/jobs/new").status_code == 403
        assert "jobs/new" not in flower.client.get("/nightshift/jobs").text
        assert flower.data("/jobs/data")["total"] == 1
        assert job(flower, job_id)["stop_requested"] is None


# -- under a prefix -------------------------------------------------------------------------------


def test_everything_lies_under_the_prefix(sqlite_engine: Engine, tmp_path: Path) -> None:
    with running_flower_app(sqlite_engine, tmp_path, flower_url_prefix="/flower/") as flower:
        submit_job(flower.engine, owner_id=flower.owner)
        page = flower.client.get("/flower/", follow_redirects=True)
        assert page.url.path == "/flower/nightshift/jobs"
        links = set(re.findall(r'(?:href|src)="(/[^"]*)"', page.text))
        assert links
        assert all(link.startswith("/flower/") for link in links), links
        assert {flower.client.get(link).status_code for link in links} <= {200, 302}
        assert flower.client.get("/flower/nightshift/jobs/data").json()["total"] == 1
        assert flower.client.get("/nightshift/jobs").status_code == 404
        assert flower.client.get("/healthcheck").status_code == 200


def test_flowers_own_pages_have_our_tabs(flower: FlowerApp) -> None:
    for path in ("/workers", "/tasks"):
        assert 'href="/nightshift/jobs"' in flower.client.get(path).text


def test_all_that_a_search_finds_are_compared(flower: FlowerApp) -> None:
    leases = []
    for number in range(3):
        leases.append(running(flower, name=f"trial {number}", training={"learning_rate": 10.0**-number}))
        with write(flower.engine) as conn:
            values = enumerate((0.5, 0.1, 0.3 + number))
            points = [MetricRow(name, step, 0, value) for step, value in values for name in ("loss", "val_loss")]
            transitions.record(conn, leases[-1], metrics=points)
    submit_job(flower.engine, owner_id=flower.owner, name="another")
    found = flower.data("/compare/data", all=1, q="trial lr<1", sort="-loss")
    assert ([job["name"] for job in found["jobs"]], found["matching"]) == (["trial 2", "trial 1"], 2)
    first = found["jobs"][0]
    assert (first["results"], first["best"]) == ({"loss": 2.3, "val_loss": 2.3}, {"val_loss": 0.1})
    assert (first["settings"]["training.learning_rate"], first["settings"]["model.preset"]) == (
        0.01,
        "mnist-1conv-linear",
    )
    assert found["senses"] == {"val_loss": "min"}, "of the last batches none is the best"
    assert first["curves"]["loss"]["value"] == [0.5, 0.1, 2.3]
    some = ",".join(["0" * 16, leases[0].job_id, "f" * 16])
    assert [job["name"] for job in flower.data("/compare/data", ids=some)["jobs"]] == ["trial 0"], "others are left out"


def test_curves_of_twelve_and_values_of_a_hundred(flower: FlowerApp) -> None:
    ids = [submit_job(flower.engine, owner_id=flower.owner).job_id for _ in range(14)]
    jobs = flower.data("/compare/data", ids=",".join(ids))["jobs"]
    assert [job["id"] for job in jobs] == ids
    assert ["curves" in job for job in jobs] == [True] * 12 + [False] * 2
    many = flower.client.get("/nightshift/compare/data", params={"ids": ",".join(f"{n:016x}" for n in range(101))})
    assert (many.status_code, "at most 100" in many.json()["error"]) == (422, True)


def test_the_page_of_a_divided_job_lists_its_shards(flower: FlowerApp) -> None:
    how = {"task": "generate", "count": 40, "shards": 2}
    spec = job_spec_adapter.validate_python({"kind": "batch_infer", "model_ref": "cats", "inference": how})
    with write(flower.engine) as conn:
        job_id = transitions.submit(conn, transitions.NewJob(flower.owner, spec)).job_id
    page = served(flower, f"/jobs/{job_id}")
    assert [(one["shard"], one["shards"], one["state"]) for one in page["shards"]] == [
        (1, 2, "queued"),
        (2, 2, "queued"),
    ]
    assert page["actions"] == ["pause", "cancel"]
    shard = served(flower, f"/jobs/{page['shards'][0]['id']}")
    assert (shard["job"]["part_of"], shard["actions"], shard["shards"]) == (job_id, [], [])

"""What the pages of data sets, devices and models ask, on both databases."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine, update

from shared.datasets import overview as datasets
from shared.datasets import registry
from shared.db.engine import read, write
from shared.db.schema import jobs
from shared.fleet.history import timeline
from shared.jobs import transitions
from shared.jobs.queries.queue import queued_jobs
from shared.jobs.states import AttemptOutcome
from shared.models import editing, overview
from shared.settings import Settings
from tests.support.dataset_files import class_folders
from tests.support.factories import OWNER, running_job, submit_job
from tests.unit.shared.models.test_registry import trained


def test_a_data_set_counts_its_jobs_and_models_by_version(engine: Engine, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    registry.register(engine, settings, "pets", class_folders(tmp_path / "pets"))
    for pinned in ("pets@1", "pets@1", None):
        job_id = submit_job(engine, dataset="pets").job_id
        if pinned:
            with write(engine) as conn:
                conn.execute(update(jobs).where(jobs.c.id == job_id).values(pinned={"dataset": pinned}))
    with read(engine) as conn:
        shown = datasets.detail(conn, settings, "pets", OWNER)
        (found,) = [item for item in datasets.overview(conn, settings) if item["name"] == "pets"]
    assert [version["jobs"] for version in shown["versions"]] == [2]
    assert len(shown["versions"][0]["held_by"]) == 3
    assert sorted(str(job["version"]) for job in shown["jobs"]) == ["1", "1", "None"]
    assert found["jobs"] == 3


def test_the_history_and_the_queue_are_told(engine: Engine) -> None:
    lease = running_job(engine)
    with write(engine) as conn:
        transitions.stop(conn, lease, outcome=AttemptOutcome.CANCELLED)
    submit_job(engine, priority=2, name="next")
    with read(engine) as conn:
        lane = timeline(conn, OWNER, "day")["devices"]["cpu0@test"]
        queue = queued_jobs(conn, OWNER, 30.0)
    assert (lane["outcomes"], len(lane["spans"])) == ({"cancelled": 1}, 1)
    assert [job["name"] for job in queue["due"]] == ["next"]


def test_versions_are_described_and_shown(engine: Engine) -> None:
    job_id = trained(engine, "digits")
    with write(engine) as conn:
        editing.register_job(conn, "other", job_id, OWNER, who=OWNER, tags={"a": "b"})
        editing.describe(conn, "other", "one", who=OWNER)
        editing.describe(conn, "other", "two", who=OWNER)
    with read(engine) as conn:
        shown = overview.detail(conn, "other", OWNER)
    assert (shown["description"], shown["versions"][0]["tags"]) == ("two", {"a": "b"})

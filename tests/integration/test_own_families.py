"""Jobs of an installed family on a real worker: killed, resumed, in another version, with the model that one made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from shared.datasets.registry import ensure_builtin
from shared.db.engine import write
from shared.fleet.plugins import InstalledPlugin
from shared.fleet.workers import WorkerInfo, register
from shared.jobs import transitions
from shared.jobs.transitions import NewJob
from shared.specs.families import FAMILIES
from shared.specs.jobs import job_spec_adapter
from tests.support.factories import OWNER, make_due
from tests.support.lone_worker import Cluster, LoneWorker
from tests.support.own_family import LEARNER, offer, write_family
from tests.support.program_jobs import log_of, rows, why
from tests.support.stack import eventually

#: Dies once, in the middle of the run, if the file `marker` names is not there yet.
DYING = LEARNER.replace(
    "    def train_step(self, rows, step):",
    """    def train_step(self, rows, step):
        import os, pathlib, signal
        marker = pathlib.Path(__file__).with_name("killed")
        if step == 17 and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)""",
)


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = write_family(tmp_path / "packages", learner=DYING)
    (folder / "killed").touch()
    offer(folder, monkeypatch, "built-in,linear")
    yield folder
    monkeypatch.undo()
    FAMILIES.forget()


@pytest.fixture
def cluster(tmp_path: Path, database_url: str, packages: Path) -> Iterator[Cluster]:
    found = Cluster(tmp_path, database_url, packages=packages)
    ensure_builtin(found.engine, found.settings, "digits")
    yield found
    found.close()


def submit(cluster: Cluster, pinned: dict[str, Any] | None = None, **fields: Any) -> str:
    body = {"kind": "train", "dataset": "digits", **fields}
    if body["kind"] == "train":
        body = {"model": {"family": "linear"}, **body}
    body = {"checkpoint": {"every_steps": 5, "every_seconds": None}, **body}
    new = NewJob(owner_id=OWNER, spec=job_spec_adapter.validate_python(body), pinned=pinned or {})
    with write(cluster.engine) as conn:
        return transitions.submit(conn, new).job_id


def crashed_once(cluster: Cluster, packages: Path) -> str:
    """Return a queued job whose runner was killed in its seventeenth step."""
    (packages / "killed").unlink()
    job_id = submit(cluster)
    worker = cluster.target_worker
    worker.start()
    eventually("the runner was killed", lambda: (packages / "killed").exists() or worker.done())
    worker.wait()
    return job_id


def weights(cluster: Cluster, job_id: str) -> dict[str, np.ndarray[Any, Any]]:
    (found,) = (cluster.root / "jobs" / job_id).glob("attempts/*/artifacts/model/model.safetensors")
    return dict(load_file(found))


def test_a_killed_run_resumes_to_the_same_rows_and_weights(cluster: Cluster, packages: Path) -> None:
    untouched = submit(cluster)
    cluster.recovery_worker.run()
    job_id = crashed_once(cluster, packages)
    job = cluster.finish(job_id)
    assert job.state == "succeeded", job.error
    assert cluster.outcomes(job_id) == ["crashed", "succeeded"]
    assert job.pinned["plugin"]["package"] == "nightshift-linear 1.0"
    pace = "samples_per_second"
    assert [row for row in rows(cluster, job_id) if row.name != pace] == [
        row for row in rows(cluster, untouched) if row.name != pace
    ]
    wanted = weights(cluster, untouched)
    for name, array in weights(cluster, job_id).items():
        assert array.tobytes() == wanted[name].tobytes(), name


@contextmanager
def another_version(cluster: Cluster, packages: Path, more: str) -> Iterator[LoneWorker]:
    """Upgrade the package, and yield a worker that has started with it."""
    write_family(packages, version="2.0", more=more, learner=f"{DYING}\n# 2.0\n")
    newer = LoneWorker("newer", cluster.database_url, cluster.data_dir, packages=packages)
    try:
        with write(cluster.engine) as conn:
            plugin = InstalledPlugin("family linear", "nightshift-linear 2.0", "another", 2)
            register(conn, WorkerInfo("newer", "test", 1, "cpu", "cpu", frameworks=["torch"], plugins=[plugin]))
        yield newer
    finally:
        newer.close()


def test_a_job_stays_with_the_version_that_it_began_with(cluster: Cluster, packages: Path) -> None:
    job_id = crashed_once(cluster, packages)
    with another_version(cluster, packages, "") as newer:
        make_due(cluster.engine, job_id)
        newer.run()
        assert cluster.job(job_id).state == "queued"
        assert why(cluster, job_id) == (
            "It is queued: no worker online has nightshift-linear 1.0, which the job began with (newer has 2.0)."
        )
    write_family(packages, learner=DYING)
    again = LoneWorker("again", cluster.database_url, cluster.data_dir, packages=packages)
    try:
        again.run()
    finally:
        again.close()
    assert cluster.job(job_id).state == "succeeded"


def test_a_version_that_loads_the_old_state_goes_on_and_says_so(cluster: Cluster, packages: Path) -> None:
    job_id = crashed_once(cluster, packages)
    with another_version(cluster, packages, "state_version=2, loads=(1,)") as newer:
        make_due(cluster.engine, job_id)
        newer.run()
    assert cluster.job(job_id).state == "succeeded"
    said = "continues with nightshift-linear 2.0 what nightshift-linear 1.0 began: not exact"
    assert said in " ".join(log_of(cluster, job_id))


def test_a_worker_without_the_family_leaves_the_job_and_runs_others(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = submit(cluster)
    other = submit(cluster, model={"family": "cnn", "preset": "mnist-1conv-linear"}, training={"max_steps": 1})
    monkeypatch.delenv("NIGHTSHIFT_FAMILIES")
    without = LoneWorker("without", cluster.database_url, cluster.data_dir)
    try:
        with write(cluster.engine) as conn:
            register(conn, WorkerInfo("without", "test", 1, "cpu", "cpu", frameworks=["torch"]))
        without.run()
    finally:
        without.close()
    assert (cluster.job(job_id).state, cluster.job(other).state) == ("queued", "succeeded")
    assert why(cluster, job_id) == (
        "It is queued: no worker online has the family linear "
        "(install its package there and name it in NIGHTSHIFT_FAMILIES)."
    )
    assert cluster.job(other).pinned["plugin"]["package"].startswith("nightshift ")


def test_a_model_is_used_by_the_version_that_made_it(cluster: Cluster, packages: Path) -> None:
    made = submit(cluster)
    cluster.recovery_worker.run()
    pinned = {"family": "linear", "plugin": cluster.job(made).pinned["plugin"]}
    use = submit(cluster, pinned, kind="batch_infer", model_ref=f"job:{made}")
    with another_version(cluster, packages, "state_version=2") as newer:
        newer.run()
        assert cluster.job(use).state == "queued"
        assert "nightshift-linear 1.0, which the job began with (newer has 2.0)" in why(cluster, use)
        of_a_schedule = submit(cluster, kind="evaluate", model_ref=f"job:{made}")
        assert "the family linear in the version that made its model (newer has 2.0)" in why(cluster, of_a_schedule)
    cluster.recovery_worker.run()
    assert cluster.job(use).state == "succeeded"


def test_a_job_that_names_a_model_only_needs_its_family_and_version(cluster: Cluster) -> None:
    """As the jobs of schedules, for which nothing has looked the model up."""
    made = submit(cluster)
    cluster.recovery_worker.run()
    record = cluster.job(made).pinned["plugin"]["record"]
    use = cluster.job(submit(cluster, kind="evaluate", model_ref=f"job:{made}"))
    assert (use.plugin, use.plugin_record, use.plugin_state) == ("family linear", record, 1)
    gone = submit(cluster, kind="evaluate", model_ref="gone")
    assert cluster.job(gone).plugin is None
    cluster.recovery_worker.run()
    cluster.recovery_worker.run()
    assert (cluster.job(use.id).state, cluster.job(gone).state) == ("succeeded", "failed")
    assert cluster.job(use.id).pinned["plugin"]["package"] == "nightshift-linear 1.0"
    assert "there is no model 'gone'" in cluster.job(gone).error["message"]

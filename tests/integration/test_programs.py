"""Jobs of installed programs on a real worker: killed, resumed, in another version, with secrets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from shared.datasets import registry
from shared.db.engine import read, write
from shared.db.schema import job_logs, metadata, metrics, model_versions
from shared.fleet.plugins import InstalledPlugin
from shared.fleet.workers import WorkerInfo, register
from shared.jobs import queries, transitions
from shared.jobs.explain import explain
from shared.jobs.transitions import NewJob
from shared.specs.jobs import job_spec_adapter
from tests.support.factories import OWNER, make_due
from tests.support.lone_worker import Cluster, LoneWorker
from tests.support.plugins import write_package
from tests.support.stack import eventually

SECRET = "hunter2-is-not-a-word"


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    return write_package(tmp_path / "packages")


@pytest.fixture
def cluster(tmp_path: Path, database_url: str, packages: Path) -> Iterator[Cluster]:
    found = Cluster(tmp_path, database_url, packages=packages, programs="walk")
    yield found
    found.close()


def submit(cluster: Cluster, **fields: Any) -> str:
    params = {"steps": 20} | fields.pop("params", {})
    policy = {"every_steps": 4, "every_seconds": None}
    body = {"kind": "run", "program": "walk", "params": params, "checkpoint": policy, **fields}
    new = NewJob(owner_id=OWNER, spec=job_spec_adapter.validate_python(body))
    with write(cluster.engine) as conn:
        return transitions.submit(conn, new).job_id


def rows(cluster: Cluster, job_id: str) -> list[Any]:
    with read(cluster.engine) as conn:
        columns = (metrics.c.name, metrics.c.step, metrics.c.value)
        return list(conn.execute(select(*columns).where(metrics.c.job_id == job_id).order_by(metrics.c.step)))


def model_bytes(cluster: Cluster, job_id: str) -> bytes:
    (found,) = (cluster.root / "jobs" / job_id).glob("attempts/*/artifacts/model/place.npy")
    return found.read_bytes()


def log_of(cluster: Cluster, job_id: str) -> list[str]:
    with read(cluster.engine) as conn:
        return list(conn.scalars(select(job_logs.c.message).where(job_logs.c.job_id == job_id)))


def why(cluster: Cluster, job_id: str) -> str:
    with read(cluster.engine) as conn:
        job = queries.get_job(conn, job_id, OWNER)
        return explain(job, queries.explain_context(conn, job, 30.0)).sentence


def crashed_once(cluster: Cluster, tmp_path: Path) -> str:
    """Return a queued job whose runner was killed after a checkpoint."""
    marker = tmp_path / "marker"
    job_id = submit(cluster, params={"killed_at": 10, "marker": str(marker)})
    worker = cluster.target_worker
    worker.start()
    eventually("the runner was killed", marker.exists)
    worker.wait()
    return job_id


def test_a_killed_program_resumes_to_the_same_rows_and_model(cluster: Cluster, tmp_path: Path) -> None:
    untouched = submit(cluster)
    cluster.recovery_worker.run()
    job_id = crashed_once(cluster, tmp_path)
    job = cluster.finish(job_id)
    assert job.state == "succeeded", job.error
    assert cluster.outcomes(job_id) == ["crashed", "succeeded"]
    assert rows(cluster, job_id) == rows(cluster, untouched)
    assert model_bytes(cluster, job_id) == model_bytes(cluster, untouched)


def test_a_job_stays_with_the_version_that_it_began_with(cluster: Cluster, packages: Path, tmp_path: Path) -> None:
    job_id = crashed_once(cluster, tmp_path)
    write_package(packages, version="2.0", more=", state_version=2")
    newer = LoneWorker("newer", cluster.database_url, cluster.data_dir, packages=packages, programs="walk")
    try:
        register_worker(cluster, newer.name, packages)
        make_due(cluster.engine, job_id)
        newer.run()
        assert cluster.job(job_id).state == "queued"
        assert why(cluster, job_id) == (
            "It is queued: no worker online has nightshift-walk 1.0, which the job began with (newer has 2.0)."
        )
    finally:
        newer.close()


def test_a_version_that_loads_the_old_state_goes_on_and_says_so(
    cluster: Cluster, packages: Path, tmp_path: Path
) -> None:
    job_id = crashed_once(cluster, tmp_path)
    write_package(packages, version="2.0", more=", state_version=2, loads=(1,)")
    newer = LoneWorker("newer", cluster.database_url, cluster.data_dir, packages=packages, programs="walk")
    try:
        make_due(cluster.engine, job_id)
        newer.run()
    finally:
        newer.close()
    assert cluster.job(job_id).state == "succeeded"
    assert cluster.job(job_id).pinned["plugin"]["package"] == "nightshift-walk 1.0"
    said = "continues with nightshift-walk 2.0 what nightshift-walk 1.0 began: not exact"
    assert said in " ".join(log_of(cluster, job_id))


def register_worker(cluster: Cluster, name: str, packages: Path) -> None:
    """Put the worker into the fleet table, as its heartbeat would."""
    with write(cluster.engine) as conn:
        plugin = InstalledPlugin("program walk", "nightshift-walk 2.0", "another", 2)
        register(conn, WorkerInfo(name, "test", 1, "cpu", "cpu", frameworks=["torch"], plugins=[plugin]))


def test_a_worker_without_the_program_leaves_the_job(cluster: Cluster) -> None:
    job_id = submit(cluster)
    without = LoneWorker("without", cluster.database_url, cluster.data_dir)
    try:
        with write(cluster.engine) as conn:
            register(conn, WorkerInfo("without", "test", 1, "cpu", "cpu", frameworks=["torch"]))
        without.run()
    finally:
        without.close()
    assert cluster.job(job_id).state == "queued"
    assert why(cluster, job_id) == (
        "It is queued: no worker online has the program walk "
        "(install its package there and name it in NIGHTSHIFT_PROGRAMS)."
    )


def test_a_secret_reaches_the_program_and_nothing_else(tmp_path: Path, database_url: str, packages: Path) -> None:
    file = tmp_path / "secrets"
    file.write_text(f"# of the team\nTOKEN={SECRET}\n")
    file.chmod(0o600)
    cluster = Cluster(tmp_path, database_url, packages=packages, programs="walk", secrets_file=str(file))
    try:
        job_id = submit(cluster, secrets=["TOKEN"], params={"told_secret": "TOKEN"})
        job = cluster.finish(job_id)
        assert job.state == "succeeded", job.error
        log = log_of(cluster, job_id)
        assert "noted [secret]" in log
        assert any(line.endswith("the secret is [secret]") for line in log)
        with read(cluster.engine) as conn:
            for table in metadata.sorted_tables:
                assert SECRET not in repr(conn.execute(select(table)).all()), table.name
        for path in cluster.data_dir.rglob("*"):
            assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path
    finally:
        cluster.close()


def test_a_missing_secret_fails_the_job_by_name(cluster: Cluster) -> None:
    job = cluster.finish(submit(cluster, secrets=["TOKEN"]))
    assert job.state == "failed"
    assert job.error == {
        "type": "missing_secret",
        "message": "the secret TOKEN is not known here: NIGHTSHIFT_SECRETS_FILE is not set",
        "retryable": False,
    }


#: Notes what it finds in the folder of its data set, and what happens when it writes there.
READING = """
def train(run):
    found = sorted(path.relative_to(run.dataset).as_posix() for path in run.dataset.rglob("*") if path.is_file())
    run.note("found " + " ".join(found))
    if (run.dataset / "table.parquet").exists():
        import pyarrow.parquet as pq

        run.note("rows " + str(pq.read_table(run.dataset / "table.parquet").to_pylist()))
"""


@pytest.mark.parametrize(
    ("kind", "notes"),
    [
        ("files", ["found .hidden meta.json sub/t.csv"]),
        ("table", ["found meta.json table.parquet", "rows [{'a': 1, 'b': 'x'}]"]),
    ],
)
def test_a_program_reads_files_and_tables(tmp_path: Path, database_url: str, kind: str, notes: list[str]) -> None:
    packages = write_package(tmp_path / "packages", more=', dataset_kinds=("files", "table")', training=READING)
    cluster = Cluster(tmp_path, database_url, packages=packages, programs="walk")
    try:
        given = tmp_path / "given"
        (given / "sub").mkdir(parents=True)
        (given / "sub" / "t.csv").write_text("a,b\n1,x\n")
        if kind == "files":
            (given / ".hidden").touch()
            (given / "meta.json").write_text("the user's")
        registry.register(cluster.engine, cluster.settings, "mine", given, kind=kind, owner_id=OWNER)
        job = cluster.finish(job_id := submit(cluster, dataset="mine"))
        assert job.state == "succeeded", job.error
        assert [line for line in log_of(cluster, job_id) if line.startswith(("found", "rows"))] == notes
    finally:
        cluster.close()


def test_a_registered_model_names_its_program(cluster: Cluster) -> None:
    job_id = submit(cluster, register_as="walks")
    cluster.recovery_worker.run()
    with read(cluster.engine) as conn:
        model = conn.execute(select(model_versions).where(model_versions.c.job_id == job_id)).one()
    assert (model.name, model.family, list(model.metrics)) == ("walks", "walk", ["test_loss"])

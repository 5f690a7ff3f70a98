"""Jobs of installed programs on a real worker: killed, resumed, in another version, with secrets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from shared.datasets import registry
from shared.datasets.registry import ensure_builtin
from shared.db.engine import read, write
from shared.db.schema import metadata, model_versions
from shared.fleet import keys
from shared.fleet.plugins import InstalledPlugin
from shared.fleet.workers import WorkerInfo, register
from shared.models import aliases
from tests.support.api import running_api
from tests.support.factories import OWNER, make_due
from tests.support.flower_app import running_flower_app
from tests.support.lone_worker import Cluster, LoneWorker
from tests.support.plugins import JUDGED, TRAINING, write_package
from tests.support.program_jobs import environments, log_of, rows, submit, why
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


def model_bytes(cluster: Cluster, job_id: str) -> bytes:
    (found,) = (cluster.root / "jobs" / job_id).glob("attempts/*/artifacts/model/place.npy")
    return found.read_bytes()


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
    write_package(
        packages, version="2.0", training=f"{TRAINING}\n# 2.0\n"
    )  # of the same state version, which it does not say it loads
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
    first, second = environments(cluster, job_id)
    assert (first["package"], first.get("begun_by")) == ("nightshift-walk 1.0", None)
    assert (second["package"], second["begun_by"]) == ("nightshift-walk 2.0", "nightshift-walk 1.0")


def test_of_two_versions_on_two_workers_the_first_one_goes_on(cluster: Cluster, packages: Path, tmp_path: Path) -> None:
    job_id = crashed_once(cluster, tmp_path)
    others = write_package(tmp_path / "newer", version="2.0", more=", state_version=2")
    newer = LoneWorker("newer", cluster.database_url, cluster.data_dir, packages=others, programs="walk")
    try:
        make_due(cluster.engine, job_id)
        newer.run()
        assert cluster.job(job_id).state == "queued"
        fresh = submit(cluster)
        newer.run()
        assert cluster.job(fresh).pinned["plugin"]["package"] == "nightshift-walk 2.0"
    finally:
        newer.close()
    cluster.recovery_worker.run()
    assert cluster.outcomes(job_id) == ["crashed", "succeeded"]
    assert [found["package"] for found in environments(cluster, job_id)] == ["nightshift-walk 1.0"] * 2


def test_a_worker_whose_package_broke_loses_nothing(cluster: Cluster, packages: Path, tmp_path: Path) -> None:
    job_id = crashed_once(cluster, tmp_path)
    write_package(packages, declaration="raise SystemExit(3)")
    broken = LoneWorker("broken", cluster.database_url, cluster.data_dir, packages=packages, programs="walk")
    try:
        with write(cluster.engine) as conn:
            register(conn, WorkerInfo("broken", "test", 1, "cpu", "cpu", frameworks=["torch"]))
        other = cluster.submit(steps=1)
        make_due(cluster.engine, job_id)
        broken.run()
        assert cluster.job(other).state == "succeeded"
        assert cluster.job(job_id).state == "queued"
        assert "no worker online has the program walk" in why(cluster, job_id)
    finally:
        broken.close()
    write_package(packages)
    assert cluster.finish(job_id).state == "succeeded"


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


TELLING = """
import os, sys
from pathlib import Path

def train(run):
    secret = os.environ["TOKEN"]
    print("the secret is", secret, flush=True)
    print("x" * 4090 + secret + "y" * 9000, file=sys.stderr, flush=True)
    run.note("noted " + secret)
    for n in range(5_000):
        sys.stderr.write(f"{n} {secret}\\n")
    sys.stderr.flush()
    try:
        run.log({secret * 4: 1.0}, 1)
    except ValueError as error:
        run.note(str(error))
    run.log({secret: 1.0}, 1)
    run.progress(1)
    raise RuntimeError("z" * 3_990 + secret)
"""


@pytest.mark.parametrize("place", ["file", "environment"])
def test_a_secret_reaches_the_program_and_nothing_else(
    tmp_path: Path, database_url: str, packages: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_package(packages, training=TELLING)
    settings: dict[str, Any] = {}
    if place == "environment":
        monkeypatch.setenv("NIGHTSHIFT_SECRET_TOKEN", SECRET)
    else:
        file = tmp_path / "secrets"
        file.write_text(f"# of the team\nTOKEN={SECRET}\n")
        file.chmod(0o600)
        settings["secrets_file"] = str(file)
    cluster = Cluster(tmp_path, database_url, packages=packages, programs="walk", **settings)
    try:
        job_id = submit(cluster, secrets=["TOKEN"])
        job = cluster.finish(job_id)
        assert job.error["message"].startswith("RuntimeError: zzz")
        log = log_of(cluster, job_id)
        assert "noted [secret]" in log
        assert any(line.endswith("the secret is [secret]") for line in log)
        with read(cluster.engine) as conn:
            for table in metadata.sorted_tables:
                assert not leaked(repr(conn.execute(select(table)).all())), table.name
        for path in cluster.data_dir.rglob("*"):
            assert not path.is_file() or not leaked(path.read_text(errors="replace")), path
        with running_api(cluster.engine, tmp_path) as api:
            for part in ("", "/logs", "/attempts", "/metrics", "/why", "/system", "/artifacts"):
                answer = api.get(f"/v1/jobs/{job_id}{part}")
                assert answer.status_code == 200, part
                assert not leaked(answer.text), part
        for part, page in pages_of(cluster, job_id).items():
            assert not leaked(page), part
    finally:
        cluster.close()


def pages_of(cluster: Cluster, job_id: str) -> dict[str, str]:
    """Return what Flower serves of a job to its owner."""
    with write(cluster.engine) as conn:
        auth = ("nightshift", keys.create(conn, "pages", OWNER)[1])
    found = {}
    with running_flower_app(cluster.engine, cluster.data_dir) as flower:
        for part in ("", "/live", "/curves", "/system", "/log?before=9000000", "/log.txt"):
            answer = flower.client.get(f"/nightshift/jobs/{job_id}{part}", auth=auth)
            assert answer.status_code == 200, part
            found[part] = answer.text
        found["list"] = flower.client.get("/nightshift/jobs/data", auth=auth).text
    assert job_id in found["list"]
    assert "zzz" in found["/live"]
    return found


def leaked(text: str) -> bool:
    """Return whether a half of the secret is in a text."""
    return SECRET[: len(SECRET) // 2] in text or SECRET[len(SECRET) // 2 :] in text


def test_a_secret_that_cannot_be_hidden_is_refused(cluster: Cluster, tmp_path: Path, packages: Path) -> None:
    file = tmp_path / "secrets"
    file.write_text("TOKEN=short\n")
    file.chmod(0o600)
    settings = {"packages": packages, "programs": "walk", "secrets_file": str(file)}
    worker = LoneWorker("keeper", cluster.database_url, cluster.data_dir, **settings)
    try:
        job_id = submit(cluster, secrets=["TOKEN"])
        worker.run()
    finally:
        worker.close()
    assert cluster.job(job_id).error["type"] == "missing_secret"
    assert "fewer than 6 characters" in cluster.job(job_id).error["message"]


def test_a_missing_secret_fails_the_job_by_name(cluster: Cluster) -> None:
    job = cluster.finish(submit(cluster, secrets=["TOKEN"]))
    assert job.state == "failed"
    assert job.error == {
        "type": "missing_secret",
        "message": "the secret TOKEN is not known here: NIGHTSHIFT_SECRETS_FILE is not set, nor is "
        "NIGHTSHIFT_SECRET_TOKEN",
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


# -- promotion --------------------------------------------------------------------------------------


def test_a_better_model_becomes_the_champion_and_a_worse_one_does_not(
    cluster: Cluster, packages: Path, tmp_path: Path
) -> None:
    write_package(packages, more=JUDGED)
    ensure_builtin(cluster.engine, cluster.settings, "digits")
    worker = LoneWorker("judge", cluster.database_url, cluster.data_dir, packages=packages, programs="walk")
    promote = {"metric": "distance", "evaluate_on": "digits@1"}
    fields = {"dataset": "digits", "register_as": "walks", "promote": promote}
    try:
        found = [promoted_by(cluster, worker, target, fields) for target in (0.0, 1e6, 1e6)]
    finally:
        worker.close()
    assert [one["promoted"] for one in found] == [True, False, False]
    assert found[0]["reason"] == "no champion yet"
    assert found[2]["reason"].endswith("on digits@1: not better")
    assert found[2]["candidate"] == found[2]["champion"] != found[0]["candidate"]
    with read(cluster.engine) as conn:
        assert aliases.current(conn, "walks", "champion") == 1


def promoted_by(cluster: Cluster, worker: LoneWorker, target: float, fields: dict[str, Any]) -> dict[str, Any]:
    job_id = submit(cluster, params={"target": target}, **fields)
    worker.run()
    job = cluster.job(job_id)
    assert job.state == "succeeded", job.error
    promotion: dict[str, Any] = job.result["promotion"]
    return promotion

"""`examples/nightshift-gbm`, installed by pip: on a real worker, killed and resumed to the same model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select

from nightshift.plugins import installed_programs
from shared.datasets import registry
from shared.db.engine import read, write
from shared.db.schema import attempts, metrics, model_versions
from shared.jobs import transitions
from shared.jobs.transitions import NewJob
from shared.specs.jobs import job_spec_adapter
from tests.support import kit
from tests.support.examples import install, own_tests
from tests.support.factories import OWNER
from tests.support.lone_worker import Cluster
from tests.support.plugins import write_package
from tests.support.stack import eventually

#: The program itself, but its process is killed once after its third checkpoint.
DECLARATION = """
from dataclasses import replace

from nightshift_gbm.program import PROGRAM as REAL

PROGRAM = replace(REAL, name="walk", train="walk_training:train")
"""
TRAINING = """
import os
import signal
from pathlib import Path

from nightshift_gbm import training

MARKER = Path(__file__).with_name("killed")


def train(run):
    save = run.save

    def saved(step, **content):
        save(step, **content)
        if step == 15 and not MARKER.exists():
            MARKER.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    run.save = saved
    training.train(run)
"""


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = install("nightshift-gbm", tmp_path_factory.mktemp("gbm"))
    return write_package(folder, name="nightshift-killed-gbm", declaration=DECLARATION, training=TRAINING)


@pytest.fixture
def cluster(tmp_path: Path, database_url: str, packages: Path) -> Iterator[Cluster]:
    (packages / "killed").unlink(missing_ok=True)
    found = Cluster(tmp_path, database_url, packages=packages, programs="gbm,walk")
    flowers = tmp_path / "flowers.csv"
    random = np.random.default_rng(0)
    rows = [f"{a:.3f},{b:.3f},{'iris' if a > b else 'rose'}" for a, b in random.normal(size=(150, 2))]
    flowers.write_text("\n".join(["petal,stem,name", *rows, ""]))
    registry.register(found.engine, found.settings, "flowers", flowers, kind="table", owner_id=OWNER)
    yield found
    found.close()


def submit(cluster: Cluster, program: str = "gbm", **fields: Any) -> str:
    params = {"target": "name", "trees": 25, "trees_per_checkpoint": 5}
    body = {"kind": "run", "program": program, "dataset": "flowers", "params": params, "seed": 3, **fields}
    with write(cluster.engine) as conn:
        new = NewJob(owner_id=OWNER, spec=job_spec_adapter.validate_python(body))
        return transitions.submit(conn, new).job_id


def result_of(cluster: Cluster, job_id: str) -> tuple[list[Any], dict[str, bytes]]:
    """Return the metric rows, and the files of the model and beside it."""
    with read(cluster.engine) as conn:
        columns = (metrics.c.name, metrics.c.step, metrics.c.value)
        rows = list(conn.execute(select(*columns).where(metrics.c.job_id == job_id).order_by(*columns[:2])))
    last = max((cluster.root / "jobs" / job_id / "attempts").iterdir(), key=lambda path: int(path.name))
    names = ("model/trees.npz", "model/model.json", "importances.json")
    return rows, {name: (last / "artifacts" / name).read_bytes() for name in names}


def test_a_job_leaves_metrics_a_model_and_the_weight_of_each_column(cluster: Cluster, packages: Path) -> None:
    job = cluster.finish(job_id := submit(cluster, register_as="flowers"))
    assert job.state == "succeeded", job.error
    rows, files = result_of(cluster, job_id)
    assert {row.step for row in rows} == {5, 10, 15, 20, 25}
    assert {row.name for row in rows} == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert set(json.loads(files["importances.json"])) == {"petal", "stem"}
    with read(cluster.engine) as conn:
        model = conn.execute(select(model_versions)).one()
    assert (model.name, model.family, set(model.metrics)) == ("flowers", "gbm", {"test_loss", "test_accuracy"})
    assert model.metrics["test_accuracy"] > 0.8


def test_a_killed_program_ends_with_the_same_rows_and_model(cluster: Cluster, packages: Path) -> None:
    cluster.finish(untouched := submit(cluster))
    job_id = submit(cluster, "walk")
    cluster.target_worker.start()
    eventually("the program was killed", (packages / "killed").exists)
    cluster.target_worker.wait()
    job = cluster.finish(job_id)
    assert job.state == "succeeded", job.error
    assert cluster.outcomes(job_id) == ["crashed", "succeeded"]
    assert resumed_steps(cluster, job_id)[-1] > 0
    assert result_of(cluster, job_id) == result_of(cluster, untouched)


def resumed_steps(cluster: Cluster, job_id: str) -> list[int]:
    """Return the step that each attempt began at."""
    with read(cluster.engine) as conn:
        steps = select(attempts.c.resumed_step).where(attempts.c.job_id == job_id).order_by(attempts.c.fence)
        return [step or 0 for step in conn.scalars(steps)]


def test_a_killed_worker_leaves_the_job_to_another_that_ends_with_the_same_model(cluster: Cluster) -> None:
    cluster.finish(untouched := submit(cluster))
    job_id = submit(cluster)
    worker = cluster.target_worker
    worker.arm("checkpoint.row_committed:kill")
    worker.run()
    assert not worker.alive()
    job = cluster.finish(job_id)
    assert job.state == "succeeded", job.error
    assert result_of(cluster, job_id) == result_of(cluster, untouched)


def test_its_own_tests_pass_and_none_is_skipped(packages: Path) -> None:
    assert " passed in " in (told := own_tests("nightshift-gbm", packages))
    assert "skipped" not in told


def test_it_is_installed_as_a_program(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(packages))
    found = installed_programs(["gbm"])["gbm"]
    assert (found.package, found.error) == ("nightshift-gbm 1.0.0", None)


@pytest.mark.slow
def test_the_kit_finds_it_exact(packages: Path) -> None:
    found = kit.check(packages, "--program=gbm")
    assert found.failed == {}
    assert len(found.passed) >= 8

"""The example `nightshift-keras-script`: installed by pip, run by a worker, killed and resumed to the same weights."""

from __future__ import annotations

import difflib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select

from shared.db.engine import read, write
from shared.db.schema import job_logs, metrics
from shared.jobs import transitions
from shared.jobs.transitions import NewJob
from shared.specs.jobs import job_spec_adapter
from tests.support.factories import OWNER
from tests.support.lone_worker import Cluster
from tests.support.paths import ROOT
from tests.support.plugins import write_package

EXAMPLE = ROOT / "examples" / "nightshift-keras-script"
#: 23 steps an epoch.
EPOCHS, STEPS = 4, 92

#: The same program, which dies within the third epoch of its first attempt.
KILLED = """
from nightshift.programs import Program
from nightshift_keras_script import program


class Params(program.Params):
    marker: str


PROGRAM = Program(name="killed", train="walk_training:train", params=Params, framework="tensorflow", promise="exact")
"""
KILLING = """
import os
import signal
from pathlib import Path

from nightshift_keras_script import training


def train(run):
    marker, progress = Path(run.params.marker), run.progress

    def watched(step, total_steps=None, epoch=0):
        progress(step, total_steps, epoch)
        if step == 60 and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    run.progress = watched
    training.train(run)
"""

pytestmark = pytest.mark.slow
h5py: Any = pytest.importorskip("h5py")
pytest.importorskip("tensorflow")


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that pip installed the example in; from a copy, because the build leaves files in the tree."""
    folder = tmp_path_factory.mktemp("example")
    shutil.copytree(EXAMPLE, folder / "source", ignore=shutil.ignore_patterns("__pycache__"))
    options = ("-q", "--no-deps", "--no-index", "--no-build-isolation", "--target", str(folder / "packages"))
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(folder / "source")], check=True)
    entry = "killed = walk_program:PROGRAM"
    return write_package(folder / "packages", entry=entry, declaration=KILLED, training=KILLING)


@pytest.fixture
def cluster(tmp_path: Path, sqlite_url: str, packages: Path) -> Iterator[Cluster]:
    found = Cluster(tmp_path, sqlite_url, packages=packages, programs="digits,killed", framework="tensorflow")
    yield found
    found.close()


def submit(cluster: Cluster, program: str, **params: Any) -> str:
    policy = {"every_steps": 20, "every_seconds": None}
    params |= {"epochs": EPOCHS}
    body = {"kind": "run", "program": program, "params": params, "checkpoint": policy, "seed": 7}
    with write(cluster.engine) as conn:
        new = NewJob(owner_id=OWNER, spec=job_spec_adapter.validate_python(body))
        return transitions.submit(conn, new).job_id


def rows(cluster: Cluster, job_id: str) -> list[Any]:
    with read(cluster.engine) as conn:
        columns = (metrics.c.name, metrics.c.step, metrics.c.value)
        order = (metrics.c.step, metrics.c.name)
        return list(conn.execute(select(*columns).where(metrics.c.job_id == job_id).order_by(*order)))


def weights(cluster: Cluster, job_id: str) -> dict[str, bytes]:
    """Return the weights of the job's model. The files differ: they have the time in them."""
    (model,) = (cluster.root / "jobs" / job_id).glob("attempts/*/artifacts/model/model.keras")
    found: dict[str, bytes] = {}

    def note(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = np.asarray(item[()]).tobytes()

    with zipfile.ZipFile(model) as archive, archive.open("model.weights.h5") as file, h5py.File(file) as tree:
        tree.visititems(note)
    return found


def test_a_killed_job_ends_with_the_weights_of_an_untouched_one(cluster: Cluster, tmp_path: Path) -> None:
    untouched = submit(cluster, "digits")
    cluster.recovery_worker.run()
    assert cluster.job(untouched).state == "succeeded", cluster.job(untouched).error
    job_id = submit(cluster, "killed", marker=str(tmp_path / "marker"))
    cluster.target_worker.run()
    job = cluster.finish(job_id)
    assert job.state == "succeeded", job.error
    assert cluster.outcomes(job_id) == ["crashed", "succeeded"]
    with read(cluster.engine) as conn:
        said = " ".join(conn.scalars(select(job_logs.c.message).where(job_logs.c.job_id == job_id)))
    assert re.search(r"program killed of nightshift-walk 1\.0, from the checkpoint of step (23|46)", said), said
    assert len(weights(cluster, job_id)) >= 4
    assert weights(cluster, job_id) == weights(cluster, untouched)
    found = rows(cluster, job_id)
    assert found == rows(cluster, untouched)
    assert [step for name, step, _ in found if name == "val_loss"] == [23, 46, 69, 92]
    assert [step for name, step, _ in found if name == "loss"] == list(range(1, STEPS + 1))


def test_the_readme_shows_the_difference_as_it_is() -> None:
    script, program = EXAMPLE / "script.py", EXAMPLE / "nightshift_keras_script" / "training.py"
    texts = (path.read_text().splitlines() for path in (script, program))
    names = (path.relative_to(EXAMPLE).as_posix() for path in (script, program))
    wanted = "\n".join(difflib.unified_diff(*texts, *names, n=0, lineterm=""))
    readme = (EXAMPLE / "README.md").read_text()
    assert re.findall(r"^```diff\n(.*?)\n```", readme, re.M | re.S) == [wanted]
    assert len(readme.splitlines()) < 60


def test_its_own_tests_pass(packages: Path, tmp_path: Path) -> None:
    path = os.pathsep.join([str(packages), str(ROOT)])
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(EXAMPLE),
        "-c",
        os.devnull,
    ]
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [*command, str(EXAMPLE / "tests")], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout

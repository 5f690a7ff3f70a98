"""The family of `examples/nightshift-resnet`, installed by pip: trained, killed, resumed, tuned, used, promoted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file
from sqlalchemy import Engine

from nightshift.metrics import OF_STEPS
from shared.datasets import registry
from shared.db.engine import read
from shared.db.schema import metrics
from shared.models.registry import show_model
from shared.settings import Settings
from shared.specs.families import FAMILIES
from tests.support import kit
from tests.support.api import running_api
from tests.support.dataset_files import npz
from tests.support.examples import EXAMPLES, install
from tests.support.factories import expire_lease
from tests.support.own_family import offer
from tests.support.redis import running_redis
from tests.support.stack import Stack, eventually, gone, open_stack
from worker.maintenance import rescuer

pytest.importorskip("torch")
pytestmark = pytest.mark.timeout(900)

TINY = {"family": "resnet", "preset": "resnet-tiny", "image_size": [12, 12], "width": 4}
TRAINING = {"epochs": 2, "batch_size": 10, "learning_rate": 0.05, "augment": ["shift", "flip"]}
#: 120 images, of which 108 are trained on: 11 steps an epoch.
STEPS, EVERY, HELD_AT = 22, 4, 14
#: The last checkpoint before that.
LAST = 12


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install("nightshift-resnet", tmp_path_factory.mktemp("resnet"))


@pytest.fixture
def offered(packages: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """This process parses specs of the family, as the API does."""
    offer(packages, monkeypatch, "built-in,resnet")
    yield packages
    monkeypatch.undo()
    FAMILIES.forget()


def colours(folder: Path, classes: int = 3, rows: int = 150) -> Path:
    """Write noisy images in the colour of their class, with a test part."""
    draw = np.random.default_rng(classes)
    labels = np.arange(rows) % classes
    shades = draw.integers(0, 150, (classes, 1, 1, 3))
    images = (shades[labels] + draw.integers(0, 100, (rows, 12, 12, 3))).astype(np.uint8)
    cut = rows * 4 // 5
    parts = {"x": images[:cut], "y": labels[:cut], "x_test": images[cut:], "y_test": labels[cut:]}
    return npz(folder / f"colours{classes}.npz", **parts)


@pytest.fixture
def stack(tmp_path: Path, database_url: str, offered: Path) -> Iterator[Stack]:
    more = {"families": "built-in,resnet", "packages": offered, "preload": "true", "torch_threads": 1}
    with (
        running_redis(tmp_path) as redis,
        open_stack(tmp_path, database_url, redis.url, lease_seconds=300, heartbeat_seconds=0.3, **more) as found,
    ):
        settings = Settings(data_dir=tmp_path / "data")
        for classes in (2, 3):
            registry.register(found.engine, settings, f"colours{classes}", colours(tmp_path, classes))
        found.api()
        yield found


def submit(stack: Stack, **body: Any) -> str:
    """Submit a job to the API, which pins the family of a model that it uses."""
    answer = stack.post("/v1/jobs", json=body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def train(stack: Stack, **more: Any) -> str:
    policy = {"every_steps": EVERY, "every_seconds": None}
    return submit(stack, kind="train", dataset="colours3", model=TINY, training=TRAINING, checkpoint=policy, **more)


def finished(stack: Stack, job_id: str) -> tuple[Any, dict[str, Path]]:
    """The succeeded job, and where its artifacts lie."""
    job = stack.finished(job_id)
    assert job.state == "succeeded", (job.error, stack.logs(job_id))
    return job, {row.path: stack.root / row.stored_as for row in stack.artifacts(job_id)}


def results(stack: Stack, job_id: str) -> tuple[bytes, dict[tuple[str, int], float]]:
    """The weights of a finished training, and its metric rows without those of time."""
    _, left = finished(stack, job_id)
    rows = [row for row in stack.rows(metrics, job_id) if row.name not in OF_STEPS]
    found = {(row.name, row.step): row.value for row in rows}
    assert len(found) == len(rows)
    return left["model/model.safetensors"].read_bytes(), found


def held(stack: Stack) -> tuple[str, int]:
    """Submit a job that waits before a step, with checkpoints committed; return it and the pid of its runner."""
    job_id = train(stack, tags={"probe": "hold", "hold_at": str(HELD_AT)})
    file = stack.root / "jobs" / job_id / "held"
    eventually(f"{job_id} is held", file.exists)
    eventually("the last checkpoint is committed", lambda: LAST in {one.step for one in stack.checkpoints(job_id)})
    return job_id, int(file.read_text())


@pytest.mark.slow
def test_killed_jobs_resume_to_the_weights_of_an_untouched_one(stack: Stack) -> None:
    worker = stack.worker()
    untouched = results(stack, train(stack))
    assert ("val_accuracy", STEPS) in untouched[1]

    job_id, runner = held(stack)
    assert runner in {one.pid for one in worker.family()}
    os.kill(runner, signal.SIGKILL)
    assert results(stack, job_id) == untouched
    assert stack.outcomes(job_id) == ["crashed", "succeeded"]
    assert stack.attempts(job_id)[1].resumed_step == LAST

    job_id, _ = held(stack)
    family = worker.family()
    worker.kill()
    eventually("the whole family is gone", lambda: all(gone(one) for one in family))
    expire_lease(stack.engine, job_id)
    rescuer.run_once(stack.engine, Settings(data_dir=stack.folder / "data"))
    stack.worker(1)
    stack.ring(job_id)
    assert results(stack, job_id) == untouched
    assert stack.outcomes(job_id) == ["lost", "succeeded"]
    pinned = stack.job(job_id).pinned["plugin"]
    assert (pinned["plugin"], pinned["package"]) == ("family resnet", "nightshift-resnet 1.0")


@pytest.mark.slow
def test_its_models_are_registered_tuned_evaluated_used_and_promoted(stack: Stack) -> None:
    stack.worker()
    promote = {"metric": "test_loss", "evaluate_on": "colours3"}
    job, left = finished(stack, train(stack, register_as="colours", promote=promote))
    assert job.result["metrics"]["test_accuracy"] > 0.9
    assert {"confusion_matrix.png", "evaluation.json"} <= left.keys()

    more = {**TRAINING, "epochs": 4}
    tuned = submit(
        stack, kind="finetune", model_ref="colours@1", dataset="colours3", training=more, register_as="colours",
        promote=promote,
    )  # fmt: skip
    finished(stack, tuned)
    with read(stack.engine) as conn:
        shown = show_model(conn, "colours")
    assert shown["aliases"] == {"champion": 2}
    assert [(one["version"], one["family"], one["parent"]) for one in shown["versions"]] == [
        (2, "resnet", "colours@1"),
        (1, "resnet", None),
    ]

    job, _ = finished(stack, submit(stack, kind="evaluate", model_ref="colours@champion", dataset="colours3"))
    assert job.result["metrics"]["test_accuracy"] > 0.9
    job, left = finished(stack, submit(stack, kind="batch_infer", model_ref="colours@champion", dataset="colours3"))
    table = pq.read_table(left["predictions.parquet"])
    assert table.num_rows == 150
    assert np.mean(table["label_index"].to_numpy() == table["row"].to_numpy() % 3) > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_other_classes_begin_a_new_head_on_frozen_features(stack: Stack) -> None:
    stack.worker()
    _, made = finished(stack, train(stack, register_as="colours"))
    tuned = submit(
        stack, kind="finetune", model_ref="colours@1", dataset="colours2", freeze="features", training=TRAINING
    )
    _, left = finished(stack, tuned)
    before, after = (load_file(folder["model/model.safetensors"]) for folder in (made, left))
    assert after["output.weight"].shape == (2, 16)
    kept = [name for name in before if not name.startswith("output.")]
    assert all(np.array_equal(before[name], after[name]) for name in kept)


@pytest.mark.parametrize(("setting", "offered_here"), [("built-in", False), ("built-in,resnet", True)])
def test_it_is_offered_where_the_setting_names_it(
    sqlite_engine: Engine, tmp_path: Path, packages: Path, monkeypatch: pytest.MonkeyPatch, setting: str,
    offered_here: bool,
) -> None:  # fmt: skip
    offer(packages, monkeypatch, setting)
    try:
        with running_api(sqlite_engine, tmp_path) as api:
            found = {one["name"]: one for one in api.get("/v1/families").json()["items"]}
            answer = api.post("/v1/jobs", json={"kind": "train", "dataset": "digits", "model": {"family": "resnet"}})
    finally:
        monkeypatch.undo()
        FAMILIES.forget()
    assert ("resnet" in found) == offered_here
    assert (answer.status_code == 202) == offered_here
    if offered_here:
        assert (found["resnet"]["package"], found["resnet"]["error"]) == ("nightshift-resnet 1.0", None)
        assert list(found["resnet"]["presets"]) == ["resnet20", "resnet32", "resnet-tiny"]


def test_its_own_tests_pass(packages: Path) -> None:
    folder = EXAMPLES / "nightshift-resnet"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", str(folder / "pyproject.toml")]
    environment = {**os.environ, "PYTHONPATH": str(packages)}
    done = subprocess.run(
        [*command, str(folder / "tests")], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_the_kit_finds_it_exact(packages: Path) -> None:
    found = kit.check(packages, "--family=resnet")
    assert found.failed == {}
    assert len(found.passed) >= 15

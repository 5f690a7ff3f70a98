"""A batch inference that is divided: the same files as in one piece, whatever happens to the workers of its shards."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from nightshift.names import SHARD
from shared.db.engine import read, write
from shared.db.schema import checkpoints, devices, jobs
from shared.jobs import transitions
from shared.jobs.states import StopRequest
from shared.jobs.transitions import NewJob
from shared.specs.jobs import job_spec_adapter
from tests.support.factories import OWNER, expire_lease
from tests.support.objects import ABucket, ObjectStore
from tests.support.redis import running_redis
from tests.support.stack import Stack, eventually, open_stack

pytest.importorskip("torch")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

MODEL = {"family": "cnn", "image_size": [8, 8], "filters": [4], "pool": [True], "kernel_size": 3, "dense": [8]}
TRAINING = {"kind": "train", "model": MODEL, "dataset": "digits", "training": {"epochs": 1, "max_steps": 12}}
ROWS = 1797
#: Leases are ended by hand: however slow the machine, none of a living worker runs out.
SETTINGS = {"kinds": "unpainted", "torch_threads": 1, "lease_seconds": 300, "heartbeat_seconds": 0.3}


class Divided:
    """A stack with a trained model, and its inferences."""

    def __init__(self, stack: Stack, bucket: ABucket | None = None) -> None:
        self.stack, self.bucket = stack, bucket
        self.trained = self.submit(TRAINING)

    def submit(self, body: dict[str, Any]) -> str:
        with write(self.stack.engine) as conn:
            job_id = transitions.submit(conn, NewJob(OWNER, job_spec_adapter.validate_python(body))).job_id
        self.stack.ring(job_id)
        return job_id

    def infer(self, shards: Any = 1, **inference: Any) -> str:
        how = {"batch_size": 10, "engine": "framework", "shards": shards, **inference}
        body = {"kind": "batch_infer", "model_ref": f"job:{self.trained}", "dataset": "digits", "inference": how}
        return self.submit({**body, "max_retries": 0})

    def shards(self, job_id: str) -> list[Any]:
        with read(self.stack.engine) as conn:
            found = conn.execute(select(jobs).where(jobs.c.part_of == job_id)).all()
        return sorted(found, key=lambda row: row.pinned["shard"])

    def left(self, job_id: str) -> tuple[dict[str, str], Any]:
        """Return the hashes of the files of a job that succeeded, and its result."""
        job = self.stack.finished(job_id)
        assert job.state == "succeeded", (job.error, self.stack.logs(job_id))
        rows = self.stack.artifacts(job_id)
        for row in rows:
            stored = self.bucket.read(row.stored_as) if self.bucket else (self.stack.root / row.stored_as).read_bytes()
            assert hashlib.sha256(stored).hexdigest() == row.sha256
        return {row.path: row.sha256 for row in rows}, job.result


@pytest.fixture
def divided(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Divided]:
    url = request.getfixturevalue(f"{getattr(request, 'param', 'sqlite')}_url")
    with running_redis(tmp_path) as redis, open_stack(tmp_path, url, redis.url, **SETTINGS) as stack:
        stack.beat()
        yield Divided(stack)


def test_a_divided_job_leaves_the_files_of_an_undivided_one(divided: Divided) -> None:
    stack = divided.stack
    for index in range(2):
        stack.worker(index)
    assert stack.finished(divided.trained).state == "succeeded"
    files, result = divided.left(divided.infer())
    job_id = divided.infer("auto")
    assert divided.left(job_id) == (files, result)
    job, shards = stack.job(job_id), divided.shards(job_id)
    assert [(row.kind, row.state, row.fence) for row in shards] == [(SHARD, "succeeded", 1)] * 2, (
        "one shard for each worker"
    )
    assert sum(row.result["metrics"]["rows"] for row in shards) == job.result["metrics"]["rows"] == ROWS
    assert [job.progress[name] for name in ("step", "total_steps", "percent")] == [ROWS, ROWS, 100.0]
    assert stack.outcomes(job_id) == ["succeeded"]
    measured = divided.infer(3, engine="auto")
    divided.left(measured)
    assert stack.job(measured).pinned["engine"] in ("framework", "onnxruntime")


def test_a_merge_holds_no_device(divided: Divided) -> None:
    stack = divided.stack
    first = stack.worker(0)
    assert stack.finished(divided.trained).state == "succeeded"
    first.terminate()
    job_id = divided.infer(2)
    doomed = stack.worker(0, failpoint="runner.spawned:kill@3")  # after those of the two shards
    eventually("it died in the merge", lambda: not doomed.alive())
    assert [row.state for row in divided.shards(job_id)] == ["succeeded", "succeeded"]
    assert stack.job(job_id).state == "running"
    with read(stack.engine) as conn:
        assert conn.scalars(select(devices.c.job_id)).all() == [None]


#: What happens to a worker after it has committed two parts of a shard: it dies, or it is frozen and continues.
FATES: dict[str, Callable[[Any], None]] = {
    "kill": lambda worker: eventually("it is dead", lambda: not worker.alive()),
    "stop:3600": lambda worker: None,
}


@pytest.mark.parametrize(("divided", "fate"), [("postgres", "kill"), ("sqlite", "stop:3600")], indirect=["divided"])
def test_a_shard_whose_worker_dies_or_freezes_goes_on_elsewhere(divided: Divided, fate: str) -> None:
    stack = divided.stack
    first = stack.worker(0)
    assert stack.finished(divided.trained).state == "succeeded"
    files, result = divided.left(divided.infer())
    assert first.terminate() == 0
    victim = stack.worker(1, failpoint=f"checkpoint.row_committed:{fate}@2")
    job_id = divided.infer(2)
    hit = eventually("two parts are committed", lambda: _with_parts(divided, job_id, 2))
    FATES[fate](victim)
    expire_lease(stack.engine, hit)
    stack.worker(2)
    for _ in range(3):  # doubled doorbells claim nothing twice
        stack.ring(job_id)
    assert divided.left(job_id) == (files, result)
    assert stack.outcomes(hit) == ["lost", "succeeded"]
    assert stack.attempts(hit)[1].resumed_step is not None
    ends = [point.step for shard in divided.shards(job_id) for point in stack.checkpoints(shard.id)]
    assert len(ends) == len(set(ends)) == 90, "each chunk is computed once"
    if victim.alive():
        os.kill(victim.pid, signal.SIGCONT)
        again = divided.infer(2)
        assert divided.left(again) == (files, result)


def _with_parts(divided: Divided, job_id: str, count: int) -> str | None:
    """Return the shard that has so many parts."""
    shards = divided.shards(job_id)
    return next((row.id for row in shards if len(divided.stack.checkpoints(row.id)) >= count), None)


def test_requests_to_the_job_are_obeyed_by_its_shards(divided: Divided) -> None:
    stack = divided.stack
    worker = stack.worker()
    assert stack.finished(divided.trained).state == "succeeded"
    files, result = divided.left(divided.infer())
    assert worker.terminate() == 0
    job_id = divided.infer(2)
    assert stack.ask(job_id, StopRequest.PAUSE) == stack.job(job_id).state == "paused"
    assert {row.state for row in divided.shards(job_id)} == {"paused"}
    stack.resume(job_id)
    assert stack.job(job_id).state == "waiting"
    stack.worker(0)
    assert divided.left(job_id) == (files, result)
    finished_early = divided.infer(3)
    eventually("it has begun", lambda: _with_parts(divided, finished_early, 1))
    stack.ask(finished_early, StopRequest.FINISH)
    _, found = divided.left(finished_early)
    assert 0 < found["metrics"]["rows"] <= ROWS
    cancelled = divided.infer(3)
    eventually("it has begun", lambda: _with_parts(divided, cancelled, 1))
    assert stack.ask(cancelled, StopRequest.CANCEL) == "cancelled"
    assert {stack.finished(row.id).state for row in divided.shards(cancelled)} <= {"cancelled", "succeeded"}
    folders = [stack.root / "jobs" / row.id for row in divided.shards(job_id)]
    with write(stack.engine) as conn:
        transitions.delete_job(conn, job_id, OWNER)
    assert divided.shards(job_id) == []
    assert all(folder.exists() for folder in folders), "the pruner removes them later"


def test_a_damaged_part_is_computed_again(divided: Divided) -> None:
    stack = divided.stack
    first = stack.worker()
    assert stack.finished(divided.trained).state == "succeeded"
    files, result = divided.left(divided.infer())
    assert first.terminate() == 0
    victim = stack.worker(1, failpoint="claim.after_commit:kill@3")  # the claim of the merge
    job_id = divided.infer(2)
    eventually("the shards are done", lambda: not victim.alive())
    part = stack.checkpoints(divided.shards(job_id)[1].id)[0]
    rows = stack.root / "jobs" / part.job_id / part.path / "rows"
    rows.write_bytes(rows.read_bytes()[:-1] + b"!")
    expire_lease(stack.engine, job_id)
    stack.worker(2)
    assert divided.left(job_id) == (files, result)
    assert stack.outcomes(job_id) == ["lost", "drained", "succeeded"]
    with read(stack.engine) as conn:
        states = conn.scalars(select(checkpoints.c.state).where(checkpoints.c.id == part.id)).all()
    assert states == ["quarantined"]


def test_hosts_that_share_a_bucket_compute_one_job(tmp_path: Path, sqlite_url: str, objects: ObjectStore) -> None:
    bucket = objects.bucket()
    settings = {**SETTINGS, **bucket.values()}
    with running_redis(tmp_path) as redis, open_stack(tmp_path, sqlite_url, redis.url, **settings) as stack:
        stack.beat()
        divided = Divided(stack, bucket)
        for index in range(2):
            stack.worker(index, data_dir=tmp_path / f"host{index}")
        assert stack.finished(divided.trained).state == "succeeded"
        files, result = divided.left(divided.infer())
        job_id = divided.infer(4)
        assert divided.left(job_id) == (files, result)
        assert len({stack.attempts(row.id)[0].worker for row in divided.shards(job_id)}) == 2

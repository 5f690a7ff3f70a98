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
from shared.db.schema import checkpoints, jobs
from shared.jobs import transitions
from shared.jobs.states import StopRequest
from shared.jobs.transitions import NewJob
from shared.specs.jobs import job_spec_adapter
from tests.support.factories import OWNER, expire_lease
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

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
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
            assert hashlib.sha256((self.stack.root / row.stored_as).read_bytes()).hexdigest() == row.sha256
        return {row.path: row.sha256 for row in rows}, job.result


@pytest.fixture
def divided(tmp_path: Path, database_url: str) -> Iterator[Divided]:
    with running_redis(tmp_path) as redis, open_stack(tmp_path, database_url, redis.url, **SETTINGS) as stack:
        stack.beat()
        yield Divided(stack)


@pytest.mark.parametrize("output", ["parquet", "jsonl"])
def test_a_divided_job_leaves_the_files_of_an_undivided_one(divided: Divided, output: str) -> None:
    stack = divided.stack
    for index in range(2):
        stack.worker(index)
    assert stack.finished(divided.trained).state == "succeeded"
    whole = divided.infer(output=output)
    files, result = divided.left(whole)
    job_id = divided.infer(3, output=output)
    assert divided.left(job_id) == (files, result)
    job, shards = stack.job(job_id), divided.shards(job_id)
    assert [(row.kind, row.state, row.fence) for row in shards] == [(SHARD, "succeeded", 1)] * 3
    assert sum(row.result["metrics"]["rows"] for row in shards) == job.result["metrics"]["rows"] == ROWS
    assert (job.progress["step"], job.progress["total_steps"]) == (ROWS, ROWS)
    assert stack.outcomes(job_id) == ["succeeded"]
    assert {row.pinned["engine"] for row in shards if "engine" in row.pinned} == set()
    measured = divided.infer(3, output=output, engine="auto")
    divided.left(measured)
    assert stack.job(measured).pinned["engine"] in ("framework", "onnxruntime")

"""A batch inference in shards against the same in one piece: seconds of processor time and of the clock.

    python -m benchmarks.bench_shards [--rows 70000] [--workers 4] [--shards 4] [--rounds 3] [--engine framework]

Everything but the API is real: SQLite, Redis, maintenance, the workers with their forkservers, the CNN `mnist-3conv` on
random images, one thread per runner. Both take turns on the same warm workers. Processor time is that of all processes
of all workers from the submission until the job has succeeded, so it has the claims, the merge, and the spare runners
that workers prepare in between. The files of all rounds must be the same.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.__main__ import machine
from shared.datasets import registry
from shared.db.engine import write
from shared.jobs import transitions
from shared.jobs.transitions import NewJob
from shared.settings import Settings
from shared.specs.jobs import job_spec_adapter
from tests.support import databases
from tests.support.factories import OWNER
from tests.support.redis import running_redis
from tests.support.stack import Process, Stack, open_stack

#: The target: processor time in shards to that in one piece.
TARGET = 1.1
#: Seconds between two jobs, in which the workers prepare their spare runners.
PAUSE = 5.0


class Bench:
    def __init__(self, stack: Stack, options: argparse.Namespace) -> None:
        self.stack, self.options = stack, options
        stack.beat()
        self.workers: list[Process] = [stack.worker(index) for index in range(options.workers)]
        self._store()
        training = {"epochs": 1, "max_steps": 1, "batch_size": 32}
        body = {"kind": "train", "model": {"preset": "mnist-3conv"}, "dataset": "digits", "training": training}
        self.trained = self._run(body).id

    def _store(self) -> None:
        rows, path = self.options.rows, self.stack.folder / "images.npz"
        x, y = np.random.default_rng(0).integers(0, 256, (rows, 28, 28), np.uint8), np.arange(rows) % 10
        np.savez(path, x_train=x[100:], y_train=y[100:], x_test=x[:100], y_test=y[:100])
        settings = Settings(data_dir=self.stack.folder / "data", database_url=self.stack.database_url)
        registry.register(self.stack.engine, settings, "images", path)

    def _run(self, body: dict[str, Any]) -> Any:
        with write(self.stack.engine) as conn:
            job_id = transitions.submit(conn, NewJob(OWNER, job_spec_adapter.validate_python(body))).job_id
        self.stack.ring(job_id)
        job = self.stack.finished(job_id)
        assert job.state == "succeeded", (job.error, self.stack.logs(job_id))
        return job

    def one(self, shards: int) -> tuple[float, float, str]:
        """Return the seconds of processor time and of the clock of a job, and the hash of its file."""
        inference = {"batch_size": 256, "engine": self.options.engine, "shards": shards}
        body = {"kind": "batch_infer", "model_ref": f"job:{self.trained}", "dataset": "images", "inference": inference}
        time.sleep(PAUSE)
        begun, used = time.perf_counter(), self._used()
        job = self._run(body)
        took = self._used() - used, time.perf_counter() - begun
        (file,) = self.stack.artifacts(job.id)
        return *took, hashlib.sha256((self.stack.root / file.stored_as).read_bytes()).hexdigest()

    def _used(self) -> float:
        """Return the processor time of the workers, with the children that have ended."""
        return sum(sum(process.cpu_times()[:4]) for worker in self.workers for process in living(worker))


def living(worker: Process) -> list[psutil.Process]:
    return [process for process in worker.family() if process.is_running()]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rows", type=int, default=70_000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engine", default="framework")
    options = parser.parse_args()
    print(machine())
    settings = {"kinds": "", "preload": "true", "torch_threads": 1, "lease_seconds": 300}
    with tempfile.TemporaryDirectory(prefix="bench-shards-") as name:
        folder = Path(name)
        url = databases.sqlite_database(folder, databases.make_sqlite_template(folder))
        with running_redis(folder) as redis, open_stack(folder, url, redis.url, **settings) as stack:
            bench = Bench(stack, options)
            for shards in (1, options.shards):  # loads what the workers have not loaded yet
                bench.one(shards)
            found: dict[int, list[tuple[float, float, str]]] = {1: [], options.shards: []}
            for _ in range(options.rounds):
                for shards in found:
                    found[shards].append(bench.one(shards))
    report(found)


def report(found: dict[int, list[tuple[float, float, str]]]) -> None:
    assert len({file for rounds in found.values() for _, _, file in rounds}) == 1, "the files differ"
    for shards, rounds in found.items():
        used, took = ([one[place] for one in rounds] for place in (0, 1))
        print(
            f"{shards} shards: {statistics.median(used):.2f} s of processor time ({min(used):.2f} to {max(used):.2f}), "
            f"{statistics.median(took):.2f} s ({min(took):.2f} to {max(took):.2f})"
        )
    whole, divided = found.values()
    ratios = [other[0] / one[0] for one, other in zip(whole, divided, strict=True)]
    print(f"in shards to in one piece: {statistics.median(ratios):.2f} (target at most {TARGET}); the files are equal")


if __name__ == "__main__":
    main()

"""Jobs of one step per second, with all their artifacts, one after the other on one worker of the CPU.

    python -m benchmarks.bench_one_step [--jobs 10] [--framework torch] [--preset mnist-3conv] [--threads 2]

Everything is real: SQLite, Redis, a worker with its forkserver, the CNN on `digits` with one batch of all rows, the
evaluation, the figures. All jobs are submitted at once, after one that is not counted. The time goes from the start of
the first to the end of the last. Bias against us: the step, the figures and the worker share the machine's cores.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.support import databases
from tests.support.factories import submit_job
from tests.support.redis import running_redis
from tests.support.stack import Stack, open_stack


def submit(stack: Stack, options: argparse.Namespace) -> str:
    """Submit a job of one step and return its id."""
    model = {"family": "cnn", "preset": options.preset, "framework": options.framework}
    training = {"epochs": 1, "batch_size": options.batch_size}
    return submit_job(stack.engine, model=model, training=training).job_id


def measure(stack: Stack, options: argparse.Namespace) -> dict[str, Any]:
    """Run the jobs and return what was measured."""
    first = submit(stack, options)
    stack.ring(first)
    assert stack.finished(first).state == "succeeded"
    submitted = [submit(stack, options) for _ in range(options.jobs)]
    stack.ring(submitted[0])
    found = [stack.finished(job_id) for job_id in submitted]
    assert {job.state for job in found} == {"succeeded"}
    starts = sorted(job.started_at for job in found)
    seconds = max(job.finished_at for job in found) - starts[0]
    return {
        "jobs": options.jobs,
        "steps": sorted({job.progress["step"] for job in found}),
        "artifacts": sorted({len(stack.artifacts(job_id)) for job_id in submitted}),
        "seconds": round(seconds, 2),
        "jobs_per_second": round(options.jobs / seconds, 3),
        "seconds_between_starts": round((starts[-1] - starts[0]) / max(1, options.jobs - 1), 3),
    }


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--jobs", type=int, default=10)
    parser.add_argument("--framework", default="torch")
    parser.add_argument("--preset", default="mnist-3conv")
    parser.add_argument("--batch-size", type=int, default=1_438)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = databases.sqlite_database(Path(folder), databases.make_sqlite_template(Path(folder)))
        settings = {"kinds": "", "preload": "true", "frameworks": options.framework, "torch_threads": options.threads}
        with running_redis(Path(folder)) as redis, open_stack(Path(folder), url, redis.url, **settings) as stack:
            stack.worker()
            before = os.getloadavg()[0]
            found = measure(stack, options)
    facts = {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        options.framework: version(options.framework),
    }
    print(json.dumps({**found, **facts, "load": [round(before, 1), round(os.getloadavg()[0], 1)]}))


if __name__ == "__main__":
    main()

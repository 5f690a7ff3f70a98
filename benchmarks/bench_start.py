"""Time from submission to the end of the first training step in a fresh process, on a warm, idle worker.

    python -m benchmarks.bench_start [--jobs 20] [--framework torch] [--preset mnist-3conv] [--batch-size 32]
        [--pause 1] [--example nightshift-resnet]

With `--example`, a family of an installed package is measured in turns with the CNN, and the ratio is printed: one of
`examples/` (its smallest preset, in the size of the CNN's images), or `twin`, the CNN itself as an installed package.

Everything is real: the API over HTTP, SQLite, Redis, a worker with its forkserver, the CNN on `digits`. A step is
forward, backward and optimizer. The time starts before the POST and ends when the runner recorded its first step (same
host, same clock). Bias against us: client, API, Redis and worker share the machine's cores. Bias for us: the queue is
empty, and the data set is in the page cache.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import select

from shared.db.engine import read, write
from shared.db.schema import job_events, jobs
from shared.fleet import keys
from tests.support import databases
from tests.support.examples import install
from tests.support.factories import OWNER
from tests.support.plugins import write_modules
from tests.support.redis import free_port, running_redis
from tests.support.stack import Stack, eventually, open_stack

#: Families of `examples/`: the settings that are measured.
EXAMPLES = {
    "nightshift-resnet": {
        "family": "resnet", "preset": "resnet-tiny", "image_size": [28, 28], "image_channels": 1,
    },
    "twin": {"family": "twin", "preset": "mnist-3conv"},
}  # fmt: skip
#: The CNN as a package of its own: what is different is only where the family comes from.
TWIN = {
    "twin_family.py": """
        from dataclasses import replace
        from typing import Literal

        from nightshift.families import IMAGE_CLASSIFIER
        from worker.families.cnn.family import FAMILY as CNN, CnnModel


        class TwinModel(CnnModel):
            family: Literal["twin"] = "twin"


        FAMILY = replace(
            CNN, name="twin", model=TwinModel, is_default=False, parts=IMAGE_CLASSIFIER,
            learners={"torch": "twin_torch:build", "tensorflow": "twin_tensorflow:build"},
        )
    """,
    "twin_torch.py": """
        from worker.families.cnn.torch_learner import TorchCnn


        class build(TorchCnn):
            pass
    """,
    "twin_tensorflow.py": """
        from worker.families.cnn.tensorflow_learner import TensorflowCnn


        class build(TensorflowCnn):
            pass
    """,
}
#: The target (milliseconds).
TARGET = 120.0


class Bench:
    def __init__(self, stack: Stack, options: argparse.Namespace) -> None:
        self.stack, self.options = stack, options
        port = free_port()
        stack.start("api", "api.server", api_port=port)
        stack.worker()
        with write(stack.engine) as conn:
            key = keys.create(conn, "bench", OWNER)[1]
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {key}"})
        eventually("the API answers", self._healthy)

    def _healthy(self) -> bool:
        try:
            return self.client.get("/healthz").status_code == 200
        except httpx.TransportError:
            return False

    def one(self, model: Mapping[str, Any]) -> dict[str, float]:
        """Run a job; return the milliseconds until accepted, claimed, ready (state loaded), first step done."""
        body = {
            "kind": "train",
            "model": {**model, "framework": self.options.framework},
            "dataset": "digits",
            "training": {"epochs": 1000, "batch_size": self.options.batch_size},
        }
        time.sleep(self.options.pause)
        begun = time.time()
        answer = self.client.post("/v1/jobs", json=body)
        answered = time.time()
        assert answer.status_code == 202, answer.text
        job_id = answer.json()["id"]
        stepped = self._first_step(job_id)
        marks = self._marks(job_id) | {"answered": answered, "first step": stepped}
        self.client.post(f"/v1/jobs/{job_id}/cancel")
        self.stack.finished(job_id)
        return {name: (at - begun) * 1000 for name, at in sorted(marks.items(), key=lambda mark: mark[1])}

    def _first_step(self, job_id: str) -> float:
        def at() -> Any:
            with read(self.stack.engine) as conn:
                progress = conn.scalar(select(jobs.c.progress).where(jobs.c.id == job_id))
            return progress if progress and progress["step"] >= 1 else None

        progress = eventually("the first step", at)
        assert progress["step"] == 1, "the frame of the first step was missed; is NIGHTSHIFT_RELAY_SECONDS short?"
        return float(progress["at"])

    def _marks(self, job_id: str) -> dict[str, float]:
        with read(self.stack.engine) as conn:
            events = conn.execute(select(job_events).where(job_events.c.job_id == job_id)).all()
            created = conn.scalar(select(jobs.c.created_at).where(jobs.c.id == job_id))
        claimed = next(e.at for e in events if e.type == "state" and e.data["state"] == "running")
        ready = next((e.at for e in events if e.type == "attempt"), claimed)
        return {"row written": created, "claimed": claimed, "ready in SQL": ready}


def report(options: argparse.Namespace, model: Mapping[str, Any], runs: list[dict[str, float]]) -> dict[str, Any]:
    first = [run["first step"] for run in runs]
    return {
        "bench": "start",
        "framework": options.framework,
        "model": model,
        "batch_size": options.batch_size,
        "pause_s": options.pause,
        "jobs": len(runs),
        "first_step_ms": {
            "median": round(statistics.median(first), 1),
            "p95": round(sorted(first)[int(0.95 * (len(first) - 1))], 1),
            "min": round(min(first), 1),
            "max": round(max(first), 1),
        },
        "marks_ms_median": {name: round(statistics.median(run[name] for run in runs), 1) for name in runs[0]},
        "cpus": os.cpu_count(),
        "machine": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        options.framework: version(options.framework),
        "celery": version("celery"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=20)
    parser.add_argument("--framework", choices=("torch", "tensorflow"), default="torch")
    parser.add_argument("--preset", default="mnist-3conv")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--example", choices=sorted(EXAMPLES), help="a family to be measured in turns with the CNN")
    parser.add_argument("--pause", type=float, default=1.0, help="seconds the worker idles before each job")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the started processes are stopped
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        url = databases.sqlite_database(folder, databases.make_sqlite_template(folder))
        models: list[dict[str, Any]] = [{"family": "cnn", "preset": options.preset}]
        settings: dict[str, Any] = {"preload": "true", "frameworks": options.framework, "relay_seconds": 0.01}
        settings |= {"heartbeat_seconds": 0.5}
        if options.example:
            models.append(EXAMPLES[options.example])
            settings |= {"families": f"built-in,{models[1]['family']}", "packages": packages(options.example, folder)}
        with running_redis(folder) as redis, open_stack(folder, url, redis.url, **settings) as stack:
            bench = Bench(stack, options)
            for model in models:  # registers the data set and warms every cache: the target is for a warm worker
                bench.one(model)
            rounds = [[bench.one(model) for model in models] for _ in range(options.jobs)]
    medians = [show(options, model, [runs[i] for runs in rounds]) for i, model in enumerate(models)]
    if options.example:
        print(f"{models[1]['family']} to {models[0]['family']}: {medians[1] / medians[0]:.2f}")


def packages(example: str, folder: Path) -> Path:
    """Install the example into a folder below, and return it."""
    if example != "twin":
        return install(example, folder)
    points = "[nightshift.families]\ntwin = twin_family:FAMILY\n"
    return write_modules(folder / "packages", TWIN, name="nightshift-twin", points=points)


def show(options: argparse.Namespace, model: Mapping[str, Any], runs: list[dict[str, float]]) -> float:
    """Print the times of a model and return the median until the first step."""
    result = report(options, model, runs)
    print(json.dumps(result, indent=1))
    median = float(result["first_step_ms"]["median"])
    print(f"submit -> first step: median {median} ms (target < {TARGET:.0f} ms with torch)")
    return median


if __name__ == "__main__":
    main()

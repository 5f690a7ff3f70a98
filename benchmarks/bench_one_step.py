"""Jobs of one step per second, with all their artifacts, one after the other on one worker of the CPU.

    python -m benchmarks.bench_one_step [--beside FOLDER] [--rounds 4] [--jobs 6] [--framework torch]
        [--preset mnist-3conv] [--batch-size 32] [--threads 2]

Everything is real: `nightshift up` with SQLite and Redis, the CNN on `digits`, its evaluation and figures. All jobs of
a round are submitted at once, after one that is not counted; a round lasts from the start of the first to the end of
the last. `--beside` is another checkout, whose stack idles while this one's is measured and the reverse. Bias against
us: the step, the figures and the worker share the machine's cores.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.__main__ import machine
from benchmarks.measured_stack import MeasuredStack
from tests.support.stack import eventually

HERE = Path(__file__).parents[1]


@dataclass(frozen=True)
class Round:
    """What a round of jobs took."""

    jobs_per_second: float
    #: Seconds of processor time for a job, of all processes.
    processor: float
    artifacts: int


def submit(stack: MeasuredStack, options: argparse.Namespace) -> str:
    """Submit a job of one step and return its id."""
    model = {"family": "cnn", "preset": options.preset, "framework": options.framework}
    training = {"epochs": 1, "max_steps": 1, "batch_size": options.batch_size}
    body = {"kind": "train", "dataset": "digits", "model": model, "training": training}
    answer = stack.client.post("/v1/jobs", json=body)
    answer.raise_for_status()
    return str(answer.json()["id"])


def ended(stack: MeasuredStack, job_id: str) -> Any:
    """Wait for the end of a job and return it."""

    def found() -> Any:
        job = stack.client.get(f"/v1/jobs/{job_id}").raise_for_status().json()
        assert job["state"] not in ("failed", "cancelled"), job
        return job if job["state"] == "succeeded" else None

    return eventually("the end", found)


def measure(stack: MeasuredStack, options: argparse.Namespace) -> Round:
    """Run the jobs of a round."""
    ended(stack, submit(stack, options))
    stack.settle(1.0)
    before = stack.processor_seconds()
    jobs = [ended(stack, job_id) for job_id in [submit(stack, options) for _ in range(options.jobs)]]
    used = stack.processor_seconds() - before
    first, last = min(_time(job["started_at"]) for job in jobs), max(_time(job["finished_at"]) for job in jobs)
    seconds = (last - first).total_seconds()
    artifacts = {_artifacts(stack, job["id"]) for job in jobs}
    assert len(artifacts) == 1, artifacts
    return Round(len(jobs) / seconds, used / len(jobs), artifacts.pop())


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _artifacts(stack: MeasuredStack, job_id: str) -> int:
    found = stack.client.get(f"/v1/jobs/{job_id}/artifacts").raise_for_status().json()
    return len(found["items"])


def report(rounds: dict[str, list[Round]]) -> None:
    """Print a line for each side, and the ratio of the rates, round by round."""
    print(f"{'':8} {'jobs/s':>8} {'lowest':>8} {'highest':>8} {'processor s/job':>16} {'artifacts':>10}")
    for name, found in rounds.items():
        rates, used = [one.jobs_per_second for one in found], statistics.median(one.processor for one in found)
        numbers = f"{statistics.median(rates):>8.3f} {min(rates):>8.3f} {max(rates):>8.3f} {used:>16.2f}"
        print(f"{name:8} {numbers} {found[0].artifacts:>10}")
    if "beside" in rounds:
        pairs = zip(rounds["here"], rounds["beside"], strict=True)
        ratios = [mine.jobs_per_second / other.jobs_per_second for mine, other in pairs]
        print(f"ratio of jobs/s, by round: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--beside", type=Path)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--jobs", type=int, default=6)
    parser.add_argument("--framework", default="torch")
    parser.add_argument("--preset", default="mnist-3conv")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    sources = {"here": HERE, **({"beside": options.beside.resolve()} if options.beside else {})}
    settings = {"frameworks": options.framework, "torch_threads": options.threads}
    print(machine())
    loads = [os.getloadavg()[0]]
    with ExitStack() as opened:
        stacks = {}
        for name, source in sources.items():
            folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
            stacks[name] = MeasuredStack(source, folder, **settings)
            opened.callback(stacks[name].stop)
        rounds: dict[str, list[Round]] = {name: [] for name in stacks}
        for number in range(options.rounds):
            for name in list(stacks)[:: 1 if number % 2 == 0 else -1]:
                rounds[name].append(measure(stacks[name], options))
            loads.append(os.getloadavg()[0])
    report(rounds)
    print(f"load {min(loads):.1f} to {max(loads):.1f}")


if __name__ == "__main__":
    main()

"""Task queues beside each other: RQ, dramatiq, huey, taskiq, plain Celery and ours, in one table.

    pip install '.[bench]'
    python -m benchmarks.bench_queues [--only rq celery ours] [--jobs 500] [--rounds 5] [--patience 100]

All use the same Redis server, each after the other has ended, with as many workers as cores and the settings of its
own documentation:

- jobs that do nothing: submitted at once to a running worker, per second until the last has run
- one such job on an idle worker, from before it is sent until it runs (median, lowest to highest)
- a first training step in a process of its own, from before it is sent (median, lowest to highest): RQ forks one for
  each job, Celery has `--max-tasks-per-child 1`, the others start one by `subprocess`
- a job whose worker is killed with SIGKILL, all its processes at once, while it runs; a new worker is started: when
  it runs again, or that it did not within `--patience` seconds

Ours is measured through SQL and the doorbell on SQLite, without HTTP, with one worker for the CPU: it runs one job at
a time and each in a process of its own, a job of the probe kind for the jobs that do nothing. Its mark is the time
that the job's process notes beside its progress. Its worker has torch loaded, as always; so has that of `rq-torch`,
whose pool imports it before it forks. Its lease is 10 s.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import redis

from benchmarks.__main__ import machine, missing
from benchmarks.queues import work
from tests.support import databases
from tests.support.redis import running_redis
from tests.support.stack import Stack, eventually, open_stack

WORKERS = os.cpu_count() or 1
PYTHON = sys.executable
#: Settings of `digits`, small enough that a first step needs no time of its own.
TRAINING: dict[str, Any] = {
    "kind": "train",
    "dataset": "digits",
    "model": {"family": "cnn", "preset": "mnist-3conv"},
    "training": {"batch_size": 32},
}


@dataclass(frozen=True)
class Library:
    """A task queue: its package, the command of its worker, and which job trains in isolation."""

    module: str
    command: tuple[str, ...]
    isolated: str = "train_step_apart"
    isolation: tuple[str, ...] = ()


LIBRARIES = {
    "rq": Library("rq", ("-m", "rq.cli", "worker-pool", "-n", str(WORKERS), "bench"), isolated="train_step"),
    "rq-torch": Library("rq", ("-m", "benchmarks.queues.rq_worker"), isolated="train_step"),
    "dramatiq": Library(
        "dramatiq", ("-m", "dramatiq", "benchmarks.queues.dramatiq_tasks", "--processes", str(WORKERS))
    ),
    "huey": Library(
        "huey",
        ("-m", "huey.bin.huey_consumer", "benchmarks.queues.huey_tasks.huey", "-k", "process", "-w", str(WORKERS)),
    ),
    "taskiq": Library(
        "taskiq_redis",
        ("-m", "taskiq", "worker", "benchmarks.queues.taskiq_tasks:broker", "--workers", str(WORKERS)),
    ),
    "celery": Library(
        "celery",
        ("-m", "celery", "-A", "benchmarks.queues.celery_tasks", "worker", "-c", str(WORKERS)),
        isolated="train_step",
        isolation=("--max-tasks-per-child", "1"),
    ),
}


@dataclass
class Row:
    """The results of one task queue."""

    name: str
    per_second: float
    idle: list[float]
    step: list[float]
    killed: str

    def line(self) -> str:
        """Return the row of the table."""
        return (
            f"{self.name:10} {self.per_second:8.0f} {_spread(self.idle):>24} {_spread(self.step):>24}   {self.killed}"
        )


def _spread(seconds: list[float]) -> str:
    low, middle, high = (1000 * value for value in (min(seconds), statistics.median(seconds), max(seconds)))
    return f"{middle:,.0f} ({low:,.0f} to {high:,.0f})"


# -- the libraries --------------------------------------------------------------------------------


def measure(name: str, server: Any, folder: Path, given: argparse.Namespace) -> Row:
    """Measure a library."""
    library = LIBRARIES[name]
    send = importlib.import_module(f"benchmarks.queues.{name.partition('-')[0]}_tasks").send
    server.flushall()
    with worker(library, (), folder / f"{name}.log"):
        after(server, work.DONE, send, "nothing")  # the worker is ready
        per_second = throughput(server, send, given.jobs)
        idle = [after(server, work.DONE, send, "nothing") for _ in _pauses(given.rounds)]
    server.flushall()
    with worker(library, library.isolation, folder / f"{name}.log"):
        after(server, work.STEPPED, send, library.isolated)
        step = [after(server, work.STEPPED, send, library.isolated) for _ in _pauses(given.rounds)]
    server.flushall()
    with worker(library, (), folder / f"{name}.log") as running:
        after(server, work.BEGAN, send, "wait")
        kill(running)
    with worker(library, (), folder / f"{name}.log"):
        killed = _again(wait(server, work.BEGAN, given.patience), given.patience)
    return Row(name, per_second, idle, step, killed)


@contextmanager
def worker(library: Library, more: tuple[str, ...], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker; at the end it is gone with all its processes."""
    url = ("--url", work.url()) if "rq.cli" in library.command else ()
    with log.open("ab") as output:
        running = subprocess.Popen([PYTHON, *library.command, *url, *more], stdout=output, stderr=output)
    try:
        yield running
    finally:
        kill(running)


def kill(running: subprocess.Popen[bytes]) -> None:
    """Kill a worker and all its processes at once."""
    try:
        parent = psutil.Process(running.pid)
        family = [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        family = []
    for process in family:
        process.send_signal(signal.SIGSTOP)  # so that none starts another meanwhile
    for process in family:
        process.kill()
    running.wait()
    psutil.wait_procs(family)  # a job that is sent earlier could be given to their blocked connections


def throughput(server: Any, send: Callable[[str], None], count: int) -> float:
    """Return jobs per second, from the first that is sent until the last has run."""
    began = time.time()
    for _ in range(count):
        send("nothing")
    last = max(_time(server, work.DONE) for _ in range(count))
    return count / (last - began)


def after(server: Any, mark: str, send: Callable[[str], None], job: str) -> float:
    """Return the seconds from before a job is sent until it leaves its mark."""
    began = time.time()
    send(job)
    return _time(server, mark) - began


def _time(server: Any, mark: str, seconds: float = 120) -> float:
    found = wait(server, mark, seconds)
    if found is None:
        raise RuntimeError(f"no job left a mark in {mark} within {seconds:.0f} s")
    return found


def wait(server: Any, mark: str, seconds: float) -> float | None:
    """Return the time that a job leaves as its mark."""
    found = server.blpop([mark], timeout=seconds)
    return float(found[1]) if found else None


def _again(at: float | None, patience: float, since: float = 0.0) -> str:
    if at is None:
        return f"not run again within {patience:.0f} s"
    return "runs again" + (f" after {at - since:.0f} s" if since else "")


def _pauses(rounds: int) -> Iterator[int]:
    """Yield after a pause, so that the worker is idle."""
    for number in range(rounds):
        time.sleep(0.5)
        yield number


# -- ours -----------------------------------------------------------------------------------------


def measure_ours(redis_url: str, folder: Path, given: argparse.Namespace) -> Row:
    """Measure ours."""
    database = databases.sqlite_database(folder, databases.make_sqlite_template(folder))
    settings = {"lease_seconds": 10, "heartbeat_seconds": 2, "preload": "true", "maintenance_seconds": 1}
    with open_stack(folder, database, redis_url, **settings) as stack:
        running = stack.worker()
        stack.beat()
        _nothing(stack)
        began = time.time()
        count = max(5, given.jobs // 20)
        ids = [stack.submit("train", steps=1) for _ in range(count)]
        ended = [stack.finished(job_id).finished_at for job_id in ids]
        idle = [_nothing(stack) for _ in _pauses(given.rounds)]
        _first_step(stack)
        step = [_first_step(stack) for _ in _pauses(given.rounds)]
        job_id = stack.submit("train", steps=3, hold_at=2)
        stack.at_step(job_id, 1)
        running.kill()
        since = time.time()
        running.again()
        again = eventually("the job runs again", lambda: stack.attempts(job_id)[1:], cap=given.patience)
        killed = _again(again[0].started_at, given.patience, since)
    return Row("ours", count / (max(ended) - began), idle, step, killed)


def _nothing(stack: Stack) -> float:
    """Return the seconds until a probe job told of its only step, in its own process."""
    began = time.time()
    job = stack.finished(stack.submit("train", steps=1))
    return float(job.progress["at"]) - began


def _first_step(stack: Stack) -> float:
    began = time.time()
    job_id = stack.enter(TRAINING, "auto")
    job = stack.at_step(job_id, 1)
    _cancel(stack, job_id)
    return float(job.progress["at"]) - began


def _cancel(stack: Stack, job_id: str) -> None:
    from shared.jobs.states import StopRequest

    stack.ask(job_id, StopRequest.CANCEL)
    stack.finished(job_id)


# -- the table ------------------------------------------------------------------------------------


def main() -> None:
    """Measure all that are asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=[*LIBRARIES, "ours"], default=[*LIBRARIES, "ours"])
    parser.add_argument("--jobs", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--patience", type=float, default=100.0)
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the started processes are stopped
    if absent := [name for name in given.only if name in LIBRARIES and find_spec(LIBRARIES[name].module) is None]:
        missing(f"not installed: {', '.join(absent)}; pip install '.[bench]'")
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory() as name, running_redis(Path(name)) as server:
        os.environ[work.REDIS] = server.url
        client = redis.Redis.from_url(server.url, socket_timeout=None)  # BLPOP waits longer
        print(f"{'':10} {'jobs/s':>8} {'idle, ms':>24} {'first step, ms':>24}   worker killed", flush=True)
        # taskiq renames the functions, so RQ, which finds them by name, comes before it.
        ordered = [one for one in (*LIBRARIES, "ours") if one in given.only]
        failed = [one for one in ordered if not _print_row(one, client, server.url, Path(name), given)]
    sys.exit(len(failed))


def _print_row(name: str, client: Any, redis_url: str, folder: Path, given: argparse.Namespace) -> bool:
    """Print a row, or why there is none and the end of the worker's log; return whether there is one."""
    client.flushall()
    try:
        row = measure_ours(redis_url, folder, given) if name == "ours" else measure(name, client, folder, given)
    except (RuntimeError, AssertionError) as error:
        log = folder / f"{name}.log"
        print(f"{name:10} failed: {error}\n{log.read_text()[-2000:] if log.is_file() else ''}", flush=True)
        return False
    print(row.line(), flush=True)
    return True


if __name__ == "__main__":
    main()

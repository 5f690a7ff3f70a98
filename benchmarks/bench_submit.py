"""Submissions per second and their latency, against the endpoint that people would write first (`naive_endpoint`).

    python -m benchmarks.bench_submit [--database sqlite postgres] [--jobs later gpu] [--rounds 5] [--seconds 4]
        [--clients 16] [--frozen]

Both sides run at the same time, on the same Redis server, each with its API process and a living Celery worker, and are
measured in turns: one client (p50), then `--clients` clients (answers per second), then an open loop at 80 % of what
the naive endpoint answered (p50 and p95). SQLite is in WAL mode with `synchronous=FULL` on both sides.

No job is run by us, because training would take the cores: `--jobs later` submits jobs of next year, `gpu` jobs that
are due, for a device that no worker has. The naive worker runs a task that does nothing. The processor time is of the
API process and of the worker with its children, per submission by one client. With `--frozen` both workers are
suspended.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
from celery import Celery

from benchmarks.__main__ import machine
from benchmarks.raw_http import Target, many_clients, one_client, open_loop
from shared.db.engine import write
from shared.fleet import keys
from tests.support import databases
from tests.support.factories import OWNER
from tests.support.redis import RedisServer, free_port, running_redis
from tests.support.stack import eventually, open_stack

#: What is submitted; `--jobs` adds to it.
BODY: dict[str, Any] = {
    "kind": "train",
    "dataset": "digits",
    "model": {"family": "cnn", "preset": "mnist-3conv"},
    "training": {"epochs": 3},
}
KINDS: dict[str, dict[str, Any]] = {
    "later": {"run_at": "2099-01-01T00:00:00Z"},
    "gpu": {"resources": {"device": "gpu"}},
}
#: Requests of one client in each turn.
ONE = 60
#: The targets: p50 to the naive endpoint's, answers per second to its own, p95 to p50 of the open loop.
TARGETS = {"p50": 0.8, "throughput": 1.5, "p95/p50": 5.0}


@dataclass
class Side:
    """One side of the comparison, with its figures."""

    name: str
    target: Target
    #: Pids by what they are.
    processes: Mapping[str, int]
    one: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    opened: list[float] = field(default_factory=list)
    processor: dict[str, list[float]] = field(default_factory=dict)

    def measure_one(self) -> None:
        """Measure one client, and the processor time of each process."""
        before = {name: processor_seconds(pid) for name, pid in self.processes.items()}
        self.one += one_client(self.target, ONE)
        for name, pid in self.processes.items():
            spent = (processor_seconds(pid) - before[name]) / ONE
            self.processor.setdefault(name, []).append(spent)

    def report(self) -> dict[str, Any]:
        """Return the figures, in milliseconds."""
        return {
            "one_client_ms": spread(self.one),
            "answers_per_second": [round(rate, 1) for rate in sorted(self.rates)],
            "open_loop_ms": spread(self.opened),
            "processor_ms": {
                name: round(1000 * statistics.median(values), 2) for name, values in self.processor.items()
            },
        }


def processor_seconds(pid: int) -> float:
    """Return the user and system time of a process and its living children."""
    process = psutil.Process(pid)
    times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return float(sum(one.user + one.system for one in times))


def spread(seconds: list[float]) -> dict[str, float]:
    """Return median and percentiles in milliseconds."""
    ordered = sorted(1000 * value for value in seconds)
    return {
        name: round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1)
        for name, share in (("p5", 0.05), ("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
    }


@contextmanager
def ours(folder: Path, url: str, redis_url: str, kind: str) -> Iterator[Side]:
    """Run our API and worker."""
    with open_stack(folder, url, redis_url, kinds="", maintenance_seconds=5) as stack:
        port = free_port()
        api = stack.start("api", "api.server", api_port=port)
        worker = stack.worker()
        beat = stack.beat()
        with write(stack.engine) as conn:
            key = keys.create(conn, "bench", OWNER)[1]
        eventually("the API answers", lambda: _answers(f"http://127.0.0.1:{port}/healthz"))
        target = Target(port, "/v1/jobs", {**BODY, **KINDS[kind]}, {"Authorization": f"Bearer {key}"})
        yield Side("ours", target, {"api": api.pid, "worker": worker.pid, "beat": beat.pid})


@contextmanager
def naive(folder: Path, url: str, redis_url: str) -> Iterator[Side]:
    """Run the naive endpoint and its Celery worker."""
    port = free_port()
    env = {**os.environ, "NAIVE_DATABASE": url, "NAIVE_REDIS": redis_url}
    started: list[subprocess.Popen[bytes]] = []

    def start(name: str, *command: str) -> int:
        with (folder / f"{name}.log").open("wb") as log:
            started.append(subprocess.Popen([sys.executable, *command], env=env, stdout=log, stderr=log))
        return started[-1].pid

    create = "from benchmarks.naive_endpoint import create_tables; create_tables()"
    subprocess.run([sys.executable, "-c", create], env=env, check=True)
    try:
        served = ("--host", "127.0.0.1", "--port", str(port), "--log-level", "warning")
        api = start("naive-api", "-m", "uvicorn", "benchmarks.naive_endpoint:app", *served)
        app = ("-A", "benchmarks.naive_endpoint:queue", "worker", "-c", "1", "--without-mingle", "--without-gossip")
        worker = start("naive-worker", "-m", "celery", *app)
        eventually("the naive endpoint answers", lambda: _answers(f"http://127.0.0.1:{port}/docs"))
        control = Celery(broker=redis_url).control
        eventually("the naive worker answers", lambda: control.ping(timeout=1.0), cap=60)
        yield Side("naive", Target(port, "/jobs", BODY, {}), {"api": api, "worker": worker})
    finally:
        for process in started:
            process.kill()
            process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=60).status_code == 200
    except httpx.TransportError:
        return False


@contextmanager
def frozen(sides: tuple[Side, ...], wanted: bool) -> Iterator[None]:
    """Suspend the workers."""
    pids = [side.processes["worker"] for side in sides] if wanted else []
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@contextmanager
def database_urls(kind: str, folder: Path) -> Iterator[tuple[str, str]]:
    """Yield a migrated database for us and an empty one for the naive endpoint. Both survive a power failure."""
    if kind == "sqlite":
        mine = databases.sqlite_database(folder, databases.make_sqlite_template(folder))
        yield mine, f"sqlite:///{folder / 'naive.db'}"
        return
    with databases.own_postgres() as own, databases.postgres_database(own.url, None) as other:
        yield own.url, other.replace("postgresql://", "postgresql+psycopg://")


def measure(options: argparse.Namespace, database: str, kind: str, redis: RedisServer) -> dict[str, Any]:
    """Measure both sides on one database."""
    with (
        tempfile.TemporaryDirectory() as name,
        database_urls(database, Path(name)) as (mine, other),
        ours(Path(name), mine, redis.url, kind) as us,
        naive(Path(name), other, redis.url.replace("/0", "/1")) as them,
    ):
        sides = (us, them)
        for side in sides:
            one_client(side.target, 30)  # registers the data set, fills caches
        with frozen(sides, options.frozen):
            for turn in range(options.rounds):
                measure_turn(options, sides if turn % 2 == 0 else sides[::-1])
            rate = 0.8 * statistics.median(them.rates)
            for turn in range(options.rounds):
                for side in sides if turn % 2 == 0 else sides[::-1]:
                    side.opened += open_loop(side.target, rate, options.seconds)
        found = {side.name: side.report() for side in sides}
    return {"database": database, "jobs": kind, "open_loop_per_second": round(rate, 1), **found, **ratios(us, them)}


def measure_turn(options: argparse.Namespace, sides: tuple[Side, ...]) -> None:
    """Measure one client and many, of each side."""
    for side in sides:
        side.measure_one()
    for side in sides:
        side.rates.append(many_clients(side.target, options.clients, options.seconds))


def ratios(us: Side, them: Side) -> dict[str, Any]:
    """Return what is judged."""
    opened = spread(us.opened)
    found = {
        "p50": statistics.median(us.one) / statistics.median(them.one),
        "throughput": statistics.median(us.rates) / statistics.median(them.rates),
        "p95/p50": opened["p95"] / opened["p50"],
    }
    return {"ratios": {name: round(value, 2) for name, value in found.items()}, "targets": TARGETS}


def main() -> None:
    """Measure every database with every sort of job."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--database", nargs="+", choices=("sqlite", "postgres"), default=["sqlite", "postgres"])
    parser.add_argument("--jobs", nargs="+", choices=sorted(KINDS), default=["later"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--frozen", action="store_true", help="suspend both workers")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the started processes are stopped
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory() as name, running_redis(Path(name)) as redis:
        for database in options.database:
            for kind in options.jobs:
                print(json.dumps(measure(options, database, kind, redis), indent=1), flush=True)


if __name__ == "__main__":
    main()

"""How the time of everything grows: with jobs, metric points, rows of data sets and workers; a table and a plot.

    python -m benchmarks.bench_growth [--quick] [--most 1000000] [--database sqlite postgres] [--calls 9]
        [--only jobs starts turns points rows workers] [--plot growth.png]

- jobs: a submission and the list by `/v1/jobs`, `/metrics`, the table of jobs, the queue, `why`, a claim; the jobs
  are due and wait for a GPU that no worker has
- starts: a submission to the API until the first progress of its job is in SQL, with a worker of the probe kind; the
  other jobs are as above
- turns: the same with two stacks in turns, one with an empty queue and one with `--most` jobs, so that what else the
  machine does slows down both
- points: writing 1,000 metric points to a job that has so many
- rows: registering a table of so many rows (CSV); batch inference of so many images with a small CNN in PyTorch, a
  process with its start
- workers: jobs of the probe kind per second with 1 to 8 workers (`--most` does not matter)

The API and the queries run in this process, without network; for starts, the API is a process, too. A median of some
calls, each with its spread; the first call, which compiles statements, does not count. `--quick` goes up to 10,000 and
two workers.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine

from benchmarks.__main__ import machine
from benchmarks.growing import grow
from shared.db.engine import make_engine, read, write
from shared.fleet import workers
from shared.fleet.workers import WorkerInfo
from shared.jobs import queries, transitions
from shared.jobs.explain import explain
from shared.jobs.queries.queue import queued_jobs
from shared.jobs.queries.table import TableQuery, jobs_table
from shared.jobs.transitions import MetricRow
from tests.support import databases
from tests.support.api import Api, running_api
from tests.support.factories import LEASE_SECONDS, OWNER, make_claimer, running_job, submit_job

#: Metric points in one write.
POINTS = 1_000
#: Probe jobs for each worker.
PROBES = 10
AXES = {
    "jobs": "queued jobs",
    "starts": "queued jobs",
    "turns": "queued jobs",
    "points": "points of the job",
    "rows": "rows",
    "workers": "workers",
}


@dataclass(frozen=True)
class Point:
    """One measured time, or rate: `unit` is ms or a thing per second."""

    measure: str
    axis: str
    database: str
    size: int
    values: tuple[float, ...]
    unit: str = "ms"

    @property
    def median(self) -> float:
        """Return the median."""
        return statistics.median(self.values)

    def line(self) -> str:
        """Return the line of the table."""
        spread = f"{min(self.values):,.1f} to {max(self.values):,.1f}"
        return f"{self.measure:22} {self.database:9} {self.size:>9,} {self.median:>12,.1f} {spread:>22} {self.unit}"


def milliseconds(call: Callable[[], object], calls: int) -> tuple[float, ...]:
    """Return the times of some calls, after one that does not count."""
    call()
    found = []
    for _ in range(calls):
        began = time.perf_counter()
        call()
        found.append(1000 * (time.perf_counter() - began))
    return tuple(found)


# -- jobs -----------------------------------------------------------------------------------------


def by_jobs(engine: Engine, folder: Path, given: argparse.Namespace, database: str) -> Iterator[Point]:
    """Measure what reads or writes jobs."""
    with write(engine) as conn:
        workers.register(conn, WorkerInfo("cpu0@bench", "bench", 1, "cpu", "cpu", frameworks=["torch"]))
    with running_api(engine, folder) as api:
        for size in sizes(given):
            grow(engine, size)
            for measure, call in calls_of(api, engine).items():
                yield Point(measure, "jobs", database, size, milliseconds(call, given.calls))


def calls_of(api: Api, engine: Engine) -> Mapping[str, Callable[[], object]]:
    """Return what is measured, by name. Each call leaves the database as it was, apart from submissions."""
    job_id = submit_job(engine, priority=0).job_id

    def get(path: str) -> Callable[[], object]:
        return lambda: accepted(api.get(path))

    def reading(call: Callable[[Connection], object]) -> Callable[[], object]:
        def read_it() -> None:
            with read(engine) as conn:
                call(conn)

        return read_it

    def why(conn: Connection) -> object:
        job = queries.get_job(conn, job_id, OWNER)
        return explain(job, queries.explain_context(conn, job, LEASE_SECONDS))

    return {
        "submit": lambda: accepted(api.submit(run_at="2099-01-01T00:00:00Z")),
        "claim": lambda: _claim(engine),
        "list": get("/v1/jobs"),
        "list of paused jobs": get("/v1/jobs?state=paused"),
        "list of a rare kind": get("/v1/jobs?kind=evaluate"),
        "/metrics": get("/metrics"),
        "table of jobs": reading(lambda conn: jobs_table(conn, OWNER, TableQuery())),
        "queue": reading(lambda conn: queued_jobs(conn, OWNER, LEASE_SECONDS)),
        "why": reading(why),
    }


def accepted(answer: Any) -> None:
    """Raise RuntimeError for an error."""
    if answer.status_code >= 400:
        raise RuntimeError(answer.text)


def _claim(engine: Engine) -> None:
    """Claim a job, and take it back: an exception rolls back."""

    class Back(Exception):
        pass

    try:
        with write(engine) as conn:
            if transitions.claim(conn, make_claimer(), LEASE_SECONDS) is None:
                raise RuntimeError("no job to claim")
            raise Back
    except Back:
        return


# -- starts ---------------------------------------------------------------------------------------


def by_starts(url: str, redis_url: str, folder: Path, given: argparse.Namespace, database: str) -> Iterator[Point]:
    """Measure the time from a submission to the first progress of its job."""
    from tests.support.stack import open_stack

    with open_stack(folder, url, redis_url) as stack:
        stack.api()
        stack.beat()
        stack.worker()
        for size in sizes(given):
            grow(stack.engine, size)
            yield Point("to first progress", "starts", database, size, milliseconds(lambda: _start(stack), given.calls))


def by_turns(given: argparse.Namespace, database: str) -> Iterator[Point]:
    """Measure the time from a submission to the first progress with an empty and a full queue, in turns."""
    with ExitStack() as opened:
        stacks = {size: opened.enter_context(_served(database, size)) for size in (1, given.most)}
        found: dict[int, list[float]] = {size: [] for size in stacks}
        for _ in range(given.calls):
            for size, stack in stacks.items():
                found[size] += milliseconds(partial(_start, stack), 1)
        for size, values in found.items():
            yield Point("first progress, turns", "turns", database, size, tuple(values))


@contextmanager
def _served(database: str, size: int) -> Iterator[Any]:
    """Start a stack with so many queued jobs."""
    from tests.support.redis import running_redis
    from tests.support.stack import open_stack

    with (
        new_database(database) as (url, folder),
        running_redis(folder) as server,
        open_stack(folder, url, server.url) as stack,
    ):
        stack.api()
        stack.beat()
        stack.worker()
        grow(stack.engine, size)
        yield stack


def _start(stack: Any) -> None:
    answer = stack.post_job(steps=1)
    accepted(answer)
    while not (stack.job(answer.json()["id"]).progress or {}).get("step"):
        time.sleep(0.002)


# -- points ---------------------------------------------------------------------------------------


def by_points(engine: Engine, given: argparse.Namespace, database: str) -> Iterator[Point]:
    """Measure writing points to a job that has many."""
    lease, step = running_job(engine), 0
    for size in sizes(given):
        while step < size:
            step = _record(engine, lease, step)
        found = []
        for _ in range(given.calls):
            began = time.perf_counter()
            step = _record(engine, lease, step)
            found.append(POINTS / (time.perf_counter() - began))
        yield Point("metric points", "points", database, size, tuple(found), "points/s")


def _record(engine: Engine, lease: Any, step: int) -> int:
    rows = [MetricRow("loss", number, 0, 0.5) for number in range(step, step + POINTS)]
    with write(engine) as conn:
        transitions.record(conn, lease, metrics=rows)
    return step + POINTS


# -- rows -----------------------------------------------------------------------------------------


def by_rows(engine: Engine, folder: Path, given: argparse.Namespace, database: str) -> Iterator[Point]:
    """Measure registering, and on SQLite inference, which reads no database."""
    from shared.datasets import registry
    from shared.settings import Settings

    settings = Settings(data_dir=folder / "rows")
    for size in sizes(given):
        file = folder / "table.csv"
        file.write_text("a,b,label\n" + "".join(f"{n},{n * 7 % 13},{'xy'[n % 2]}\n" for n in range(size)))
        name, began = f"rows{size}", time.perf_counter()
        registry.register(engine, settings, name, file, kind="table")
        yield Point("registration", "rows", database, size, (size / (time.perf_counter() - began),), "rows/s")
    if database == "sqlite":
        yield from _inference(folder, given)


def _inference(folder: Path, given: argparse.Namespace) -> Iterator[Point]:
    from tests.support.kinds import infer, trained
    from tests.support.training import attempt

    parent = trained("cnn-torch", folder)
    for size in sizes(given):
        data_set = _images(parent.data_set, size, folder / "images")
        began = time.perf_counter()
        code = attempt(infer("torch", batch_size=256), folder / f"infer{size}", data_set, model=parent.model)
        if code:
            raise RuntimeError(f"inference of {size} rows ended with exit code {code}")
        yield Point("inference", "rows", "sqlite", size, (size / (time.perf_counter() - began),), "rows/s")


def _images(source: Path, size: int, root: Path) -> Path:
    """Store a data set whose test part has so many images, repeated from another."""
    import numpy as np

    from shared.datasets.store import open_dataset, publish, staging

    stored = open_dataset(source)
    splits = {}
    with staging(root) as folder:
        for split in stored.splits:
            rows = np.resize(np.arange(len(stored.y(split))), size if split == "test" else 100)
            np.save(folder / f"{split}_x.npy", np.asarray(stored.x(split))[rows])
            np.save(folder / f"{split}_y.npy", np.asarray(stored.y(split))[rows])
            splits[split] = {"count": len(rows)}
        return publish(folder, {**stored.meta, "splits": splits}).folder


# -- workers --------------------------------------------------------------------------------------


def by_workers(url: str, redis_url: str, folder: Path, given: argparse.Namespace, database: str) -> Iterator[Point]:
    """Measure probe jobs per second with several workers."""
    from tests.support.stack import open_stack

    with open_stack(folder, url, redis_url) as stack:
        stack.beat()
        running = 0
        for size in (1, 2) if given.quick else (1, 2, 4, 8):
            while running < size:
                stack.worker(running)
                running += 1
            stack.finished(stack.submit("train", steps=1))
            began = time.time()
            ids = [stack.submit("train", steps=1) for _ in range(PROBES * size)]
            ended = max(stack.finished(job_id).finished_at for job_id in ids)
            yield Point("probe jobs", "workers", database, size, (len(ids) / (ended - began),), "jobs/s")


# -- everything -----------------------------------------------------------------------------------


def sizes(given: argparse.Namespace) -> list[int]:
    """Return powers of ten."""
    return [size for size in (10**power for power in range(2, 7)) if size <= given.most]


@contextmanager
def new_database(database: str) -> Iterator[tuple[str, Path]]:
    """Yield the URL of a migrated database and a folder; both survive a power failure."""
    with tempfile.TemporaryDirectory(prefix="nightshift-growth-") as name:
        folder = Path(name)
        if database == "sqlite":
            yield databases.sqlite_database(folder, databases.make_sqlite_template(folder)), folder
        else:
            with databases.own_postgres() as own:
                yield own.url, folder


def measured(database: str, given: argparse.Namespace) -> Iterator[Point]:
    """Measure everything on one database, each axis on a new one."""
    for axis in given.only:
        if axis == "turns":
            yield from by_turns(given, database)
            continue
        with new_database(database) as (url, folder):
            if axis in ("starts", "workers"):
                from tests.support.redis import running_redis

                with running_redis(folder) as server:
                    measure = by_starts if axis == "starts" else by_workers
                    yield from measure(url, server.url, folder, given, database)
                continue
            engine = make_engine(url)
            try:
                if axis == "jobs":
                    yield from by_jobs(engine, folder, given, database)
                elif axis == "points":
                    yield from by_points(engine, given, database)
                else:
                    yield from by_rows(engine, folder, given, database)
            finally:
                engine.dispose()


def plot(points: Iterable[Point], path: Path) -> None:
    """Draw a panel for each measure, with a line for each database."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    found = list(points)
    measures = list(dict.fromkeys(point.measure for point in found))
    columns = 4
    rows = -(-len(measures) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(4 * columns, 3 * rows), squeeze=False, layout="constrained")
    for axis in axes.flat[len(measures) :]:
        axis.set_axis_off()
    for axis, measure in zip(axes.flat, measures, strict=False):
        _panel(axis, [point for point in found if point.measure == measure])
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _panel(axis: Any, points: list[Point]) -> None:
    first = points[0]
    for database in dict.fromkeys(point.database for point in points):
        line = [point for point in points if point.database == database]
        medians = [point.median for point in line]
        low = [point.median - min(point.values) for point in line]
        high = [max(point.values) - point.median for point in line]
        axis.errorbar([point.size for point in line], medians, yerr=[low, high], marker="o", capsize=2, label=database)
    axis.set(title=first.measure, xlabel=AXES[first.axis], ylabel=first.unit, xscale="log", yscale="log")
    # From a tenth to ten times the values, so that noise does not look like growth.
    values = [point.median for point in points]
    axis.set_ylim(min(values) / 10, max(values) * 10)
    if first.axis == "workers":
        axis.minorticks_off()
        axis.set_xticks(sorted({point.size for point in points}), sorted({str(point.size) for point in points}))
    axis.grid(alpha=0.3)
    axis.legend()


def main() -> None:
    """Measure and print as it goes; draw at the end."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="up to 10,000, and two workers")
    parser.add_argument("--most", type=int, default=1_000_000)
    parser.add_argument("--database", nargs="+", choices=("sqlite", "postgres"), default=["sqlite", "postgres"])
    parser.add_argument("--only", nargs="+", choices=sorted(AXES), default=list(AXES))
    parser.add_argument("--calls", type=int, default=9)
    parser.add_argument("--plot", type=Path, default=Path("growth.png"))
    given = parser.parse_args()
    given.most = min(given.most, 10_000) if given.quick else given.most
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the started processes are stopped
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    print(machine())
    print(f"{'':22} {'':9} {'size':>9} {'median':>12} {'lowest to highest':>22}", flush=True)
    points = []
    for database in given.database:
        for point in measured(database, given):
            points.append(point)
            print(point.line(), flush=True)
    plot(points, given.plot)
    print(f"drawn as {given.plot}")


if __name__ == "__main__":
    main()

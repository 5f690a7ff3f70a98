"""Server time of our pages in Flower: the table of ten thousand jobs, a job with a hundred thousand points.

    python -m benchmarks pages            or: python -m benchmarks.bench_pages [--jobs 10000] [--points 100000]
        [--url postgresql://…]

The real application in this process, by default on SQLite in a temporary folder, over HTTP on loopback, one request at
a time, so the results are server time plus a local round trip. CPU time is that of the process.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks import seeding
from shared.datasets import registry
from shared.db.engine import make_engine
from shared.db.migrate import upgrade
from tests.support.flower_app import FlowerApp, running_flower_app

#: Requests of each kind; the first one warms caches and is reported separately.
REQUESTS = 15


def main() -> None:
    parser = argparse.ArgumentParser(description="Server time of our pages in Flower.")
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--url", default="", help="an empty database; default: SQLite in a temporary folder")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nightshift-pages-") as folder:
        url = given.url or f"sqlite:///{folder}/nightshift.db"
        upgrade(url)
        with running_flower_app(make_engine(url), Path(folder)) as flower:
            measure(flower, given.jobs, given.points)


def measure(flower: FlowerApp, jobs: int, points: int) -> None:
    ids = seeding.fill(flower.engine, flower.owner, jobs)
    long = seeding.long_job(flower.engine, flower.owner, points)
    seeding.busy_week(flower.engine, ids)
    seeding.versions(flower.engine, ids)
    registry.ensure_builtin(flower.engine, flower.settings, "digits")
    print(f"{jobs:,} jobs, one of them with {points:,} metric points, on {flower.engine.dialect.name}")
    print(f"{'':44}{'first':>9}{'median':>9}{'slowest':>9}{'CPU':>9}   (ms)")
    for name, path in {
        "Jobs page": "/jobs",
        "Jobs page, its data (asked every 2 s)": "/jobs/data",
        "Jobs page, page 200 of 400": "/jobs/data?page=200",
        "Jobs page, searched": "/jobs/data?q=nightly",
        "Jobs page, filtered and sorted by name": "/jobs/data?state=failed&family=cnn&sort=name",
        "Jobs page, sorted by a result": "/jobs/data?sort=-test_accuracy&columns=test_accuracy,lr,tag.team",
        "Jobs page, sorted by a curve's last value": "/jobs/data?sort=loss&columns=loss",
        "Jobs page, sorted by a curve's best value": "/jobs/data?sort=best.loss&columns=best.loss",
        "Jobs page, sorted by a setting": "/jobs/data?sort=lr&columns=lr,training.optimizer",
        "Jobs page, searched by values": "/jobs/data?q=test_accuracy > 0.95 lr < 0.01 tag:team=vision",
        "Jobs page, columns to choose from": "/jobs/columns",
        "Job page": f"/jobs/{long}",
        "Job page, curves of all points": f"/jobs/{long}/curves",
        "Job page, nothing new (asked every 1.5 s)": f"/jobs/{long}/live?after=1000000000",
        "Compare, ten jobs": f"/compare?ids={','.join(ids[-10:])}",
        "Compare, all (a hundred of them)": "/compare/data?all=1&sort=-test_accuracy",
        "Devices page": "/devices",
        "Devices, its data (asked every 2 s)": "/devices/data",
        "Devices, the last hour and the queue": "/devices/history?window=hour",
        "Devices, a week": "/devices/history?window=week",
        "Data sets page": "/datasets",
        "Data set page": "/datasets/digits",
        "Models page": "/models",
        "Model page, a thousand versions": "/models/nightly",
    }.items():
        print(row(flower, name, f"/nightshift{path}"), flush=True)


def row(flower: FlowerApp, name: str, path: str) -> str:
    walls, cpus = [], []
    for _ in range(REQUESTS):
        wall, cpu = time.perf_counter(), time.process_time()
        answer = flower.client.get(path)
        walls.append((time.perf_counter() - wall) * 1000)
        cpus.append((time.process_time() - cpu) * 1000)
        assert answer.status_code == 200, answer.text
    figures = (walls[0], statistics.median(walls), max(walls), statistics.median(cpus))
    return f"{name:44}" + "".join(f"{figure:9.1f}" for figure in figures)


if __name__ == "__main__":
    main()

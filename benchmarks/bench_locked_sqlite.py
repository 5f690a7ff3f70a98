"""Latency of reads, and responses to submissions, while another process holds SQLite's write lock.

    python -m benchmarks locked_sqlite      or: python -m benchmarks.bench_locked_sqlite [--seconds 30] [--posts 150]

The real API and Flower over HTTP on loopback, SQLite and Redis; no worker. First reads alone; then the same reads with
concurrent submissions and more cancel requests than Flower has threads; then the same with a process that holds
`BEGIN IMMEDIATE`. Client, API, Flower and lock holder share the machine's cores.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx

from tests.support import databases
from tests.support.redis import free_port, running_redis
from tests.support.stack import Stack, eventually, open_stack

#: Interval of reads (seconds).
PAUSE = 0.1
#: Time-out of a client (seconds).
PATIENCE = 120.0
#: Concurrent actions on pages: more than Flower has threads.
CANCELS = 40
#: One client for all requests: creating one takes longer than a request.
_MANY = httpx.Limits(max_connections=None)
SPEC = {"kind": "train", "model": {"family": "cnn", "preset": "mnist-1conv-linear"}, "dataset": "digits"}
_HOLD = """
import sqlite3, sys, time
conn = sqlite3.connect(sys.argv[1], isolation_level=None)
conn.execute("BEGIN IMMEDIATE")
print("held", flush=True)
time.sleep(float(sys.argv[2]))
"""


class Bench:
    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        stack.api()
        self.api, self.key = f"http://127.0.0.1:{stack._api_port}", stack._api_key
        port = free_port()
        self.flower = f"http://127.0.0.1:{port}"
        stack.start("flower", "api.flower.app", flower_port=port)
        eventually("Flower answers", self._flower_answers)
        self.job_id = self.new_job()

    def new_job(self) -> str:
        return str(self.stack.post_job().raise_for_status().json()["id"])

    @property
    def reads(self) -> dict[str, str]:
        return {
            "GET /v1/jobs": f"{self.api}/v1/jobs",
            "GET /v1/jobs/{id}": f"{self.api}/v1/jobs/{self.job_id}",
            "GET /readyz": f"{self.api}/readyz",
            "job page (Flower)": f"{self.flower}/nightshift/jobs/{self.job_id}",
        }

    def _flower_answers(self) -> bool:
        try:
            return httpx.get(f"{self.flower}/healthcheck", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def read_for(self, seconds: float) -> dict[str, list[float]]:
        """Repeat all reads concurrently; return {name: milliseconds}."""
        until = time.monotonic() + seconds
        with ThreadPoolExecutor(len(self.reads)) as pool:
            found = pool.map(lambda url: self._read_until(url, until), self.reads.values())
            return dict(zip(self.reads, found, strict=True))

    def _read_until(self, url: str, until: float) -> list[float]:
        took = []
        with self._client(url) as client:
            while time.monotonic() < until:
                began = time.perf_counter()
                client.get(url).raise_for_status()
                took.append((time.perf_counter() - began) * 1000)
                time.sleep(PAUSE)
        return took

    def _client(self, url: str) -> httpx.Client:
        if url.startswith(self.flower):
            return httpx.Client(auth=("nightshift", self.key), timeout=PATIENCE, limits=_MANY)
        return httpx.Client(headers={"Authorization": f"Bearer {self.key}"}, timeout=PATIENCE, limits=_MANY)

    def post_all(self, posts: int, pool: ThreadPoolExecutor) -> list[Future[tuple[int, float]]]:
        """Send submissions to the API and cancel requests to Flower, all at once."""
        api, flower = self._client(self.api), self._client(self.flower)
        flower.get(f"{self.flower}/nightshift/devices").raise_for_status()
        token = {"X-XSRFToken": flower.cookies["_xsrf"]}
        submit = partial(api.post, f"{self.api}/v1/jobs", json=SPEC)
        press = partial(flower.post, f"{self.flower}/nightshift/jobs/{self.job_id}/cancel", json={}, headers=token)
        ready = threading.Barrier(posts + CANCELS)

        def timed(send: Callable[[], httpx.Response]) -> tuple[int, float]:
            ready.wait()
            began = time.perf_counter()
            return send().status_code, time.perf_counter() - began

        return [pool.submit(timed, send) for send in [submit] * posts + [press] * CANCELS]


@contextmanager
def lock_held(database: str, seconds: float) -> Iterator[None]:
    command = [sys.executable, "-c", _HOLD, database, str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline().strip() == "held"
        yield


def show(title: str, reads: dict[str, list[float]]) -> None:
    print(f"{title:32}{'median':>9}{'95 %':>9}{'slowest':>9}{'answers':>9}   (ms)", flush=True)
    for name, took in reads.items():
        within = sorted(took)[int(len(took) * 0.95)]
        print(f"  {name:30}{statistics.median(took):9.1f}{within:9.1f}{max(took):9.1f}{len(took):9}", flush=True)


def told(title: str, answers: list[tuple[int, float]]) -> None:
    seconds = sorted(took for _, took in answers)
    statuses = ", ".join(f"{count} x {status}" for status, count in sorted(Counter(s for s, _ in answers).items()))
    figures = f"first {seconds[0]:.1f} s, median {statistics.median(seconds):.1f} s, last {seconds[-1]:.1f} s"
    print(f"{title}: {statuses}; {figures}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Reads and submissions while SQLite is locked.")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--posts", type=int, default=150)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nightshift-locked-") as name, running_redis(Path(name)) as redis:
        folder = Path(name)
        url = databases.sqlite_database(folder, databases.make_sqlite_template(folder))
        with open_stack(folder, url, redis.url) as stack:
            measure(Bench(stack), given.seconds, given.posts)


def measure(bench: Bench, seconds: float, posts: int) -> None:
    show("free, nothing else", bench.read_for(5.0))
    with ThreadPoolExecutor(posts + CANCELS) as pool:
        under_load(bench, f"free, {posts} submissions", posts, 5.0, pool)
        bench.job_id = bench.new_job()  # the previous one is cancelled by now
        with lock_held(str(bench.stack.engine.url.database), seconds):
            under_load(bench, f"locked {seconds:.0f} s, {posts} submissions", posts, seconds, pool)


def under_load(bench: Bench, title: str, posts: int, seconds: float, pool: ThreadPoolExecutor) -> None:
    before = len(bench.stack.all_ids())
    answers = bench.post_all(posts, pool)
    show(title, bench.read_for(seconds))
    results = [answer.result() for answer in answers]
    told(f"  {posts} submissions", results[:posts])
    told(f"  {CANCELS} cancels (Flower)", results[posts:])
    written, accepted = len(bench.stack.all_ids()) - before, sum(status == 202 for status, _ in results[:posts])
    print(f"  jobs written: {written}; told so: {accepted}", flush=True)


if __name__ == "__main__":
    main()

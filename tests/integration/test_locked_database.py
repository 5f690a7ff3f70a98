"""Another process holds the lock that writes need.

Reads answer as usual, and writes wait for a limited time or are told to retry.
"""

from __future__ import annotations

import inspect
import pkgutil
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import anyio
import httpx
import psycopg
import pytest
from sqlalchemy import Engine, func, select

import api.routes
import shared.db.engine as engine_module
from api.services.group_commit import Submissions
from api.services.write_threads import WRITING_THREADS, Writers, WritingRoute
from shared.db.engine import make_engine, read, write_lock_of
from shared.db.schema import jobs
from shared.errors import DatabaseLocked
from tests.support.api import TRAIN, Api
from tests.support.factories import submit_job
from tests.support.flower_app import running_flower_app
from tests.support.stack import CAP, eventually

SUBMISSIONS = 150
#: More of each than the threads that requests share.
OTHERS = 41


@pytest.fixture
def patient(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """An engine whose writes wait until the test lets them; a time-out would be a matter of the machine's speed."""
    monkeypatch.setattr(engine_module, "SQLITE_BUSY_SECONDS", 10 * CAP)
    monkeypatch.setattr(engine_module, "LOCK_TIMEOUT_MS", 0)
    monkeypatch.setattr(engine_module, "STATEMENT_TIMEOUT_MS", 0)
    engine = make_engine(database_url)
    yield engine
    engine.dispose()


class Arrivals(deque[Any]):
    """The submissions that wait for their turn; `arrived` has all that ever did."""

    def __init__(self) -> None:
        super().__init__()
        self.arrived: list[Any] = []

    def append(self, waiting: Any) -> None:
        super().append(waiting)
        self.arrived.append(waiting)


def patient_api(engine: Engine, folder: Path) -> Api:
    api = Api(engine, folder)
    for name, part in {"writers": Writers(seconds=10 * CAP), "submissions": Submissions(engine, 10 * CAP)}.items():
        object.__setattr__(api.app.state.service, name, part)
    return api


@contextmanager
def held(engine: Engine, job_id: str) -> Iterator[None]:
    """Another connection holds what a write of this job needs: all of SQLite, or the job's row."""
    if engine.dialect.name == "sqlite":
        holder: Any = sqlite3.connect(str(engine.url.database), isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
    else:
        plain = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        holder = psycopg.connect(plain)
        holder.execute("SELECT * FROM jobs WHERE id = %s FOR UPDATE", (job_id,))
    try:
        yield
    finally:
        holder.close()


class Crowd:
    """Requests that are on their way, and what came of those that have been answered."""

    def __init__(self, api: Api, group: anyio.abc.TaskGroup) -> None:
        headers = {"Authorization": f"Bearer {api.key}"}
        transport = httpx.ASGITransport(app=api.app)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://api", headers=headers)
        self.service = api.app.state.service
        self.answers: list[httpx.Response] = []
        self._group, self.sent = group, 0

    def send(self, count: int, method: str, path: str, **request: Any) -> None:
        async def one() -> None:
            self.answers.append(await self.client.request(method, path, **request))

        self.sent += count
        for _ in range(count):
            self._group.start_soon(one)

    async def all_wait(self) -> None:
        """Each of them has a thread, or waits for one."""
        await self.until(lambda: self.service.writers.waiting == self.sent - WRITING_THREADS)

    async def until(self, true: Callable[[], bool]) -> None:
        while not true():
            await anyio.sleep(0.01)

    def statuses(self, method: str = "POST") -> set[int]:
        return {answer.status_code for answer in self.answers if answer.request.method == method}


def test_reads_answer_while_writes_wait(patient: Engine, tmp_path: Path) -> None:
    service = patient_api(patient, tmp_path)
    job_id = service.submit().json()["id"]
    submissions = SUBMISSIONS if patient.dialect.name == "sqlite" else 0  # on PostgreSQL they do not wait for the lock

    async def main() -> Crowd:
        with anyio.fail_after(CAP):
            async with anyio.create_task_group() as group:
                crowd = Crowd(service, group)
                with held(patient, job_id):
                    crowd.send(submissions, "POST", "/v1/jobs", json=TRAIN)
                    crowd.send(OTHERS, "POST", f"/v1/jobs/{job_id}/cancel")
                    crowd.send(OTHERS, "PATCH", f"/v1/jobs/{job_id}", json={"name": "another"})
                    await crowd.all_wait()
                    for path in ("/v1/jobs", f"/v1/jobs/{job_id}", f"/v1/jobs/{job_id}/why", "/readyz", "/metrics"):
                        assert (await crowd.client.get(path)).status_code == 200, path
                    assert crowd.answers == [], "each of them waits still"
        return crowd

    crowd = anyio.run(main)
    assert len(crowd.answers) == submissions + 2 * OTHERS
    assert crowd.statuses("PATCH") == {200}
    assert crowd.statuses() == {202, 409}, "a job is cancelled once"
    assert sum(answer.status_code == 202 for answer in crowd.answers) == submissions + 1


def test_all_that_wait_are_told_at_once_to_come_back(sqlite_url: str, tmp_path: Path) -> None:
    """The first submission finds the database locked. The others fail with it, without a time-out of their own."""
    engine = make_engine(sqlite_url)
    service = patient_api(engine, tmp_path)
    service.submit()
    service.app.state.service.submissions._waiting = line = Arrivals()

    async def main() -> Crowd:
        with anyio.fail_after(CAP):
            async with anyio.create_task_group() as group:
                crowd = Crowd(service, group)
                with suppress(DatabaseLocked), write_lock_of(engine).take(0):
                    crowd.send(SUBMISSIONS, "POST", "/v1/jobs", json=TRAIN)
                    await crowd.all_wait()
                    await crowd.until(lambda: len(line.arrived) == WRITING_THREADS)
                    await crowd.until(lambda: write_lock_of(engine).waiting == 1)
                    raise DatabaseLocked("held by another process")
        return crowd

    crowd = anyio.run(main)
    assert [(answer.status_code, answer.headers["Retry-After"]) for answer in crowd.answers] == [
        (503, "2")
    ] * SUBMISSIONS
    with read(engine) as conn:
        assert conn.scalar(select(func.count()).select_from(jobs)) == 1, "no 503 was a job all the same"
    assert service.submit().status_code == 202
    engine.dispose()


def test_who_waits_too_long_for_a_thread_is_told_to_come_back() -> None:
    only, go = Writers(threads=1, seconds=0.0), threading.Event()

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(only.run, go.wait, CAP)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(DatabaseLocked, match="too many writers"):
                await only.run(go.wait)
            go.set()
        assert await only.run(go.is_set)

    anyio.run(main)


def test_every_route_that_changes_something_is_off_the_readers_threads() -> None:
    modules = [import_module(f"api.routes.{found.name}") for found in pkgutil.iter_modules(api.routes.__path__)]
    routes = [route for module in modules for route in module.router.routes]
    changing = [route for route in routes if route.methods - {"GET", "HEAD"}]
    assert len(changing) > 20
    assert [route.path for route in changing if not isinstance(route, WritingRoute)] == []
    assert [route.path for route in changing if "run_in_threadpool" in inspect.getsource(route.endpoint)] == []


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_pages_answer_while_their_buttons_wait(patient: Engine, tmp_path: Path) -> None:
    with running_flower_app(patient, tmp_path) as flower, ThreadPoolExecutor(WRITING_THREADS) as pool:
        job_id = submit_job(patient, owner_id=flower.owner).job_id
        flower.client.get("/nightshift/devices")
        token = {"X-XSRFToken": flower.client.cookies["_xsrf"]}
        cancel = partial(flower.client.post, f"/nightshift/jobs/{job_id}/cancel", json={}, headers=token, timeout=CAP)
        with held(patient, job_id):
            pressed = [pool.submit(cancel) for _ in range(WRITING_THREADS)]
            eventually("the buttons wait", lambda: write_lock_of(patient).waiting == WRITING_THREADS - 1)
            for path in ("/jobs", "/jobs/data", f"/jobs/{job_id}"):
                assert flower.client.get(f"/nightshift{path}").status_code == 200, path
            assert not any(answer.done() for answer in pressed)
        assert {answer.result().status_code for answer in pressed} == {200, 409}

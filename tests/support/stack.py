"""A running Nightshift: database, Redis, API, worker and beat processes, and queries for tests."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import psutil
from sqlalchemy import Engine, select

from nightshift.states import JobState
from shared import celery_app
from shared.db.engine import make_engine, read, write
from shared.db.schema import artifacts, attempts, checkpoints, devices, job_events, job_logs, jobs, metrics, workers
from shared.fleet import keys
from shared.jobs import transitions
from shared.jobs.states import StopRequest
from shared.jobs.transitions import NewJob
from shared.settings import Settings
from shared.specs.jobs import job_spec_adapter
from tests.support import warm
from tests.support.factories import OWNER, submit_job
from tests.support.prefork import WORKER_CHILDREN
from tests.support.redis import free_port
from tests.support.takeover import pythonpath

#: Timeout of waits for events (seconds), far longer than needed because the machine may be busy.
CAP = 180.0


def eventually(what: str, true: Callable[[], Any], cap: float = CAP) -> Any:
    """Wait for a true value and return it; fail with `what` after `cap` seconds.

    Polls less and less often, because what it polls costs processor time.
    """
    begun = time.monotonic()
    while not (value := true()):
        waited = time.monotonic() - begun
        assert waited < cap, f"{what}: not within {cap:.0f} s"
        time.sleep(min(max(waited / 8, 0.01), 0.2))
    return value


def runs(module: str, process: psutil.Process) -> bool:
    """Return whether this is a living `python -m module`; a process may end meanwhile."""
    with suppress(psutil.NoSuchProcess):
        return module in process.cmdline()
    return False


def gone(process: psutil.Process | int) -> bool:
    """Return whether a process (or pid) is dead or a zombie."""
    with suppress(psutil.NoSuchProcess):
        found = psutil.Process(process) if isinstance(process, int) else process
        return not found.is_running() or found.status() == psutil.STATUS_ZOMBIE
    return True


def _server_for(environment: Mapping[str, str]) -> str:
    """Return the warm server that has imported what a process of this environment preloads."""
    if not _preloads(environment):
        return "stack"
    return "training" if "tensorflow" in environment["NIGHTSHIFT_FRAMEWORKS"] else "stack with torch"


def _preloads(environment: Mapping[str, str]) -> bool:
    return environment["NIGHTSHIFT_PRELOAD"] == "true"


def _is_locked(engine: Engine) -> bool:
    """Return whether a process keeps the write lock of an SQLite database for a second."""
    if engine.dialect.name != "sqlite":
        return False
    with closing(sqlite3.connect(str(engine.url.database), timeout=1, isolation_level=None)) as conn:
        try:
            conn.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
    return False


class Process:
    """A process of the stack in its own session, with its log beside the database."""

    def __init__(self, stack: Stack, name: str, *arguments: str, **settings: object) -> None:
        self.name, self._again = name, (stack, name, arguments, settings)
        env = {**os.environ, **stack.environment(**settings)}
        self.log = stack.folder / f"{name}.log"
        module, *rest = arguments
        # Without preloading, a forkserver of its own costs little and leaves short tracebacks for a job's evidence.
        children = WORKER_CHILDREN if "worker.main" in arguments and _preloads(env) else 0
        self.popen = warm.start(module, rest, env, self.log, of=_server_for(env), children=children)

    @property
    def pid(self) -> int:
        return self.popen.pid

    def alive(self) -> bool:
        return self.popen.poll() is None

    def again(self) -> Process:
        """Start the same process again, as an init system would, without waiting for it."""
        stack, name, arguments, settings = self._again
        return stack.start(name, *arguments, **settings)

    def family(self) -> list[psutil.Process]:
        """Return the process and all its descendants."""
        process = psutil.Process(self.pid)
        return [process, *process.children(recursive=True)]

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait()

    def freeze(self) -> None:
        """Suspend the process where it holds no lock of SQLite, which would keep everybody from writing."""

        def suspended() -> bool:
            self.popen.send_signal(signal.SIGSTOP)
            eventually("it is suspended", lambda: psutil.Process(self.pid).status() == psutil.STATUS_STOPPED)
            if not _is_locked(self._again[0].engine):
                return True
            self.popen.send_signal(signal.SIGCONT)
            return False

        eventually(f"{self.name} is suspended outside a transaction", suspended)

    def terminate(self, cap: float = CAP) -> int:
        self.popen.terminate()
        return self.popen.wait(cap)


class Stack:
    """The processes and the database of a Nightshift."""

    def __init__(self, folder: Path, database_url: str, redis_url: str, **settings: object) -> None:
        self.folder, self.database_url, self.redis_url = folder, database_url, redis_url
        self.settings = settings
        self.engine: Engine = make_engine(database_url)
        self.processes: list[Process] = []

    def environment(self, **settings: object) -> dict[str, str]:
        values = {
            "database_url": self.database_url,
            "redis_url": self.redis_url,
            "data_dir": self.folder / "data",
            "host_name": "test",
            "kinds": "probe",
            "preload": "false",
            "frameworks": "torch",
            "relay_seconds": 0.05,
            "maintenance_seconds": 0.5,
            **self.settings,
            **settings,
        }
        folders = [str(values.pop("packages"))] if "packages" in values else []
        if kinds := str(values.pop("kinds")):
            folders.insert(0, pythonpath(kinds))
        path = {"PYTHONPATH": os.pathsep.join(folders)} if folders else {}
        return path | {f"NIGHTSHIFT_{name.upper()}": str(value) for name, value in values.items()}

    # -- processes --------------------------------------------------------------------------------

    def worker(self, index: int = 0, **settings: object) -> Process:
        name = f"cpu{index}"
        process = self.start(name, "worker.main", "--device", "cpu", "--index", str(index), **settings)
        eventually(
            f"{name} is online (see {process.log})",
            lambda: self.pid_of(f"{name}@test") == process.pid or not process.alive(),
        )
        assert process.alive(), process.log.read_text()[-3000:]
        return process

    def beat(self, **settings: object) -> Process:
        return self.start("beat", "worker.beat", **settings)

    def api(self, **settings: object) -> Process:
        """Start the API, always on the same port, so that a killed one can be restarted."""
        process = self.start("api", "api.server", api_port=self._api_port, **settings)
        eventually(f"the API answers (see {process.log})", lambda: self._answers() or not process.alive())
        assert process.alive(), process.log.read_text()[-3000:]
        return process

    @cached_property
    def _api_port(self) -> int:
        return free_port()

    @property
    def url(self) -> str:
        """Return the URL of the API."""
        return f"http://127.0.0.1:{self._api_port}"

    @cached_property
    def _api_key(self) -> str:
        with write(self.engine) as conn:
            return keys.create(conn, "test", OWNER)[1]

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/healthz", timeout=CAP).status_code == 200
        except httpx.TransportError:
            return False

    def post_job(
        self,
        idempotency_key: str | None = None,
        timeout: float = CAP,
        spec: dict[str, Any] | None = None,
        **tags: object,
    ) -> httpx.Response:
        """Submit a probe job through the API (tags by keyword, `spec`: other fields).

        Raises httpx.TransportError if the API is down.
        """
        body = {"kind": "train", "model": {"family": "cnn", "preset": "mnist-1conv-linear"}, "dataset": "digits"}
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key is not None else {}
        probe = {"probe": "train", **{name: str(value) for name, value in tags.items()}}
        return self.post("/v1/jobs", timeout, json={**body, **(spec or {}), "tags": probe}, headers=headers)

    def post(
        self, path: str, timeout: float = CAP, headers: dict[str, str] | None = None, **more: Any
    ) -> httpx.Response:
        """Send a POST. Raises httpx.TransportError if the API is down."""
        key = {"Authorization": f"Bearer {self._api_key}"}
        return httpx.post(f"{self.url}{path}", headers={**key, **(headers or {})}, timeout=timeout, **more)

    def start(self, name: str, *arguments: str, **settings: object) -> Process:
        process = Process(self, name, *arguments, **settings)
        self.processes.append(process)
        return process

    def pid_of(self, worker: str) -> int | None:
        with read(self.engine) as conn:
            return conn.scalar(select(workers.c.pid).where(workers.c.name == worker, workers.c.state != "offline"))

    def close(self) -> None:
        for process in self.processes:
            if process.alive():
                process.kill()
        self.engine.dispose()

    @property
    def root(self) -> Path:
        return self.folder / "data" / "storage"

    # -- jobs -------------------------------------------------------------------------------------

    def submit(self, probe: str, ring: bool = True, **fields: Any) -> str:
        """Submit a probe job.

        Tags by keyword (`steps=`, `checkpoint=`, `hold_at=`, `wedge=`, `megabytes=`); other fields go into the spec.
        """
        tags = {
            key: str(fields.pop(key))
            for key in ("steps", "checkpoint", "hold_at", "wedge", "megabytes")
            if key in fields
        }
        job_id = submit_job(self.engine, tags={"probe": probe, **tags}, **fields).job_id
        if ring:
            self.ring(job_id)
        return job_id

    def enter(self, job: dict[str, Any], device: str) -> str:
        """Submit any job, and ring for it in a device's queue."""
        with write(self.engine) as conn:
            job_id = transitions.submit(conn, NewJob(OWNER, job_spec_adapter.validate_python(job))).job_id
        self.ring(job_id, device)
        return job_id

    def ring(self, job_id: str, device: str = "auto") -> None:
        app = celery_app.make_celery(Settings(redis_url=self.redis_url))
        app.send_task(celery_app.ATTEMPT_TASK, args=(job_id,), queue=celery_app.ATTEMPT_QUEUES[device])
        app.close()

    def terminate(self, job_id: str) -> None:
        """Let Celery terminate the task of a job's only attempt."""
        [attempt] = self.attempts(job_id)
        app = celery_app.make_celery(Settings(redis_url=self.redis_url))
        app.control.revoke(attempt.celery_task_id, terminate=True)
        app.close()

    def ask(self, job_id: str, request: StopRequest) -> JobState:
        with write(self.engine) as conn:
            return transitions.request_stop(conn, job_id, request, OWNER)

    def resume(self, job_id: str) -> None:
        with write(self.engine) as conn:
            transitions.resume(conn, job_id, OWNER)
        self.ring(job_id)

    def go(self, job_id: str) -> None:
        """Let a waiting probe continue."""
        (self.folder / "data" / "storage" / "jobs" / job_id / "go").touch()

    # -- queries ----------------------------------------------------------------------------------

    def job(self, job_id: str) -> Any:
        with read(self.engine) as conn:
            return conn.execute(select(jobs).where(jobs.c.id == job_id)).one()

    def all_ids(self) -> list[str]:
        with read(self.engine) as conn:
            return list(conn.scalars(select(jobs.c.id)))

    def rows(self, table: Any, job_id: str) -> list[Any]:
        with read(self.engine) as conn:
            return list(conn.execute(select(table).where(table.c.job_id == job_id).order_by(*table.primary_key)))

    def held(self) -> list[str | None]:
        """Return which job has each device."""
        with read(self.engine) as conn:
            return list(conn.scalars(select(devices.c.job_id).order_by(devices.c.id)))

    def attempts(self, job_id: str) -> list[Any]:
        return self.rows(attempts, job_id)

    def outcomes(self, job_id: str) -> list[str | None]:
        return [row.outcome for row in self.attempts(job_id)]

    def logs(self, job_id: str) -> list[tuple[str, str]]:
        return [(row.level, row.message) for row in self.rows(job_logs, job_id)]

    def checkpoints(self, job_id: str) -> list[Any]:
        return self.rows(checkpoints, job_id)

    def artifacts(self, job_id: str) -> list[Any]:
        return self.rows(artifacts, job_id)

    def steps(self, job_id: str) -> list[int]:
        return [row.step for row in self.rows(metrics, job_id) if row.name == "loss"]

    def events(self, job_id: str) -> list[Any]:
        return self.rows(job_events, job_id)

    def finished(self, job_id: str) -> Any:
        return eventually(
            f"job {job_id} is final: {self.job(job_id)}, attempts {self.attempts(job_id)}",
            lambda: job if JobState((job := self.job(job_id)).state).is_final else None,
        )

    def at_step(self, job_id: str, step: int) -> Any:
        """Wait until the job's progress in SQL has reached this step, and return the job."""

        def reached() -> Any:
            job = self.job(job_id)
            return job if (job.progress or {}).get("step", 0) >= step else None

        return eventually(f"job {job_id} is at step {step}", reached)

    def forkservers(self, worker: Process) -> list[psutil.Process]:
        """Return the forkservers of a worker, which may also have a child `git` for a moment."""
        return [child for child in psutil.Process(worker.pid).children() if runs("worker.runners.forkserver", child)]

    def forkserver(self, worker: Process) -> psutil.Process:
        """Wait for a worker's only forkserver and return it."""
        (found,) = eventually("it has a forkserver", lambda: self.forkservers(worker))
        return found

    def runner_pids(self, worker: Process) -> list[int]:
        """Return the pids of a worker's runners, the children of its forkserver."""
        found: list[int] = []
        for forkserver in self.forkservers(worker):
            with suppress(psutil.NoSuchProcess):
                found += [runner.pid for runner in forkserver.children()]
        return found


@contextmanager
def open_stack(folder: Path, database_url: str, redis_url: str, **settings: object) -> Iterator[Stack]:
    stack = Stack(folder, database_url, redis_url, **settings)
    try:
        yield stack
    finally:
        stack.close()

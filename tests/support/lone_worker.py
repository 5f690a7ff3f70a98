"""A worker without Celery: a process with the real supervisor, forkserver and runners that claims jobs on request.

It is forked from a warm process, so that a test can kill it at each failpoint and start the next one quickly.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import Engine, select

from nightshift.states import JobState
from shared import failpoints
from shared.db.engine import make_engine, read, write
from shared.db.schema import attempts, checkpoints, jobs
from shared.fleet import ledger
from shared.fleet.workers import WorkerInfo
from shared.job_files.layout import job_dir
from shared.settings import Settings
from shared.specs.families import FAMILIES
from tests.support import warm
from tests.support.factories import expire_lease, make_due, submit_job
from tests.support.forked_server import forked
from tests.support.stack import CAP, eventually
from tests.support.takeover import pythonpath
from worker.hardware import plugins
from worker.hardware.devices import cpu
from worker.maintenance import rescuer
from worker.runners.forkserver_client import ForkserverClient, sanitized_environment
from worker.runners.forkservers import Forkservers
from worker.runners.runner_pool import RunnerPool, RunnerSettings
from worker.supervisor.context import WorkerContext
from worker.supervisor.supervisor import Supervisor

#: Imported by the forkserver before it forks a probe's runner.
_RUNNER_MODULES = ("worker.runners.runner", "tests.support.probe")


class LoneWorker:
    """Claims and runs one job each time `start` or `run` is called."""

    def __init__(
        self,
        name: str,
        database_url: str,
        data_dir: Path,
        packages: Path | None = None,
        framework: str = "torch",
        **settings: Any,
    ) -> None:
        """Start the worker. `packages`: a folder of installed packages beside those of the tests."""
        self.name = name
        self._pipe, theirs = multiprocessing.Pipe()
        values = {"data_dir": str(data_dir), "relay_seconds": 0.02, "heartbeat_seconds": 0.2, **settings}
        # The environment is passed, because the warm process has that of its own start.
        self._process = warm.Process(
            "lone worker",
            target=_main,
            args=(theirs, name, database_url, values, dict(os.environ), packages, framework),
        )
        self._process.start()
        theirs.close()
        self.busy = False

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def alive(self) -> bool:
        return self._process.is_alive()

    def arm(self, failpoint: str) -> None:
        self._pipe.send(("arm", failpoint))

    def start(self) -> None:
        """Start to claim and run a job; `done` tells when it is finished."""
        self._pipe.send(("run", None))
        self.busy = True

    def done(self) -> bool:
        """Return whether the worker is finished or dead."""
        try:
            if self.busy and self._pipe.poll():
                self._pipe.recv()
                self.busy = False
        except (EOFError, OSError):
            self._process.join(CAP)
            self.busy = False
        return not self.busy or not self.alive()

    def run(self) -> None:
        """Claim and run a job, and wait until that is done."""
        self.start()
        self.wait()

    def wait(self) -> None:
        eventually(f"{self.name} is done", self.done)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.join(CAP)

    def close(self) -> None:
        self.kill()
        self._pipe.close()


def _main(
    pipe: Connection,
    name: str,
    database_url: str,
    values: dict[str, Any],
    environment: dict[str, str],
    packages: Path | None,
    framework: str,
) -> None:
    os.environ.clear()
    os.environ |= environment
    settings = Settings(**values)
    path = pythonpath("probe")
    if packages is not None:
        sys.path.insert(0, str(packages))
        path = os.pathsep.join([path, str(packages)])
    FAMILIES.forget()  # the warm process may have looked them up
    forkserver = ForkserverClient(framework, _RUNNER_MODULES, sanitized_environment(os.environ, {"PYTHONPATH": path}))
    with forked():
        forkserver.start()
    engine = make_engine(database_url)
    limits = RunnerSettings("cpu", 1, settings.runner_memory_limit_bytes)
    runners = RunnerPool(Forkservers({framework: forkserver}), limits, keep_spare=False)
    found = plugins.usable(settings, runners.frameworks)
    supervisor = Supervisor(WorkerContext(name, cpu(), engine, settings, runners, found))
    try:
        _serve(pipe, supervisor)
    except (EOFError, OSError):
        pass
    finally:
        forkserver.close()
        os._exit(0)


def _serve(pipe: Connection, supervisor: Supervisor) -> None:
    while True:
        order, text = pipe.recv()
        if order == "arm":
            failpoints.arm(text)
        else:
            supervisor.run_one(None)
            pipe.send("done")


class Cluster:
    """A database, a storage root, a worker to be killed and a recovery worker that finishes its jobs."""

    def __init__(self, folder: Path, database_url: str, **settings: Any) -> None:
        self.data_dir, self.database_url, self._settings = folder / "data", database_url, settings
        self.settings = Settings(data_dir=self.data_dir)
        self.engine: Engine = make_engine(database_url)
        self.accepted: list[str] = []
        self.recovery_worker = self._worker("recovery_worker")
        self._target_worker: LoneWorker | None = None

    @property
    def root(self) -> Path:
        return self.settings.storage_root

    @property
    def target_worker(self) -> LoneWorker:
        """The worker to be killed; a new one if it is dead."""
        if self._target_worker is None or not self._target_worker.alive():
            if self._target_worker is not None:
                self._target_worker.close()
            self._target_worker = self._worker("target_worker")
        return self._target_worker

    def _worker(self, name: str) -> LoneWorker:
        with write(self.engine) as conn:
            ledger.register(conn, WorkerInfo(name, "test", os.getpid(), "cpu", "cpu"))
        return LoneWorker(name, self.database_url, self.data_dir, **self._settings)

    def submit(self, probe: str = "train", **fields: Any) -> str:
        """Submit a probe job: tags by keyword (`steps=`, `checkpoint=`, `failpoint=`), other fields for the spec."""
        names = ("steps", "checkpoint", "hold_at", "pace", "unloadable", "failpoint")
        tags = {key: str(fields.pop(key)) for key in names if key in fields}
        job_id = submit_job(self.engine, tags={"probe": probe, **tags}, **fields).job_id
        self.accepted.append(job_id)
        return job_id

    def run_in_two_parts(self, worker: LoneWorker, job_id: str) -> None:
        """Run a job with `hold_at`, which goes on once a checkpoint is committed.

        So its effects take two transactions or more, however slow the machine is.
        """
        worker.start()
        eventually("a checkpoint is committed", lambda: worker.done() or self._has_checkpoint(job_id))
        go = job_dir(self.root, job_id) / "go"
        go.parent.mkdir(parents=True, exist_ok=True)
        go.touch()
        worker.wait()

    def _has_checkpoint(self, job_id: str) -> bool:
        with read(self.engine) as conn:
            return conn.execute(select(checkpoints.c.id).where(checkpoints.c.job_id == job_id)).first() is not None

    def job(self, job_id: str) -> Any:
        with read(self.engine) as conn:
            return conn.execute(select(jobs).where(jobs.c.id == job_id)).one()

    def outcomes(self, job_id: str) -> list[str | None]:
        with read(self.engine) as conn:
            mine = select(attempts.c.outcome).where(attempts.c.job_id == job_id).order_by(attempts.c.fence)
            return list(conn.scalars(mine))

    def frozen(self, worker: LoneWorker) -> None:
        """Wait until the worker is suspended."""
        eventually(f"{worker.name} is frozen", lambda: psutil.Process(worker.pid).status() == psutil.STATUS_STOPPED)

    def rescue(self, job_id: str) -> None:
        """Expire the lease and run the rescuer."""
        expire_lease(self.engine, job_id)
        rescuer.run_once(self.engine, self.settings)

    def finish(self, job_id: str) -> Any:
        """Let the recovery worker run the job until it is final; its present worker counts as dead."""

        def final() -> Any:
            job = self.job(job_id)
            if JobState(job.state).is_final:
                return job
            if job.state == "running":
                self.rescue(job_id)
            make_due(self.engine, job_id)
            self.recovery_worker.run()
            return None

        return eventually(f"{job_id} is final", final)

    def close(self) -> None:
        for worker in (self._target_worker, self.recovery_worker):
            if worker is not None:
                worker.close()
        self.engine.dispose()


@contextmanager
def open_cluster(folder: Path, database_url: str, **settings: Any) -> Iterator[Cluster]:
    cluster = Cluster(folder, database_url, **settings)
    try:
        yield cluster
    finally:
        cluster.close()

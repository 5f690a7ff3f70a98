"""Jobs of programs that are stopped, limited or misbehave, on a real worker: what the job says, and who survives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from shared.db.engine import write
from shared.jobs import transitions
from shared.jobs.states import StopRequest
from tests.support.factories import OWNER, make_due
from tests.support.lone_worker import Cluster, LoneWorker
from tests.support.plugins import TRAINING, write_package
from tests.support.program_jobs import WAITING, asked_while_it_runs, log_of, rows, submit
from tests.support.stack import eventually

SAVES = """
def train(run):
    until_asked(run)
    run.save(1, facts={})
    run.register(run.scratch, {'test_loss': 1.0})
"""


@contextmanager
def worker_for(
    cluster: Cluster, packages: Path, training: str, more: str = "", **settings: Any
) -> Iterator[LoneWorker]:
    """A worker that has a program of this code; `more` goes into the arguments of its Program."""
    write_package(packages, training=WAITING + training, more=more)
    settings = {"packages": packages, "programs": "walk", **settings}
    worker = LoneWorker("worker", cluster.database_url, cluster.data_dir, **settings)
    try:
        yield worker
    finally:
        worker.close()


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    return write_package(tmp_path / "packages")


@pytest.fixture
def cluster(tmp_path: Path, sqlite_url: str, packages: Path) -> Iterator[Cluster]:
    found = Cluster(tmp_path, sqlite_url, packages=packages, programs="walk")
    yield found
    found.close()


def again(cluster: Cluster, packages: Path, job_id: str) -> Any:
    """Let the random walk go on with the job, and return the job."""
    make_due(cluster.engine, job_id)
    with worker_for(cluster, packages, TRAINING, ", loads=(1,)") as worker:  # other code than it began with
        worker.run()
    return cluster.job(job_id)


# -- stops --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "state", "outcome"),
    [
        (StopRequest.PAUSE, "paused", "paused"),
        (StopRequest.CANCEL, "cancelled", "cancelled"),
        (StopRequest.FINISH, "succeeded", "succeeded"),
        (StopRequest.PREEMPT, "queued", "preempted"),
    ],
)
def test_a_program_that_is_asked_to_stop_does(
    cluster: Cluster, packages: Path, tmp_path: Path, request_: StopRequest, state: str, outcome: str
) -> None:
    with worker_for(cluster, packages, SAVES) as worker:
        job_id = asked_while_it_runs(cluster, worker, tmp_path, request_, register_as="walks")
    job = cluster.job(job_id)
    assert (job.state, cluster.outcomes(job_id)) == (state, [outcome]), job.error
    assert bool(job.result) == (state == "succeeded")


def test_a_paused_program_goes_on_where_it_saved(cluster: Cluster, packages: Path, tmp_path: Path) -> None:
    marker = tmp_path / "ready"
    half = TRAINING.replace(
        "        if run.should_stop() or",
        "        if step == 6:\n            until_asked(run)\n        if run.should_stop() or",
    )
    with worker_for(cluster, packages, half.replace("import os\n", "", 1)) as worker:
        job_id = asked_while_it_runs(cluster, worker, tmp_path, StopRequest.PAUSE)
    assert cluster.job(job_id).state == "paused"
    assert marker.exists()
    with write(cluster.engine) as conn:
        transitions.resume(conn, job_id, OWNER)
    assert again(cluster, packages, job_id).state == "succeeded"
    assert "program walk of nightshift-walk 1.0, from the checkpoint of step 6" in log_of(cluster, job_id)
    assert [row.step for row in rows(cluster, job_id)] == list(range(1, 21))


def test_one_that_ignores_a_request_is_killed(cluster: Cluster, packages: Path, tmp_path: Path) -> None:
    training = "def train(run):\n    ready(run)\n    while True:\n        time.sleep(0.01)\n"
    with worker_for(cluster, packages, training, stop_grace_seconds=0.2) as worker:
        job_id = asked_while_it_runs(cluster, worker, tmp_path, StopRequest.CANCEL)
        assert worker.alive()
    assert (cluster.job(job_id).state, cluster.outcomes(job_id)) == ("cancelled", ["cancelled"])


# -- limits -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "settings", "training", "outcome", "kind"),
    [
        ({"timeout_seconds": 0.5}, {"stop_grace_seconds": 0.2}, "time.sleep(3600)", "timed_out", "timeout"),
        ({}, {"stall_seconds": 0.5}, "time.sleep(3600)", "stalled", "stalled"),
        ({}, {"runner_memory_limit_bytes": 4 << 30}, "x = bytes(64 << 30)", "out_of_memory", "out_of_memory"),
        ({}, {}, "os.kill(os.getpid(), signal.SIGSEGV)", "crashed", "crashed"),
        ({}, {}, "os._exit(0)", "crashed", "crashed"),
        ({}, {}, "sys.exit(0)", "job_error", "unexpected_error"),
        ({}, {}, "raise RuntimeError('no luck')", "job_error", "unexpected_error"),
        ({}, {}, "run.log({'loss': float('nan')}, 1)", "job_error", "unexpected_error"),
        ({}, {}, "run.log({'x' * 10_000_000: 1.0}, 1)", "job_error", "unexpected_error"),
        ({}, {}, "run.save(1, files={'../../evil': b''})", "job_error", "unexpected_error"),
    ],
)
def test_a_job_ends_with_an_error_and_its_worker_goes_on(
    cluster: Cluster,
    packages: Path,
    fields: dict[str, Any],
    settings: dict[str, Any],
    training: str,
    outcome: str,
    kind: str,
) -> None:
    code = f"def train(run):\n    run.progress(1)\n    {training}\n    time.sleep(3600)\n"
    with worker_for(cluster, packages, code, poison_limit=1, **settings) as worker:
        job_id = submit(cluster, max_retries=0, **fields)
        worker.run()
        job = cluster.job(job_id)
        assert (job.state, cluster.outcomes(job_id)) == ("failed", [outcome]), job.error
        assert (job.error["type"], len(job.error["message"]) < 5_000) == (kind, True)
        assert worker.alive()
        if not settings:
            other = cluster.submit(steps=1)
            worker.run()
            assert cluster.job(other).state == "succeeded"


def test_a_program_that_crashes_each_time_fails_its_job(cluster: Cluster, packages: Path) -> None:
    code = "def train(run):\n    run.progress(1)\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    with worker_for(cluster, packages, code) as worker:
        job_id = submit(cluster, max_retries=50)
        for _ in range(3):
            make_due(cluster.engine, job_id)
            worker.run()
    assert (cluster.job(job_id).state, cluster.outcomes(job_id)) == ("failed", ["crashed"] * 3)


# -- what it leaves -------------------------------------------------------------------------------------

CHILDREN = """
def train(run):
    code = "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(3600)"
    child = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    forked = os.fork()
    if not forked:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(3600)
    threading.Thread(target=time.sleep, args=(3600,)).start()
    Path(run.params.marker).write_text(f"{child.pid} {forked}")
    run.log({"loss": 1.0}, 1)
"""


def test_children_and_threads_end_with_the_job(cluster: Cluster, packages: Path, tmp_path: Path) -> None:
    marker = tmp_path / "pids"
    with worker_for(cluster, packages, CHILDREN) as worker:
        job_id = submit(cluster, params={"marker": str(marker)})
        worker.run()
        assert cluster.job(job_id).state == "succeeded", cluster.job(job_id).error
        pids = [int(pid) for pid in marker.read_text().split()]
        eventually("the children are gone", lambda: not any(_lives(pid) for pid in pids))


def _lives(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_a_flood_of_output_is_limited_and_harms_nothing(cluster: Cluster, packages: Path) -> None:
    code = (
        "def train(run):\n    for step in range(1, 21):\n        sys.stdout.write(('x' * 99 + '\\n') * 10_000)\n"
        "        run.log({'loss': 1.0 / step}, step)\n        run.progress(step, 20)\n    run.note('n' * 8_000_000)\n"
    )
    with worker_for(cluster, packages, code) as worker:
        job_id = submit(cluster)
        worker.run()
    job = cluster.job(job_id)
    assert job.state == "succeeded", job.error
    log = log_of(cluster, job_id)
    assert any("were dropped" in line for line in log)
    assert sum(map(len, log)) < 2_000_000
    assert len(rows(cluster, job_id)) == 20


def test_a_child_that_sends_frames_of_its_own_ends_the_attempt_and_not_the_worker(
    cluster: Cluster, packages: Path
) -> None:
    """The socket of a runner can be written by its program; what is no frame is refused."""
    code = (
        "import socket\n\ndef train(run):\n    for number in range(3, 64):\n        try:\n"
        '            socket.socket(fileno=os.dup(number)).send(b\'{"type": "metrics", "points": [{}]}\\n\')\n'
        "        except OSError:\n            pass\n    time.sleep(3600)\n"
    )
    with worker_for(cluster, packages, code, poison_limit=1) as worker:
        job_id = submit(cluster, max_retries=0)
        worker.run()
        assert worker.alive()
    assert cluster.job(job_id).error["type"] == "protocol_error"

"""Runners start clean, end with their parents, and leave no process behind."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.stack import gone
from worker.runners import forkserver_client
from worker.runners.forkserver_client import Exit, ForkserverClient, RunnerHandle, sanitized_environment
from worker.runners.messages import Assignment, encode

CAP = 120.0


def eventually(true: Callable[[], bool]) -> bool:
    give_up = time.monotonic() + CAP
    while not true():
        if time.monotonic() > give_up:
            return False
        time.sleep(0.01)
    return True


class Runner:
    """A forked runner of the test kind whose body is Python source."""

    def __init__(self, client: ForkserverClient, folder: Path, source: str, memory: int | None = None) -> None:
        self.ours, theirs = socket.socketpair()
        self.out_read, out = os.pipe()
        self.err_read, err = os.pipe()
        self.ended = threading.Event()
        self.handle: RunnerHandle = client.fork(theirs, out, err, self.ended.set, {"memory_limit_bytes": memory})
        theirs.close()
        os.close(out)
        os.close(err)
        spec = {"kind": "train", "source": source}
        self.ours.sendall(
            encode(Assignment(job_id="a" * 16, fence=1, spec=spec, job_dir=str(folder), work_dir=str(folder / "work")))
        )

    def end(self) -> Exit:
        assert self.ended.wait(CAP), "the runner did not end"
        assert self.handle.exit is not None
        return self.handle.exit

    def line(self) -> bytes:
        return self.ours.makefile("rb").readline()

    def close(self) -> None:
        self.ours.close()
        os.close(self.out_read)
        os.close(self.err_read)


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of a worker that has secrets, and a kind of job whose spec is its source."""
    folder = tmp_path_factory.mktemp("kinds")
    (folder / "source_kind.py").write_text(
        "from worker.runners.messages import Result\n"
        "def run(assignment, reporter):\n"
        "    scope = {'reporter': reporter}\n"
        "    exec(assignment.spec['source'], scope)\n"
        "    return Result(metrics=scope.get('metrics', {}))\n"
    )
    (folder / "sitecustomize.py").write_text("from tests.support.takeover import take_over\ntake_over('source_kind')")
    return {**os.environ, "NIGHTSHIFT_REDIS_URL": "redis://:secret@h", "PYTHONPATH": str(folder)}


@pytest.fixture(scope="module")
def client(environ: dict[str, str]) -> Iterator[ForkserverClient]:
    client = ForkserverClient(
        "test", ["worker.runners.runner"], sanitized_environment(environ, {"OMP_NUM_THREADS": "1"})
    )
    client.start()
    assert client.wait_ready(CAP)
    yield client
    client.close()


@pytest.fixture
def run(client: ForkserverClient, tmp_path: Path) -> Iterator[Callable[..., Runner]]:
    runners: list[Runner] = []

    def start(source: str, memory: int | None = None) -> Runner:
        runners.append(Runner(client, tmp_path, source, memory))
        return runners[-1]

    yield start
    for runner in runners:
        runner.handle.signal(signal.SIGKILL)
        runner.ended.wait(CAP)
        runner.close()


def test_a_runner_says_its_result_and_exits_with_zero(run: Callable[..., Runner]) -> None:
    runner = run("metrics = {'answer': 42}")
    assert b'"answer":42' in runner.line()
    end = runner.end()
    assert (end.code, end.signal) == (0, None)
    assert end.peak_memory_bytes is not None
    assert end.peak_memory_bytes > 1_000_000


@pytest.mark.parametrize(
    ("source", "code", "number"),
    [
        ("import os; os._exit(7)", 7, None),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", None, signal.SIGSEGV),
        ("import os; os.abort()", None, signal.SIGABRT),
    ],
)
def test_every_way_to_die_is_told(
    run: Callable[..., Runner], source: str, code: int | None, number: int | None
) -> None:
    end = run(source).end()
    assert (end.code, end.signal, end.lost) == (code, number, False)


def test_a_memory_limit_is_a_memory_error_of_the_runner_alone(run: Callable[..., Runner]) -> None:
    runner = run("x = bytearray(3 << 30)", memory=2 << 30)
    assert b"out_of_memory" in runner.line()
    assert runner.end().code == 0


def test_no_secret_reaches_a_runner(run: Callable[..., Runner]) -> None:
    runner = run(
        "import os, json; env = open('/proc/self/environ').read() + json.dumps(dict(os.environ))\nreporter.log(env)"
    )
    said = runner.line()
    assert b"OMP_NUM_THREADS" in said
    assert b"secret" not in said
    assert b"REDIS_URL" not in said


def test_variables_of_device_libraries_reach_a_runner() -> None:
    variables = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", "CUBLASLT_LOG_LEVEL": "1", "CUDNN_LOGLEVEL_DBG": "1"}
    passed = sanitized_environment({**variables, "CUB_SECRET": "x"}, {})
    assert variables.items() <= passed.items()
    assert "CUB_SECRET" not in passed


def test_descriptors_of_the_forkserver_are_closed_in_a_runner(run: Callable[..., Runner]) -> None:
    runner = run(
        "import os; reporter.log(' '.join(os.readlink(f'/proc/self/fd/{n}') for n in range(3, 50) if "
        "os.path.lexists(f'/proc/self/fd/{n}')))"
    )
    assert runner.line().count(b"socket:") == 1


def test_a_runner_leads_its_own_session(run: Callable[..., Runner]) -> None:
    runner = run("import os; reporter.log(f'{os.getsid(0) == os.getpgid(0) == os.getpid()}')")
    assert b'"True"' in runner.line()


GRANDCHILDREN = """
import os, time
if os.fork() == 0:
    time.sleep(600)
if os.fork() == 0:
    os.setsid()          # left the group
    if os.fork() == 0:
        time.sleep(600)  # and was orphaned
    time.sleep(600)
reporter.log('born')
"""


@pytest.mark.parametrize("ending", ["", "time.sleep(600)"], ids=["ends", "killed"])
def test_grandchildren_go_with_the_runner(run: Callable[..., Runner], ending: str) -> None:
    runner = run(GRANDCHILDREN + ending)
    runner.line()
    assert runner.handle.pid is not None
    if ending:
        process = psutil.Process(runner.handle.pid)
        assert eventually(lambda: len(process.children(recursive=True)) == 3)
        runner.handle.signal(signal.SIGKILL)
    runner.end()
    server = psutil.Process(runner.handle.client.pid)
    assert eventually(lambda: all(map(gone, server.children(recursive=True)))), "a process survived the attempt"


HELPER = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open('helper', 'w').write(str(os.getpid()))
        time.sleep(600)
    os._exit(0)
os.wait()
while not os.path.exists('helper') or not open('helper').read():
    time.sleep(0.01)
reporter.log('helper ' + open('helper').read() + ' ')
time.sleep(600)
"""


def test_grandchildren_go_with_their_own_runner_only(run: Callable[..., Runner]) -> None:
    living = run(HELPER)
    helper = int(living.line().partition(b"helper ")[2].split()[0])
    dying = run(GRANDCHILDREN + "time.sleep(600)")
    dying.line()
    process = psutil.Process(dying.handle.pid)
    assert eventually(lambda: len(process.children(recursive=True)) == 3)
    family = process.children(recursive=True)
    dying.handle.signal(signal.SIGKILL)
    dying.end()
    assert all(map(gone, family)), "they end before the exit is reported, although another runner lives"
    assert not gone(helper)
    living.handle.signal(signal.SIGKILL)
    living.end()
    assert gone(helper)


def test_a_runner_ends_when_its_supervisor_closes_the_pipe(run: Callable[..., Runner]) -> None:
    runner = run("import time; reporter.log('up'); time.sleep(600)")
    runner.line()
    runner.ours.shutdown(socket.SHUT_RDWR)
    assert runner.end().code == 86


def test_freeze_and_thaw(run: Callable[..., Runner]) -> None:
    runner = run("import time; reporter.log('up'); time.sleep(600)")
    runner.line()
    process = psutil.Process(runner.handle.pid)
    runner.handle.signal(signal.SIGSTOP)
    assert eventually(lambda: process.status() == psutil.STATUS_STOPPED)
    runner.handle.signal(signal.SIGCONT)
    assert eventually(lambda: process.status() != psutil.STATUS_STOPPED)


def test_a_dead_forkserver_takes_its_runners_along_and_is_replaced(
    client: ForkserverClient, run: Callable[..., Runner]
) -> None:
    runner = run("import time; reporter.log('up'); time.sleep(600)")
    runner.line()
    old, pid = client.pid, runner.handle.pid
    assert old is not None
    os.kill(old, signal.SIGKILL)
    end = runner.end()
    assert end.lost
    assert eventually(lambda: gone(pid))
    assert eventually(lambda: client.pid != old and client.wait_ready(CAP))
    assert run("metrics = {}").end().code == 0


WORKER = """
import os, sys, time
from worker.runners.forkserver_client import ForkserverClient, sanitized_environment
client = ForkserverClient("test", ["worker.runners.runner"], sanitized_environment(os.environ, {}))
client.start(); client.wait_ready(120)
print(client.pid, flush=True)
time.sleep(600)
"""


def test_a_forkserver_ends_with_its_worker() -> None:
    import subprocess

    worker = subprocess.Popen([sys.executable, "-c", WORKER], stdout=subprocess.PIPE)
    assert worker.stdout is not None
    pid = int(worker.stdout.readline())
    worker.kill()
    worker.wait()
    worker.stdout.close()
    assert eventually(lambda: gone(pid))


def test_a_forkserver_with_threads_refuses_to_fork(tmp_path: Path) -> None:
    (tmp_path / "threaded.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"
    )
    env = sanitized_environment({**os.environ, "PYTHONPATH": str(tmp_path)}, {})
    client = ForkserverClient("threaded", ["threaded"], env)
    client.start()
    try:
        with pytest.raises(forkserver_client.ForkserverUnavailable, match="2 threads"):
            Runner(client, tmp_path, "")
    finally:
        client.close()


def test_only_what_is_listed_passes_the_scrubbing() -> None:
    env = sanitized_environment(
        {"PATH": "/bin", "LC_ALL": "C", "AWS_SECRET_ACCESS_KEY": "s", "NIGHTSHIFT_API_KEY": "s", "HF_TOKEN": "s"},
        {"A": "b"},
    )
    assert set(env) == {"PATH", "LC_ALL", "PYTHONPATH", "A"}


#: How many threads asking starts.
THREADS_AFTER_ASKING = """
import os
from worker.hardware.gpu_memory import peak_bytes
before = len(os.listdir("/proc/self/task"))
assert peak_bytes() is None
reporter.log(f"threads {len(os.listdir('/proc/self/task')) - before}")
"""


@pytest.mark.parametrize("framework", ["torch", "tensorflow"])
@pytest.mark.slow
def test_importing_a_framework_starts_no_thread_nor_does_asking_for_its_memory(
    framework: str, environ: dict[str, str], tmp_path: Path
) -> None:
    """A runner's number of threads is its job's, so its framework must not begin before the job says so."""
    pytest.importorskip(framework)
    from worker.hardware.frameworks import forkserver_environment, preloads

    client = ForkserverClient(framework, preloads(framework), sanitized_environment(environ, forkserver_environment(2)))
    client.start()
    try:
        assert client.wait_ready(forkserver_client.START_SECONDS)
        assert psutil.Process(client.pid).num_threads() == 1
        runner = Runner(client, tmp_path, THREADS_AFTER_ASKING)
        assert b'"threads 0"' in runner.line()
        runner.end()
        runner.close()
    finally:
        with contextlib.suppress(Exception):
            client.close()


@pytest.mark.parametrize(
    ("environ", "added"),
    [
        ({}, {}),
        ({"ONEDNN_MAX_CPU_ISA": "AVX2"}, {"TF_ENABLE_ONEDNN_OPTS": "0"}),
        ({"ONEDNN_MAX_CPU_ISA": "AVX2", "TF_ENABLE_ONEDNN_OPTS": "1"}, {}),
    ],
)
def test_tensorflow_does_without_a_onednn_that_was_limited(environ: dict[str, str], added: dict[str, str]) -> None:
    from worker.hardware.frameworks import onednn_environment

    assert onednn_environment(environ) == added

"""The launcher's pieces, each with real processes, ports and files but without the stack."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from api.launcher import data_dir_lock, redis_server
from api.launcher.device_plan import PlannedWorker, plan_workers
from api.launcher.ports import choose_port
from api.launcher.process import ManagedProcess, ending
from api.launcher.stack import Options, Stack
from nightshift.errors import ConfigurationError
from shared.fleet import cores
from shared.fleet.nvml import Gpu, Inventory
from tests.support.gpus import Host, card
from tests.support.redis import free_port
from tests.support.up import eventually


def part(tmp_path: Path, code: str) -> ManagedProcess:
    return ManagedProcess("probe", [sys.executable, "-c", code], os.environ, tmp_path / "probe.log", lambda: True)


# -- parts ----------------------------------------------------------------------------------------


def test_a_part_that_dies_is_reported_once_and_started_again(tmp_path: Path) -> None:
    probe = part(tmp_path, "print('hello'); raise SystemExit(3)")
    probe.start()
    eventually(lambda: not probe.alive)
    first = probe.pid
    assert probe.notice_death() == "exit code 3"
    assert probe.notice_death() is None
    eventually(probe.restart_if_due)
    assert probe.pid != first
    eventually(lambda: not probe.alive)
    assert probe.notice_death() == "exit code 3"
    assert probe.deaths == 2
    assert probe.log_tail() == "hello"


def test_endings_are_named() -> None:
    assert [ending(code) for code in (0, 7, -9, -64)] == ["exit code 0", "exit code 7", "SIGKILL", "SIGRTMAX"]


def test_a_part_is_killed_with_all_it_started(tmp_path: Path) -> None:
    code = "import subprocess, sys; print(subprocess.Popen(['sleep', '1000']).pid, flush=True); input()"
    probe = part(tmp_path, code.replace("input()", "import time; time.sleep(1000)"))
    probe.start()
    eventually(lambda: probe.log.exists() and probe.log.read_text().endswith("\n"))
    grandchild = int(probe.log.read_text())
    probe.kill_group()
    eventually(lambda: gone(grandchild))


def test_parts_die_with_a_launcher_that_is_killed(tmp_path: Path) -> None:
    code = f"""
import os, sys, time
from pathlib import Path
from api.launcher.process import ManagedProcess
p = ManagedProcess("probe", ["sleep", "1000"], os.environ, Path({str(tmp_path)!r}) / "probe.log", lambda: True)
p.start()
print(p.pid, flush=True)
time.sleep(1000)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout is not None
        child = int(launcher.stdout.readline())
        assert not gone(child)
        launcher.send_signal(signal.SIGKILL)
    eventually(lambda: gone(child))


def gone(pid: int) -> bool:
    """Return whether the process is dead or a zombie that its parent has not collected yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_large_log_is_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.launcher.process.MAX_LOG_BYTES", 10)
    probe = part(tmp_path, "print('new')")
    probe.log.write_text("old and long enough\n")
    probe.start()
    eventually(lambda: not probe.alive)
    assert probe.log.read_text() == "new\n"
    assert (tmp_path / "probe.log.1").read_text() == "old and long enough\n"


# -- ports ----------------------------------------------------------------------------------------


def test_a_taken_port_is_refused_with_the_way_out() -> None:
    with socket.socket() as taken:
        port = free_port()
        taken.bind(("127.0.0.1", port))
        taken.listen()
        with pytest.raises(ConfigurationError, match=rf"port {port} .*--flower-port 0 picks a free one"):
            choose_port(port, "--flower-port")
    assert choose_port(port, "--flower-port") == port
    assert choose_port(0, "--port") > 0


# -- the data folder ------------------------------------------------------------------------------


def test_a_data_folder_is_held_by_one_launcher(tmp_path: Path) -> None:
    with data_dir_lock.held(tmp_path / "data"):
        again = subprocess.run(
            [sys.executable, "-m", "api.launcher", "--data-dir", str(tmp_path / "data")],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert again.returncode == 1
        assert f"in use by another `nightshift up` (process {os.getpid()})" in again.stderr
        assert "Traceback" not in again.stderr
    with data_dir_lock.held(tmp_path / "data"):
        pass


def test_a_data_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="data folder"), data_dir_lock.held(tmp_path / "file" / "data"):
        pass


def test_the_password_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    redis_server.prepare(tmp_path / "redis", 6379)
    assert stat.S_IMODE((tmp_path / "redis" / "redis.conf").stat().st_mode) == 0o600


# -- the embedded Redis ---------------------------------------------------------------------------


def test_the_embedded_server_wants_its_password_and_never_evicts(tmp_path: Path) -> None:
    import redis

    port = choose_port(0, "")
    argv, password = redis_server.prepare(tmp_path / "a folder" / "redis", port)
    url = redis_server.url(port, password)
    server = ManagedProcess("redis", argv, os.environ, tmp_path / "redis.log", lambda: redis_server.answers(url))
    server.start()
    try:
        eventually(server.ready)
        assert not redis_server.answers(redis_server.url(port, "wrong"))
        client = redis.Redis.from_url(url)
        settings = {name: client.config_get(name)[name] for name in ("appendonly", "appendfsync", "maxmemory-policy")}
        assert settings == {"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction"}
        with pytest.raises(redis.AuthenticationError):
            redis.Redis(port=port).ping()
    finally:
        server.kill_group()
    assert not server.ready()


# -- devices --------------------------------------------------------------------------------------


CPU_BESIDE = PlannedWorker("cpu", 0, required_only=True)


def gpus(*indices: int) -> Inventory:
    return Inventory(tuple(Gpu(index, index, "NVIDIA Test", f"GPU-{index}", None) for index in indices))


def gpu(index: int, threads: int | None = None) -> PlannedWorker:
    return PlannedWorker("gpu", index, f"GPU-{index}", threads)


@pytest.mark.parametrize(
    ("device", "workers", "found", "planned"),
    [
        ("auto", None, gpus(), [PlannedWorker("cpu", 0)]),
        ("auto", 2, gpus(), [PlannedWorker("cpu", 0), PlannedWorker("cpu", 1)]),
        ("auto", None, gpus(0, 1), [gpu(0, 6), gpu(1, 6), CPU_BESIDE]),
        ("auto", None, gpus(2), [gpu(2), CPU_BESIDE]),
        ("auto", 1, gpus(0, 1), [gpu(0)]),
        ("gpu", None, gpus(1, 3), [gpu(1, 6), gpu(3, 6)]),
        ("cpu", None, gpus(0, 1), [PlannedWorker("cpu", 0)]),
    ],
)
def test_one_worker_per_gpu_and_one_for_jobs_that_require_the_cpu(
    device: str, workers: int | None, found: Inventory, planned: list[PlannedWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cores, "available_cores", lambda: 12)
    assert plan_workers(device, workers, lambda: found) == planned


def test_a_planned_worker_is_told_its_gpu_by_uuid_and_its_share_of_the_cores() -> None:
    assert gpu(3, 4).environment == {"CUDA_VISIBLE_DEVICES": "GPU-3", "NIGHTSHIFT_TORCH_THREADS": "4"}
    assert gpu(3).arguments == ["--device", "gpu", "--index", "3"]
    assert CPU_BESIDE.environment == {}
    assert CPU_BESIDE.arguments == ["--device", "cpu", "--index", "0", "--required-only"]


def test_more_gpus_than_there_are_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="2 GPU"):
        plan_workers("auto", 3, lambda: gpus(0, 2))


def launched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str], device: str = "auto") -> Stack:
    for variable in [name for name in os.environ if name.startswith("NIGHTSHIFT_")]:
        monkeypatch.delenv(variable)
    return Stack(Options(tmp_path / "data", 0, 0, None, device), said.append)


def test_a_stack_has_a_worker_per_card_that_works_and_says_which_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host(tmp_path, *map(card, ("GPU-a", "GPU-b", "GPU-c")))
    host.lose(1)
    host.enter(monkeypatch)
    monkeypatch.setattr(cores, "available_cores", lambda: 12)
    said: list[str] = []
    stack = launched(tmp_path, monkeypatch, said)
    started = [(part.name, list(part.argv[4:]), part.env.get("CUDA_VISIBLE_DEVICES")) for part in stack.workers]
    assert started == [
        ("worker-gpu0", ["gpu", "--index", "0"], "GPU-a"),
        ("worker-gpu2", ["gpu", "--index", "2"], "GPU-c"),
        ("worker-cpu0", ["cpu", "--index", "0", "--required-only"], None),
    ]
    assert [part.env.get("NIGHTSHIFT_TORCH_THREADS") for part in stack.workers] == ["6", "6", None]
    assert said == ["no worker for GPU 1: GPU is lost"]


def test_a_stack_refuses_what_no_gpu_worker_bears(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Host(tmp_path, card("GPU-a")).enter(monkeypatch)
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("NIGHTSHIFT_RUNNER_MEMORY_LIMIT_BYTES=8000000000\n")
    with pytest.raises(ConfigurationError, match="address space"):
        launched(tmp_path, monkeypatch, [])
    assert [part.name for part in launched(tmp_path, monkeypatch, [], "cpu").workers] == ["worker-cpu0"]


@pytest.mark.parametrize("device", ["auto", "gpu"])
def test_a_stack_stops_at_a_driver_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    Host(tmp_path, card("GPU-a"), error=18).enter(monkeypatch)
    with pytest.raises(ConfigurationError, match="version mismatch"):
        launched(tmp_path, monkeypatch, [], device)

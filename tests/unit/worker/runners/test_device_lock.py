"""A device is used by one worker at a time: its lock outlives the worker, and only proven orphans are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nightshift.errors import ConfigurationError
from shared.settings import Settings
from worker.hardware.devices import Device, cpu
from worker.runners import process_cleanup
from worker.runners.device_lock import DeviceBusy, DeviceLock

#: Of this process alone: another run of these tests on this machine has leftovers too.
NAME = f"slot of {os.getpid()}"


@pytest.fixture
def slot(tmp_path: Path) -> DeviceLock:
    return DeviceLock.of(cpu(), Settings(data_dir=tmp_path))


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        process.kill()
        process.wait()


def sleeper(environment: dict[str, str], **popen: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, **popen)  # type: ignore[call-overload]
    assert process.stdout.readline() == b"up\n"
    return process  # type: ignore[no-any-return]


def holder(slot: DeviceLock) -> subprocess.Popen[bytes]:
    """A process that inherited the lock; the taker has closed its own copy."""
    descriptor = slot.take()
    try:
        return sleeper({}, pass_fds=[descriptor])
    finally:
        os.close(descriptor)


def test_it_is_held_until_the_last_heir_is_gone(slot: DeviceLock, started: list[subprocess.Popen[bytes]]) -> None:
    started.append(holder(slot))
    with pytest.raises(DeviceBusy) as caught:
        slot.take()
    assert caught.value.pids == [started[0].pid]
    started[0].kill()
    started[0].wait()
    os.close(slot.take())


def test_waiting_ends_when_it_is_free_or_no_longer_worthwhile(
    slot: DeviceLock, started: list[subprocess.Popen[bytes]]
) -> None:
    started.append(holder(slot))
    told: list[DeviceBusy] = []
    with pytest.raises(DeviceBusy):
        slot.wait(0.0, lambda: True, told.append)
    with pytest.raises(DeviceBusy):
        slot.wait(600.0, lambda: False, told.append)
    looks = iter(range(3))

    def look() -> bool:
        if next(looks) == 2:
            started[0].kill()
            started[0].wait()
        return True

    os.close(slot.wait(600.0, look, told.append))
    assert [busy.pids for busy in told] == [[started[0].pid]] * 3, "told once each time"


def test_a_gpu_is_the_same_for_every_host_name_and_a_cpu_worker_is_not(tmp_path: Path) -> None:
    gpu = Device("gpu", 0, "a GPU", "GPU-0b5c")
    here, there = (Settings(data_dir=tmp_path, host_name=name) for name in ("here", "there"))
    assert DeviceLock.of(gpu, here) == DeviceLock.of(gpu, there)
    assert len({DeviceLock.of(cpu(index), settings) for settings in (here, there) for index in (0, 1)}) == 4


def test_a_folder_that_takes_no_lock_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="NIGHTSHIFT_LOCK_DIR"):
        DeviceLock.of(cpu(), Settings(data_dir=tmp_path, lock_dir=tmp_path / "file" / "locks"))


# -- orphans ----------------------------------------------------------------------------------------


def tagged(slot: str, family: str) -> subprocess.Popen[bytes]:
    return sleeper({process_cleanup.SLOT: slot, process_cleanup.FAMILY: family}, start_new_session=True)


def test_only_the_leftovers_of_dead_workers_of_the_slot_are_ended(started: list[subprocess.Popen[bytes]]) -> None:
    worker = sleeper({})
    namespace = os.stat("/proc/self/ns/pid").st_ino
    begun = process_cleanup._start_time(worker.pid)
    families = {
        "of a dead worker": (NAME, f"{worker.pid}:{begun}:{namespace}:1"),
        "of a live worker": (NAME, process_cleanup.tag_name(1)),
        "of another slot": ("other", f"{worker.pid}:{begun}:{namespace}:1"),
        "of another container": (NAME, f"{worker.pid}:{begun}:{namespace + 1}:1"),
        "not tagged": ("", ""),
    }
    found = {name: tagged(*tag) for name, tag in families.items()}
    started += [worker, *found.values()]
    assert process_cleanup.kill_orphans(NAME) == []
    worker.kill()
    worker.wait()
    assert process_cleanup.kill_orphans(NAME) == [found["of a dead worker"].pid]
    assert found["of a dead worker"].wait() == -signal.SIGKILL
    assert all(process.poll() is None for name, process in found.items() if name != "of a dead worker")


def test_a_forkserver_that_died_leaves_no_process_behind(started: list[subprocess.Popen[bytes]]) -> None:
    mine, other = process_cleanup.tag_name(1), process_cleanup.tag_name(2)
    started += [tagged(NAME, mine), tagged(NAME, other)]
    assert process_cleanup.kill_tagged(mine) == [started[0].pid]
    assert started[1].poll() is None


def test_a_pid_that_is_used_again_is_not_the_worker(started: list[subprocess.Popen[bytes]]) -> None:
    pid, begun, rest = process_cleanup.tag_name(1).split(":", 2)
    started.append(tagged(NAME, f"{pid}:{int(begun) - 1}:{rest}"))
    assert process_cleanup.kill_orphans(NAME) == [started[0].pid]
    assert started[0].wait() == -signal.SIGKILL

"""The runner of a gang in torch: torch's elastic agent, which forks one rank per device and ends all if one dies.

Nothing is restarted here: a gang that lost a rank is an attempt that ended. The agent touches no device and speaks to
nobody; rank 0 reports to the supervisor as a runner without a gang does. Other ranks that raise leave their error; the
first counts if rank 0 cannot say more.
"""

from __future__ import annotations

import mmap
import os
import signal
import struct
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from nightshift.names import RUN
from shared.fleet.gpus import VISIBLE
from worker.hardware.gpu_context import asking_nvml, hide_gpus
from worker.runners.messages import Assignment, Failed

#: Seconds between two looks at the ranks. Too high: a dead rank is noticed late, and a job ends late.
LOOK_SECONDS = 0.05
#: Seconds that rank 0 has to report an error of its own after one of another rank, which may have the same reason.
GRACE_SECONDS = 3.0
#: No collective operation may time out: the supervisor's watchdog decides what is a stall.
FOREVER = timedelta(days=365)
_LOOPBACK = "127.0.0.1"
#: Bytes of memory for the error of one rank.
_LONGEST = 65_536
#: Where they begin, with the time and the length of the error.
_HEAD = struct.Struct("<QL")


class Shared:
    """Memory that all ranks and the agent share: whether rank 0 has reported its end, and each rank's error.

    Each writes where no other does, because several may raise at once.
    """

    def __init__(self, ranks: int) -> None:
        self._ranks = ranks
        self._memory = mmap.mmap(-1, 1 + ranks * _LONGEST)

    @property
    def is_reported(self) -> bool:
        return self._memory[0] == 1

    def report(self) -> None:
        self._memory[0] = 1

    def leave(self, rank: int, error: Failed) -> None:
        """Leave the error of a rank; one that is too long is left out."""
        start, data = 1 + rank * _LONGEST, error.model_dump_json().encode()
        if len(data) <= _LONGEST - _HEAD.size:
            self._memory[start + _HEAD.size : start + _HEAD.size + len(data)] = data
            _HEAD.pack_into(self._memory, start, time.monotonic_ns(), len(data))

    @property
    def failure(self) -> Failed | None:
        """Return the first error."""
        left = [(*_HEAD.unpack_from(self._memory, start), start + _HEAD.size) for start in self._starts()]
        if not (errors := [one for one in left if one[1]]):
            return None
        _, size, start = min(errors)
        return Failed.model_validate_json(self._memory[start : start + size])

    def _starts(self) -> range:
        return range(1, 1 + self._ranks * _LONGEST, _LONGEST)


def run(assignment: Assignment, lead: Callable[[], bool], say: Callable[[Any], None]) -> int:
    """Run the ranks to their end; `say` sends a frame after the death of rank 0.

    `lead` is what rank 0 does; it returns False if it reported an error, which ends the other ranks. Returns the exit
    code of the runner, negative for a signal, as of the rank that died.
    """
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    shared = Shared(len(assignment.devices))
    try:
        elastic_launch(_config(assignment), _rank)(assignment, lead, shared)
    except ChildFailedError as failed:
        if not shared.is_reported:
            code = int(failed.get_first_failure()[1].exitcode)
            if code < 0 or (error := shared.failure) is None:  # it died without a word
                return code
            say(error)
    return 0


def _config(assignment: Assignment) -> LaunchConfig:
    """Return what the agent needs, which asks torch for GPUs: it finds none, and each rank sees its own."""
    hide_gpus()
    with asking_nvml():
        return LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=len(assignment.devices),
            run_id=f"{assignment.job_id}-{assignment.fence}",
            rdzv_backend="c10d",
            rdzv_endpoint=f"{_LOOPBACK}:0",
            local_addr=_LOOPBACK,
            max_restarts=0,
            start_method="fork",
            monitor_interval=LOOK_SECONDS,
            logs_specs=DefaultLogsSpecs(log_dir=str(_folder(assignment))),
        )


def _folder(assignment: Assignment) -> Path:
    folder = Path(assignment.work_dir) / "ranks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _rank(assignment: Assignment, lead: Callable[[], bool], shared: Shared) -> None:
    """Run one rank: in a process that the agent has forked."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the agent's handler would wait for the end of a C++ call
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # torch sends it when the agent has died
    rank = int(os.environ["RANK"])
    if assignment.device == "gpu":
        os.environ[VISIBLE] = assignment.devices[rank]
    try:
        _join(assignment)
        if rank == 0:
            went_well = lead()
            shared.report()
            if not went_well:
                _exit(1)  # so that the agent ends the others: what they wait for may never come
        else:
            _follow(assignment)
    except BaseException as error:
        _tell(error, rank, assignment, shared)
        _exit(1)
    # Returning, not by `_exit`: the agent waits for what each rank returns.


def _join(assignment: Assignment) -> None:
    """Meet the other ranks; a program does that itself."""
    if assignment.spec["kind"] == RUN:
        return
    from worker.training import gang
    from worker.training.backends.torch_gang import TorchGang

    dist.init_process_group("nccl" if assignment.device == "gpu" else "gloo", timeout=FOREVER)
    gang.join(TorchGang())


def _follow(assignment: Assignment) -> None:
    from worker import kinds
    from worker.training.gang import SilentReporter

    os.chdir(assignment.work_dir)
    kinds.run_part(assignment, SilentReporter())


def _tell(error: BaseException, rank: int, assignment: Assignment, shared: Shared) -> None:
    """Leave the error, and wait for rank 0, which has the same one or notices the end of this rank."""
    from worker.runners.failures import failure

    shared.leave(rank, failure(error, assignment.secrets.values(), assignment.device, "torch"))
    give_up = time.monotonic() + GRACE_SECONDS
    while not shared.is_reported and time.monotonic() < give_up:
        time.sleep(LOOK_SECONDS)


def _exit(code: int) -> None:
    """Exit as a runner does, without destructors, which may wait for other ranks."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

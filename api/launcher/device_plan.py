"""Choice of workers to start: one per GPU and one for jobs that require the CPU, else one for the CPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nightshift.errors import ConfigurationError
from shared.fleet.cores import share
from shared.fleet.gpus import VISIBLE
from shared.fleet.nvml import Inventory


@dataclass(frozen=True)
class PlannedWorker:
    """A worker to start. `uuid` is that of its GPU, `threads` its share of the cores (None: all)."""

    device: str  # cpu | gpu
    index: int
    uuid: str | None = None
    threads: int | None = None
    required_only: bool = False

    @property
    def arguments(self) -> list[str]:
        """Return the arguments of the process."""
        option = ["--required-only"] if self.required_only else []
        return ["--device", self.device, "--index", str(self.index), *option]

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables of the process: its GPU by UUID, so that it counts in no filtered list."""
        own = {VISIBLE: self.uuid} if self.uuid else {}
        return own | ({"NIGHTSHIFT_TORCH_THREADS": str(self.threads)} if self.threads else {})


def plan_workers(device: str, workers: int | None, gpus: Callable[[], Inventory]) -> list[PlannedWorker]:
    """Return the workers: `auto` uses all GPUs (at most `workers`), or the CPU if there is none.

    Beside all GPUs, a worker of the CPU takes the jobs that require it. Several CPU workers share the cores: faster for
    many small jobs, slower for one. Raises ConfigurationError.
    """
    found = gpus().gpus if device in ("auto", "gpu") else ()
    if not found:
        return [PlannedWorker("cpu", index) for index in range(workers or 1)]
    if workers is not None and workers > len(found):
        raise ConfigurationError(
            f"--workers {workers}: this machine has {len(found)} GPU(s) to use, and each takes one worker"
        )
    used = found[:workers]
    planned = [PlannedWorker("gpu", gpu.index, gpu.uuid, share(len(used))) for gpu in used]
    if device == "auto" and workers is None:
        planned.append(PlannedWorker("cpu", 0, required_only=True))
    return planned

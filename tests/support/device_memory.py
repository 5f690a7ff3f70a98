"""Memory of the chosen GPU, as its driver counts it for all processes."""

from __future__ import annotations

import os
import time

from nightshift.testing import devices
from shared.fleet import nvml
from shared.fleet.gpus import VISIBLE

#: How much more than before may be in use once all processes of a test have ended (bytes): what the driver keeps.
SLACK = 64 << 20
#: How long the driver may take to free what a killed process had (seconds): it ends a running kernel first.
FREED_SECONDS = 60.0


def used() -> int:
    """Return the bytes in use on the chosen GPU; 0 on a CPU."""
    if devices.kind() == "cpu":
        return 0
    library = nvml.opened()
    return int(library.nvmlDeviceGetMemoryInfo(library.nvmlDeviceGetHandleByUUID(os.environ[VISIBLE])).used)


def wait_until_freed(before: int) -> None:
    """Wait until no more is in use than before. Raises AssertionError after `FREED_SECONDS`."""
    end = time.monotonic() + FREED_SECONDS
    while (now := used()) > before + SLACK:
        assert time.monotonic() < end, f"{now - before:,} bytes more than before are in use on the GPU"
        time.sleep(0.2)

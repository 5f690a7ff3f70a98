"""Free space of this host's disk."""

from __future__ import annotations

import shutil
from pathlib import Path

#: A worker with less free space claims no jobs (bytes). Too low: it claims jobs that fail at their first file.
#: Too high: a small disk is not used.
LEAST_FREE_BYTES = 10_000_000


def free_bytes(folder: Path) -> int:
    """Return the free space of the disk that a folder is on, or will be on."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(existing).free

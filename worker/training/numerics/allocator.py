"""Keep freed memory in the process: a training step frees and allocates the same large blocks again.

By default glibc returns large blocks to the kernel and maps new ones, zeroed page by page. With freed memory kept, the
small CNN's step took 0.6 to 0.8 of the time (docs/benchmarks). C libraries without `mallopt` are left as they are.
"""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h
#: Most free bytes kept, and the smallest block mapped on its own. Too low: page faults in every step. Too high: memory
#: is never returned.
KEPT_BYTES = 512 << 20


def keep_freed_memory() -> bool:
    """Configure the allocator of this process. Return False if the C library does not support it."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_TRIM_THRESHOLD, KEPT_BYTES) and mallopt(_MMAP_THRESHOLD, KEPT_BYTES))

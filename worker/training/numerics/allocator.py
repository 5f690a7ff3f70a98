"""Keep freed memory: a training step allocates and frees the same large blocks again and again.

glibc gives large blocks back to the kernel and takes them anew, zeroed page by page. Kept, the small CNN's step took
0.6 to 0.8 of the time (docs/benchmarks). Other C libraries have no `mallopt`; there nothing is changed.
"""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h
#: Bytes kept free, and the smallest block that is mapped on its own. Too low: page faults in every step. Too high:
#: memory that is never given back.
KEPT_BYTES = 512 << 20


def keep_freed_memory() -> bool:
    """Set it for this process; False where the C library cannot."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_TRIM_THRESHOLD, KEPT_BYTES) and mallopt(_MMAP_THRESHOLD, KEPT_BYTES))

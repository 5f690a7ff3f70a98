"""Give memory back to the kernel after a crowd: what a thousand event streams used is free then, but glibc keeps it, in as
many heaps as threads had served them. Nothing refers to it any more (docs/benchmarks)."""

from __future__ import annotations

import ctypes
import gc


def give_back() -> bool:
    """Takes some ten milliseconds. False where the C library cannot."""
    gc.collect()
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return False
    return bool(trim(0))

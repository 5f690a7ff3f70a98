"""Peak device memory of this process, read from the loaded frameworks; none is imported."""

from __future__ import annotations

import sys
from typing import Any


def peak_bytes() -> int | None:
    """Return the peak, or None if no device memory is in use (a CPU job, or nothing loaded yet)."""
    for name, peak_of in (("torch", _torch), ("tensorflow", _tensorflow)):
        module = sys.modules.get(name)
        if module is not None:
            try:
                found = peak_of(module)
            except Exception:  # of a failed device; it must not hide how the job ended
                continue
            if found:
                return found
    return None


def _torch(torch: Any) -> int | None:
    return int(torch.cuda.max_memory_reserved()) if torch.cuda.is_initialized() else None


def _tensorflow(tensorflow: Any) -> int | None:
    # list_logical_devices would start the runtime, with a thread per core and on every GPU.
    if sys.modules["tensorflow.python.eager.context"].context()._context_handle is None:
        return None
    if not tensorflow.config.list_logical_devices("GPU"):
        return None
    return int(tensorflow.config.experimental.get_memory_info("GPU:0")["peak"])

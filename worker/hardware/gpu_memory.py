"""How much memory of its device this process has held at most. Asks the frameworks that are loaded, imports none."""

from __future__ import annotations

import sys
from typing import Any


def peak_bytes() -> int | None:
    """None: no device memory is in use (a CPU job, or nothing loaded yet)."""
    for name, ask in (("torch", _torch), ("tensorflow", _tensorflow)):
        module = sys.modules.get(name)
        if module is not None:
            try:
                found = ask(module)
            except Exception:  # a device that failed answers nothing any more; that must not hide how the job ended
                continue
            if found:
                return found
    return None


def _torch(torch: Any) -> int | None:
    return int(torch.cuda.max_memory_reserved()) if torch.cuda.is_initialized() else None


def _tensorflow(tensorflow: Any) -> int | None:
    # The question itself would begin its runtime: with as many threads as there are cores, and on every GPU.
    if sys.modules["tensorflow.python.eager.context"].context()._context_handle is None:
        return None
    if not tensorflow.config.list_logical_devices("GPU"):
        return None
    return int(tensorflow.config.experimental.get_memory_info("GPU:0")["peak"])

"""Whether this process can still use its GPU, asked of the loaded framework; none is imported."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

#: With 1, `torch.cuda.is_available` asks NVML.
_BY_NVML = "PYTORCH_NVML_BASED_CUDA_CHECK"


def broken_because(framework: str) -> str | None:
    """Return why the job's framework cannot use the GPU any more, or never could; None: it can, or is not loaded."""
    ask = {"torch": _torch, "tensorflow": _tensorflow}.get(framework)
    module = sys.modules.get(framework)
    if ask is None or module is None:
        return None
    try:
        return ask(module)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def hide_gpus() -> None:
    """Keep all frameworks of this process, which has used none yet, from opening a context on a GPU."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""


@contextmanager
def asking_nvml() -> Iterator[None]:
    """Let torch ask NVML whether there is a GPU. Once it has asked CUDA, no fork of this process can use one."""
    before = os.environ.get(_BY_NVML)
    os.environ[_BY_NVML] = "1"
    try:
        yield
    finally:
        del os.environ[_BY_NVML]
        if before is not None:
            os.environ[_BY_NVML] = before


def _torch(torch: Any) -> str | None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()  # after a sticky error, every call raises it again
        return None
    return None if torch.cuda.is_available() else "torch sees no GPU"


def _tensorflow(tensorflow: Any) -> str | None:
    return None if tensorflow.config.list_physical_devices("GPU") else "TensorFlow sees no GPU"

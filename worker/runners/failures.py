"""Turns an exception of a runner into a typed frame: the job's own error, memory, the device, or unexpected.

A device fault is sticky: the process cannot use its GPU any more, and the next one may. An assertion in a kernel breaks
the process too, but it is the program's own.
"""

from __future__ import annotations

import errno
import re
import traceback
from collections.abc import Iterable, Iterator

from nightshift.errors import RequestError
from shared.errors import DeviceFailed, DeviceOutOfMemory, DiskFull, JobError, OutOfMemory, UnexpectedError
from worker.hardware.gpu_context import broken_because
from worker.runners.messages import Failed
from worker.runners.redaction import hide

#: Most characters of an error's message.
_LONGEST = 4_000
#: Most characters of a traceback; a longer one is cut in the middle.
MAX_TRACEBACK = 20_000
#: Most errors that led to one another and are looked at.
_MAX_CHAIN = 8
#: Classes of frameworks for out of memory: torch's is for the device only, TensorFlow's for device or host.
_OOM_CLASSES = {"OutOfMemoryError", "ResourceExhaustedError"}
_OOM_WORDS = (
    *("can't allocate memory", "cannot allocate memory", "failed to allocate", "out of memory", "out_of_memory"),
    "std::bad_alloc",
)
#: cuDNN's message for memory of the host.
_HOST_OOM_WORD = "host_allocation_failed"
_DEVICE_WORDS = ("cuda", "cublas", "cudnn", "gpu", "device memory")
#: Messages of device libraries and of TensorFlow for out of memory. A library that cannot make its handle has no memory
#: for it: that it works at all has been tried before (`device_probe`).
_DEVICE_OOM_WORDS = (
    *("cublas_status_alloc_failed", "cublas_status_not_initialized", "failed to create cublas handle"),
    *("cudnn_status_alloc_failed", "cudnn_status_not_initialized", "device_allocation_failed"),
    *("failed to create cudnn handle", "cuda_error_out_of_memory", "dst tensor is not initialized"),
)
#: Messages of the CUDA runtime and driver after which a process cannot use its device any more, or cannot at all.
_FAULT_WORDS = (
    *("illegal memory access", "cuda_error_illegal_address", "misaligned address", "cuda_error_misaligned_address"),
    *("illegal instruction was encountered", "cuda_error_illegal_instruction", "invalid program counter"),
    *("cuda_error_invalid_pc", "unspecified launch failure", "cuda_error_launch_failed", "hardware stack error"),
    *("cuda_error_hardware_stack_error", "launch timed out", "cuda_error_launch_timeout", "uncorrectable ecc error"),
    *("cuda_error_ecc_uncorrectable", "uncorrectable nvlink error", "cuda_error_nvlink_uncorrectable"),
    *("gpu is lost", "no cuda-capable device", "cuda_error_no_device", "busy or unavailable"),
    *("cuda_error_device_unavailable", "cuda error: unknown error", "cuda_error_unknown"),
    *("system not yet initialized", "cuda_error_system_not_ready", "cuda_error_contained"),
    *("no kernel image is available", "driver version is insufficient"),
)
#: Errors of the system for a disk or a quota without room.
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
#: The same as told by libraries that write files themselves: safetensors, TensorFlow and numpy.
_DISK_FULL_WORDS = re.compile(r"no space left on device|disk quota exceeded|\d+ requested and \d+ written")
_ASSERTION = ("device-side assert", "cuda_error_assert")


def failure(
    error: BaseException, secrets: Iterable[str] = (), device: str = "cpu", framework: str | None = None
) -> Failed:
    """Return the frame of an error: typed, out of memory (of any framework), of the device, or unexpected.

    `device` and `framework` are those of the job. `secrets` are hidden here, before texts are cut: half of a value
    would not be found later.
    """
    kind, retryable = _classify(error)
    text = _text(error)
    if device == "gpu" and (fault := _device_fault(error, framework)) is not None:
        kind, retryable = DeviceFailed.type, DeviceFailed.retryable
        text = text if fault in text else f"{fault}; the job: {text}"
    secrets = tuple(secrets)
    message, trace = hide(text, secrets)[:_LONGEST], _trace(error)
    shown = _cut(hide(trace, secrets)) if trace else None
    return Failed(error_type=kind, message=message, retryable=retryable, traceback=shown)


def _classify(error: BaseException) -> tuple[str, bool]:
    if isinstance(error, JobError):
        return error.type, error.retryable
    if isinstance(error, RequestError):
        return error.slug.replace("-", "_"), False
    if any(map(_is_of_full_disk, _chain(error))):
        return DiskFull.type, DiskFull.retryable
    if (memory := _out_of_memory(error)) is not None:
        return memory.type, memory.retryable
    return UnexpectedError.type, UnexpectedError.retryable


def _is_of_full_disk(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in _DISK_FULL:
        return True
    return not isinstance(error, (JobError, RequestError)) and bool(_DISK_FULL_WORDS.search(_text(error).lower()))


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory ran out, of the host or of the device."""
    return _out_of_memory(error) is not None


def is_device_out_of_memory(error: BaseException) -> bool:
    """Return whether the job's error is that memory of the device ran out."""
    return _classify(error)[0] == DeviceOutOfMemory.type


def _out_of_memory(error: BaseException) -> type[OutOfMemory] | None:
    """Return which memory ran out, or None. A framework wraps the errors of its libraries."""
    return next(filter(None, map(_memory_of, _chain(error))), None)


def _memory_of(error: BaseException) -> type[OutOfMemory] | None:
    text = _text(error).lower()
    by_class = isinstance(error, MemoryError) or type(error).__name__ in _OOM_CLASSES
    by_text = _speaks_for_a_library(error) and any(word in text for word in _OOM_WORDS)
    if _HOST_OOM_WORD in text:
        return OutOfMemory
    if any(word in text for word in _DEVICE_OOM_WORDS):
        return DeviceOutOfMemory
    if not (by_class or by_text):
        return None
    on_device = type(error).__name__ == "OutOfMemoryError" or any(word in text for word in _DEVICE_WORDS)
    return DeviceOutOfMemory if on_device and not isinstance(error, MemoryError) else OutOfMemory


def _speaks_for_a_library(error: BaseException) -> bool:
    """Return whether a library may have written the text: errors of TensorFlow are no RuntimeErrors."""
    return isinstance(error, (RuntimeError, OSError)) or type(error).__module__.partition(".")[0] == "tensorflow"


def _device_fault(error: BaseException, framework: str | None) -> str | None:
    """Return what is wrong with the device, or None: it works, or the error is the program's own."""
    texts = [_text(one) for one in _chain(error)]
    if any(word in text.lower() for text in texts for word in _ASSERTION) or is_out_of_memory(error):
        return None
    if not isinstance(error, (JobError, RequestError)):  # whose text is about data, and may be anything
        for text in texts:
            if any(word in text.lower() for word in _FAULT_WORDS):
                return text
    broken = broken_because(framework) if framework else None
    return None if broken is None or any(word in broken.lower() for word in _ASSERTION) else broken


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and those that led to it."""
    one: BaseException | None = error
    for _ in range(_MAX_CHAIN):
        if one is None:
            return
        yield one
        one = one.__cause__


def _text(error: BaseException) -> str:
    """Return the error's message. `str(error)` is code of the job: it may raise or be very long."""
    try:
        text = str(error)
    except Exception:
        text = "(its message cannot be shown)"
    name = type(error).__name__
    return text if isinstance(error, (JobError, RequestError)) else f"{name}: {text}" if text else name


def _trace(error: BaseException) -> str | None:
    try:
        return "".join(traceback.format_exception(error))
    except Exception:
        return None


def _cut(text: str) -> str:
    half = MAX_TRACEBACK // 2
    return text if len(text) <= MAX_TRACEBACK else f"{text[:half]}\n… cut …\n{text[-half:]}"

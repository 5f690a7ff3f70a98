"""One attempt's process: reads its assignment, runs the job's kind, says how it ended, and leaves.

Everything an attempt can raise becomes one Failed frame here; every other way to end (a signal, `os._exit`, a kill for
memory) is told by the forkserver's wait status.
"""

from __future__ import annotations

import os
import socket
import sys
import traceback
from collections.abc import Mapping
from typing import Any, NoReturn

from nightshift.errors import RequestError
from shared.errors import DeviceOutOfMemory, JobError, OutOfMemory, UnexpectedError
from worker import kinds
from worker.hardware.gpu_memory import peak_bytes
from worker.runners.messages import Assignment, Failed, Result, Stopped
from worker.runners.reporter import Channel, Reporter

#: A traceback longer than this is cut in the middle (characters).
MAX_TRACEBACK = 20_000
#: How frameworks name running out of memory: torch's class is the device's alone, TensorFlow's is either's.
_OOM_CLASSES = {"OutOfMemoryError", "ResourceExhaustedError"}
_OOM_WORDS = ("can't allocate memory", "cannot allocate memory", "out of memory", "out_of_memory", "std::bad_alloc")
_DEVICE_WORDS = ("cuda", "cublas", "cudnn", "gpu", "device memory")
#: What libraries on the device say when they find no memory there.
_DEVICE_OOM_WORDS = ("cublas_status_alloc_failed", "cudnn_status_alloc_failed", "cuda_error_out_of_memory")


def main(sock: socket.socket, options: Mapping[str, Any]) -> NoReturn:
    """Serve one assignment and exit: 0 after a last frame was delivered, whatever it says."""
    channel = Channel(sock)
    if "warm" in options:
        _warm_up(options)
    assignment = channel.receive_assignment()
    if assignment is None:  # nobody needs us any more
        leave(0)
    channel.start()
    reporter = Reporter(channel)
    ended = run(assignment, reporter)
    reporter.end(ended.model_copy(update={"peak_device_memory_bytes": peak_bytes()}))
    leave(0)


def _warm_up(options: Mapping[str, Any]) -> None:
    """As a spare, before the job is known. A spare that cannot is a cold runner, and says why if the job fails too."""
    try:
        from worker.runners.warmup import warm_up

        warm_up(options["warm"], options["device"], options["threads"])
    except Exception:
        return


def run(assignment: Assignment, reporter: Reporter) -> Result | Stopped | Failed:
    """The job's kind, with every exception turned into a frame: a runner never ends by a traceback alone."""
    try:
        os.makedirs(assignment.work_dir, exist_ok=True)
        os.chdir(assignment.work_dir)
        return kinds.run(assignment, reporter)
    except BaseException as error:
        return failure(error)


def failure(error: BaseException) -> Failed:
    """Typed errors keep their type; running out of memory is recognised in any framework; the rest is unexpected."""
    kind, retryable = _classify(error)
    return Failed(error_type=kind, message=_text(error), retryable=retryable, traceback=_trace(error))


def _classify(error: BaseException) -> tuple[str, bool]:
    if isinstance(error, JobError):
        return error.type, error.retryable
    if isinstance(error, RequestError):
        return error.slug.replace("-", "_"), False
    if (memory := _out_of_memory(error)) is not None:
        return memory.type, memory.retryable
    return UnexpectedError.type, UnexpectedError.retryable


def _out_of_memory(error: BaseException) -> type[OutOfMemory] | None:
    """Which memory ran out, if any did."""
    text = _text(error).lower()
    named = isinstance(error, MemoryError) or type(error).__name__ in _OOM_CLASSES
    told = isinstance(error, (RuntimeError, OSError)) and any(word in text for word in _OOM_WORDS)
    if any(word in text for word in _DEVICE_OOM_WORDS):
        return DeviceOutOfMemory
    if not (named or told):
        return None
    on_device = type(error).__name__ == "OutOfMemoryError" or any(word in text for word in _DEVICE_WORDS)
    return DeviceOutOfMemory if on_device and not isinstance(error, MemoryError) else OutOfMemory


def _text(error: BaseException) -> str:
    """`str(error)` is the job's code too: it may raise, and it may be endless."""
    try:
        text = str(error)
    except Exception:
        text = "(its message cannot be shown)"
    name = type(error).__name__
    return (text if isinstance(error, (JobError, RequestError)) else f"{name}: {text}" if text else name)[:4_000]


def _trace(error: BaseException) -> str | None:
    try:
        text = "".join(traceback.format_exception(error))
    except Exception:
        return None
    half = MAX_TRACEBACK // 2
    return text if len(text) <= MAX_TRACEBACK else f"{text[:half]}\n… cut …\n{text[-half:]}"


def leave(code: int) -> NoReturn:
    """Without atexit handlers and library destructors: they may hang, and all that matters is already on disk."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue
    os._exit(code)

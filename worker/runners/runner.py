"""The process of one attempt: reads the assignment, runs the job's kind, sends the result and exits.

Any exception becomes one Failed frame here. Other ends (a signal, `os._exit`, the OOM killer) are known from the
forkserver's wait status.
"""

from __future__ import annotations

import os
import socket
import sys
import traceback
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from nightshift.errors import RequestError
from shared.errors import DeviceOutOfMemory, JobError, OutOfMemory, UnexpectedError
from worker import kinds
from worker.hardware.gpu_memory import peak_bytes
from worker.runners.messages import Assignment, Failed, Result, Stopped
from worker.runners.redaction import hide
from worker.runners.reporter import Channel, Reporter

#: Most characters of an error's message.
_LONGEST = 4_000
#: Most characters of a traceback; a longer one is cut in the middle.
MAX_TRACEBACK = 20_000
#: Classes of frameworks for out of memory: torch's is for the device only, TensorFlow's for device or host.
_OOM_CLASSES = {"OutOfMemoryError", "ResourceExhaustedError"}
_OOM_WORDS = ("can't allocate memory", "cannot allocate memory", "out of memory", "out_of_memory", "std::bad_alloc")
_DEVICE_WORDS = ("cuda", "cublas", "cudnn", "gpu", "device memory")
#: Messages of device libraries for out of memory.
_DEVICE_OOM_WORDS = ("cublas_status_alloc_failed", "cudnn_status_alloc_failed", "cuda_error_out_of_memory")


def main(sock: socket.socket, options: Mapping[str, Any]) -> NoReturn:
    """Serve one assignment and exit, with 0 after any last frame was sent."""
    channel = Channel(sock)
    if "warm" in options:
        _warm_up(options)
    assignment = channel.receive_assignment()
    if assignment is None:  # a spare that is not needed any more
        exit_now(0)
    channel.start()
    reporter = Reporter(channel)
    ended = run(assignment, reporter)
    reporter.end(ended.model_copy(update={"peak_device_memory_bytes": peak_bytes()}))
    exit_now(0)


def _warm_up(options: Mapping[str, Any]) -> None:
    """Warm up a spare. An error leaves the runner cold; if it matters, the job raises it again."""
    try:
        from worker.runners.warmup import warm_up

        warm_up(options["warm"], options["device"], options["threads"])
    except Exception:
        return


def run(assignment: Assignment, reporter: Reporter) -> Result | Stopped | Failed:
    """Run the job's kind, and return any exception as a Failed frame."""
    try:
        os.makedirs(assignment.work_dir, exist_ok=True)
        os.chdir(assignment.work_dir)
        return kinds.run(assignment, reporter)
    except BaseException as error:
        return failure(error, assignment.secrets.values())


def failure(error: BaseException, secrets: Iterable[str] = ()) -> Failed:
    """Return the frame of an error: typed, out of memory (of any framework), or unexpected.

    `secrets` are hidden here, before texts are cut: half of a value would not be found later.
    """
    kind, retryable = _classify(error)
    secrets = tuple(secrets)
    message, trace = hide(_text(error), secrets)[:_LONGEST], _trace(error)
    shown = _cut(hide(trace, secrets)) if trace else None
    return Failed(error_type=kind, message=message, retryable=retryable, traceback=shown)


def _classify(error: BaseException) -> tuple[str, bool]:
    if isinstance(error, JobError):
        return error.type, error.retryable
    if isinstance(error, RequestError):
        return error.slug.replace("-", "_"), False
    if (memory := _out_of_memory(error)) is not None:
        return memory.type, memory.retryable
    return UnexpectedError.type, UnexpectedError.retryable


def _out_of_memory(error: BaseException) -> type[OutOfMemory] | None:
    """Return which memory ran out, or None."""
    text = _text(error).lower()
    by_class = isinstance(error, MemoryError) or type(error).__name__ in _OOM_CLASSES
    by_text = isinstance(error, (RuntimeError, OSError)) and any(word in text for word in _OOM_WORDS)
    if any(word in text for word in _DEVICE_OOM_WORDS):
        return DeviceOutOfMemory
    if not (by_class or by_text):
        return None
    on_device = type(error).__name__ == "OutOfMemoryError" or any(word in text for word in _DEVICE_WORDS)
    return DeviceOutOfMemory if on_device and not isinstance(error, MemoryError) else OutOfMemory


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


def exit_now(code: int) -> NoReturn:
    """Exit without atexit handlers and library destructors, which may hang; all results are on disk."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue
    os._exit(code)

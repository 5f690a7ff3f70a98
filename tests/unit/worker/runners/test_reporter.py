"""The runner's end of the pipe: order kept, training never held up, orphans end themselves."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from nightshift.errors import NotFound
from shared.errors import BadData, DatasetUnavailable
from worker.runners import failures
from worker.runners import reporter as module
from worker.runners.messages import Assignment, MetricPoint, Progress, Result, Stop, decode_from_runner, encode
from worker.runners.reporter import Channel, Reporter

CAP = 120.0
ASSIGNMENT = Assignment(job_id="a" * 16, fence=1, spec={"kind": "train"}, job_dir="/nowhere", work_dir="/nowhere")


class Pipe:
    def __init__(self) -> None:
        self.supervisor, runner_end = socket.socketpair()
        self.ended = threading.Event()
        self.channel = Channel(runner_end, on_end=self.ended.set)
        self.reporter = Reporter(self.channel)
        self.lines = self.supervisor.makefile("rb")

    def frames(self) -> Iterator[Any]:
        return (decode_from_runner(line) for line in self.lines)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.lines.close()
    pipe.supervisor.close()


def _point(step: int) -> MetricPoint:
    return MetricPoint(name="loss", step=step, epoch=0, value=1.0)


def test_frames_arrive_whole_and_in_order(pipe: Pipe) -> None:
    pipe.supervisor.sendall(encode(ASSIGNMENT))
    assert pipe.channel.receive_assignment(lambda _: None) == ASSIGNMENT
    pipe.channel.start()
    for step in range(500):
        pipe.reporter.metrics([_point(step)])
    threading.Thread(target=pipe.reporter.end, args=(Result(metrics={}),)).start()
    frames = list(pipe.frames())
    assert [frame.points[0].step for frame in frames[:-1]] == list(range(500))
    assert frames[-1].type == "result"


def test_the_strongest_stop_wins(pipe: Pipe) -> None:
    pipe.channel.start()
    for reason in ("drain", "cancel", "pause"):
        pipe.supervisor.sendall(encode(Stop(reason=reason)))
    pipe.supervisor.shutdown(socket.SHUT_WR)
    assert pipe.ended.wait(CAP)
    assert pipe.reporter.stop_requested() == "cancel"


def test_a_runner_without_supervisor_ends(pipe: Pipe) -> None:
    pipe.channel.start()
    pipe.lines.close()
    pipe.supervisor.close()
    assert pipe.ended.wait(CAP)


def test_progress_is_dropped_and_metrics_wait_when_the_pipe_is_not_read(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_BACKLOG_BYTES", 1_000)
    for step in range(100):  # not started: nothing is written, as if the supervisor did not read
        pipe.reporter.progress(Progress(step=step, at=0.0))
    waiting = threading.Thread(target=pipe.reporter.metrics, args=([_point(7)],), daemon=True)
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive(), "a metric must not be dropped"
    pipe.channel.start()
    waiting.join(CAP)
    assert not waiting.is_alive()
    frames = pipe.frames()
    kinds = [next(frames).type]
    while kinds[-1] == "progress":
        kinds.append(next(frames).type)
    assert kinds[-1] == "metrics"
    assert len(kinds) < 100, "progress beyond the backlog is dropped"


class Sulky(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")

    def __reduce__(self) -> Any:
        raise RuntimeError("not to be pickled")


def _named(name: str, text: str) -> Exception:
    """As a framework that is not here names it."""
    found: Exception = type(name, (Exception,), {})(text)
    return found


def _raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


@pytest.mark.parametrize(
    ("error", "error_type", "retryable"),
    [
        (BadData("row 7 is empty"), "bad_data", False),
        (NotFound.of("model", "x"), "not_found", False),
        (DatasetUnavailable("mnist", "could not be downloaded", "Register it."), "dataset_unavailable", True),
        (MemoryError(), "out_of_memory", True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 TB"), "out_of_memory", True),
        (_named("ResourceExhaustedError", "OOM when allocating"), "out_of_memory", True),
        (_named("OutOfMemoryError", "CUDA out of memory. Tried to allocate 20 GiB"), "device_out_of_memory", True),
        (_named("ResourceExhaustedError", "OOM when allocating on …/device:GPU:0"), "device_out_of_memory", True),
        (_named("InternalError", "CUBLAS_STATUS_ALLOC_FAILED when calling"), "device_out_of_memory", True),
        (RuntimeError("CUDA error: out of memory"), "device_out_of_memory", True),
        (RuntimeError("CUDA error: device-side assert triggered"), "unexpected_error", True),
        (ZeroDivisionError("division by zero"), "unexpected_error", True),
        (Sulky(), "unexpected_error", True),
        (SystemExit(3), "unexpected_error", True),
        (KeyboardInterrupt(), "unexpected_error", True),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_every_exception_becomes_a_typed_frame(error: BaseException, error_type: str, retryable: bool) -> None:
    frame = failures.failure(_raised(error))
    assert (frame.error_type, frame.retryable) == (error_type, retryable)
    assert frame.message
    assert frame.traceback or isinstance(error, Sulky)
    assert decode_from_runner(encode(frame)) == frame

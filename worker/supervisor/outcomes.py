"""The one place that turns the way a runner ended into what becomes of the attempt. Pure: facts in, verdict out."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from shared.errors import DeviceOutOfMemory, NonFiniteLoss, OutOfMemory
from shared.jobs.states import AttemptOutcome, StopRequest
from shared.jobs.transitions import Ending
from worker.runners.forkserver_client import Exit
from worker.runners.messages import Failed, Result, Stopped


class KillReason(StrEnum):
    """Why the supervisor ended a runner by itself."""

    TIMEOUT = "timeout"  # the job's deadline
    STALLED = "stalled"  # no sign of life for longer than the watchdog allows
    PROTOCOL = "protocol_error"  # it sent what is no frame
    NOT_FINITE = "non_finite_loss"  # it sent a metric that is no number
    GRACE = "grace"  # asked to stop, it did not in time


@dataclass(frozen=True)
class RunnerExit:
    """All that is known of a runner that is gone."""

    exit: Exit
    last: Result | Stopped | Failed | None = None
    asked: StopRequest | None = None  # the strongest Stop it was sent
    cut: KillReason | None = None
    detail: str = ""  # of the cut
    oom_killed: bool = False  # the kernel killed for memory meanwhile (cgroup counter)
    tail: str = ""  # last lines of its stderr
    peak_device_memory_bytes: int | None = None
    evidence: dict[str, Any] | None = None  # what it did and said last


@dataclass(frozen=True)
class Succeed:
    result: Result


@dataclass(frozen=True)
class Fail:
    outcome: AttemptOutcome
    error: dict[str, Any]


@dataclass(frozen=True)
class Released:
    """CANCELLED | PAUSED: stop; DRAINED | PREEMPTED: release."""

    outcome: AttemptOutcome


Verdict = Succeed | Fail | Released

_LEFT = {
    StopRequest.CANCEL: AttemptOutcome.CANCELLED,
    StopRequest.PAUSE: AttemptOutcome.PAUSED,
    StopRequest.PREEMPT: AttemptOutcome.PREEMPTED,
    StopRequest.DRAIN: AttemptOutcome.DRAINED,
}


def classify_exit(ended: RunnerExit) -> Verdict:
    """A result counts whatever else happened; then what was asked; then why we cut it; then how it died."""
    if isinstance(ended.last, Result):
        return Succeed(ended.last)
    if ended.asked is StopRequest.CANCEL and ended.cut is not KillReason.TIMEOUT:
        return Released(AttemptOutcome.CANCELLED)
    if ended.cut is not None and ended.cut is not KillReason.GRACE:
        return _cut(ended.cut, ended.detail)
    if isinstance(ended.last, Stopped) and StopRequest(ended.last.reason) in _LEFT:
        return Released(_LEFT[StopRequest(ended.last.reason)])
    if ended.cut is KillReason.GRACE and ended.asked in _LEFT:
        return Released(_LEFT[ended.asked])
    if isinstance(ended.last, Failed):
        return failed(ended.last)
    return _died(ended)


def ending_of(ended: RunnerExit) -> Ending:
    """The evidence kept with the attempt."""
    exit = ended.exit
    return Ending(exit.code, exit.signal, exit.peak_memory_bytes, ended.peak_device_memory_bytes, ended.evidence)


def error(kind: str, message: str, *, retryable: bool) -> dict[str, Any]:
    return {"type": kind, "message": message, "retryable": retryable}


_CUT_OUTCOMES = {
    KillReason.TIMEOUT: (AttemptOutcome.TIMED_OUT, False),
    KillReason.STALLED: (AttemptOutcome.STALLED, True),
    KillReason.PROTOCOL: (AttemptOutcome.CRASHED, True),
    KillReason.NOT_FINITE: (AttemptOutcome.JOB_ERROR, NonFiniteLoss.retryable),
}


def _cut(cut: KillReason, detail: str) -> Fail:
    outcome, retryable = _CUT_OUTCOMES[cut]
    return Fail(outcome, error(cut.value, detail, retryable=retryable))


def failed(frame: Failed) -> Fail:
    """Of an error that was caught and typed, in the runner or on the way to it."""
    by_memory = frame.error_type in (OutOfMemory.type, DeviceOutOfMemory.type)
    outcome = AttemptOutcome.OUT_OF_MEMORY if by_memory else AttemptOutcome.JOB_ERROR
    return Fail(outcome, error(frame.error_type, frame.message, retryable=frame.retryable))


def _died(ended: RunnerExit) -> Fail:
    told = _how(ended.exit)
    if ended.exit.peak_memory_bytes:
        told += f" (peak memory {ended.exit.peak_memory_bytes / 1e6:.0f} MB)"
    if ended.tail:
        told += f"; its last words: {ended.tail}"
    if ended.oom_killed and ended.exit.signal == signal.SIGKILL:
        return Fail(AttemptOutcome.OUT_OF_MEMORY, error(OutOfMemory.type, f"out of memory: {told}", retryable=True))
    if any(word in ended.tail for word in ("bad_alloc", "MemoryError", "Cannot allocate memory")):
        return Fail(AttemptOutcome.OUT_OF_MEMORY, error(OutOfMemory.type, f"out of memory: {told}", retryable=True))
    return Fail(AttemptOutcome.CRASHED, error("crashed", told, retryable=True))


def _how(exit: Exit) -> str:
    if exit.lost:
        return "the runner was killed together with its forkserver"
    if exit.signal is not None:
        return f"the runner was killed by {_name(exit.signal)}"
    return f"the runner exited with code {exit.code} without a result"


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"

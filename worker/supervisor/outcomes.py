"""Maps how a runner ended to the outcome of the attempt. Pure functions: facts in, verdict out."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from shared.errors import DeviceFailed, DeviceOutOfMemory, DiskFull, NonFiniteLoss, OutOfMemory
from shared.jobs.states import AttemptOutcome, StopRequest
from shared.jobs.transitions import Ending
from worker.runners.forkserver_client import Exit
from worker.runners.messages import Failed, Finishing, Result, Stopped


class KillReason(StrEnum):
    """Why the supervisor killed a runner."""

    TIMEOUT = "timeout"  # the job's deadline
    STALLED = "stalled"  # no sign of life for longer than the watchdog allows
    PROTOCOL = "protocol_error"  # an invalid frame
    NOT_FINITE = "non_finite_loss"  # a metric that is not finite
    GRACE = "grace"  # it did not stop in time when asked to


@dataclass(frozen=True)
class RunnerExit:
    """All facts about a runner that ended."""

    exit: Exit
    last: Result | Stopped | Failed | Finishing | None = None
    requested: StopRequest | None = None  # the strongest stop request it was sent
    kill_reason: KillReason | None = None
    detail: str = ""  # of the kill
    oom_killed: bool = False  # the OOM killer ran meanwhile (cgroup counter)
    tail: str = ""  # last lines of its stderr
    peak_device_memory_bytes: int | None = None
    evidence: dict[str, Any] | None = None  # its last phase, step and messages

    @property
    def needs_device(self) -> bool:
        """Whether the attempt may still need its device."""
        return not isinstance(self.last, Result | Finishing)

    @property
    def hands_over(self) -> bool:
        """Whether another runner, without the device, goes on."""
        is_cancelled = self.requested is StopRequest.CANCEL
        return isinstance(self.last, Finishing) and self.kill_reason is None and not is_cancelled


@dataclass(frozen=True)
class Succeed:
    """The attempt succeeds with this result."""

    result: Result


@dataclass(frozen=True)
class Fail:
    """The attempt fails with this outcome and error."""

    outcome: AttemptOutcome
    error: dict[str, Any]


@dataclass(frozen=True)
class Released:
    """The attempt ends by a stop request: cancelled, paused, drained or preempted."""

    outcome: AttemptOutcome


Verdict = Succeed | Fail | Released

_RELEASED_AS = {
    StopRequest.CANCEL: AttemptOutcome.CANCELLED,
    StopRequest.PAUSE: AttemptOutcome.PAUSED,
    StopRequest.PREEMPT: AttemptOutcome.PREEMPTED,
    StopRequest.DRAIN: AttemptOutcome.DRAINED,
}


def classify_exit(ended: RunnerExit) -> Verdict:
    """Return the verdict: a result counts first, then the stop request, the kill reason, the exit status."""
    if isinstance(ended.last, Result):
        return Succeed(ended.last)
    if ended.requested is StopRequest.CANCEL and ended.kill_reason is not KillReason.TIMEOUT:
        return Released(AttemptOutcome.CANCELLED)
    if ended.kill_reason is not None and ended.kill_reason is not KillReason.GRACE:
        return _killed(ended.kill_reason, ended.detail)
    if isinstance(ended.last, Stopped) and StopRequest(ended.last.reason) in _RELEASED_AS:
        return Released(_RELEASED_AS[StopRequest(ended.last.reason)])
    if ended.kill_reason is KillReason.GRACE and ended.requested in _RELEASED_AS:
        return Released(_RELEASED_AS[ended.requested])
    if isinstance(ended.last, Failed):
        return failed(ended.last)
    return _crashed(ended)


def ending_of(ended: RunnerExit) -> Ending:
    """Return the evidence stored with the attempt."""
    exit = ended.exit
    return Ending(exit.code, exit.signal, exit.peak_memory_bytes, ended.peak_device_memory_bytes, ended.evidence)


def error(kind: str, message: str, *, retryable: bool) -> dict[str, Any]:
    """Return an error as stored with the attempt."""
    return {"type": kind, "message": message, "retryable": retryable}


_KILL_OUTCOMES = {
    KillReason.TIMEOUT: (AttemptOutcome.TIMED_OUT, False),
    KillReason.STALLED: (AttemptOutcome.STALLED, True),
    KillReason.PROTOCOL: (AttemptOutcome.CRASHED, True),
    KillReason.NOT_FINITE: (AttemptOutcome.JOB_ERROR, NonFiniteLoss.retryable),
}


def _killed(kill_reason: KillReason, detail: str) -> Fail:
    outcome, retryable = _KILL_OUTCOMES[kill_reason]
    return Fail(outcome, error(kill_reason.value, detail, retryable=retryable))


def failed(frame: Failed) -> Fail:
    """Return the verdict of a typed error, raised in the runner or before it started.

    A device fault counts as a crash of the job until the device is found to be at fault (`blame_device`). A full disk
    counts as one too, and so uses up no retry: the job may have filled it, or something else on its host.
    """
    outcome = _TYPED_OUTCOMES.get(frame.error_type, AttemptOutcome.JOB_ERROR)
    return Fail(outcome, error(frame.error_type, frame.message, retryable=frame.retryable))


_TYPED_OUTCOMES = {
    OutOfMemory.type: AttemptOutcome.OUT_OF_MEMORY,
    DeviceOutOfMemory.type: AttemptOutcome.OUT_OF_MEMORY,
    DeviceFailed.type: AttemptOutcome.CRASHED,
    DiskFull.type: AttemptOutcome.CRASHED,
}


def may_be_of_device(verdict: Verdict) -> bool:
    """Return whether a broken device may be the reason: it ends processes, hangs them, or says so."""
    if not isinstance(verdict, Fail) or verdict.error["type"] == DiskFull.type:
        return False
    return verdict.outcome in (AttemptOutcome.CRASHED, AttemptOutcome.STALLED)


def blame_device(verdict: Fail, problem: str) -> Fail:
    """Return the verdict after the framework was found not to work on the device: the job is not charged."""
    return device_failed(f"{problem}; the attempt ended: {verdict.error['message']}")


def device_failed(problem: str) -> Fail:
    """Return the verdict of an attempt whose device does not work: the job is not charged."""
    error_of_device = error(DeviceFailed.type, f"the device failed: {problem}", retryable=DeviceFailed.retryable)
    return Fail(AttemptOutcome.DEVICE_FAILED, error_of_device)


def _crashed(ended: RunnerExit) -> Fail:
    message = _describe_exit(ended.exit)
    if ended.exit.peak_memory_bytes:
        message += f" (peak memory {ended.exit.peak_memory_bytes / 1e6:.0f} MB)"
    if ended.tail:
        message += f"; last lines of stderr: {ended.tail}"
    by_kernel = ended.oom_killed and ended.exit.signal == signal.SIGKILL
    if by_kernel or any(word in ended.tail for word in ("bad_alloc", "MemoryError", "Cannot allocate memory")):
        return Fail(AttemptOutcome.OUT_OF_MEMORY, error(OutOfMemory.type, f"out of memory: {message}", retryable=True))
    return Fail(AttemptOutcome.CRASHED, error("crashed", message, retryable=True))


def _describe_exit(exit: Exit) -> str:
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

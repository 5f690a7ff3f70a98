"""Every way a runner can end has one verdict."""

from __future__ import annotations

import signal
from dataclasses import replace

import pytest

from shared.jobs.states import AttemptOutcome as Out
from shared.jobs.states import StopRequest as Ask
from worker.runners.forkserver_client import Exit
from worker.runners.messages import Failed, Finishing, Result, Stopped
from worker.supervisor.outcomes import (
    Fail,
    KillReason,
    Released,
    RunnerExit,
    Succeed,
    blame_device,
    classify_exit,
    ending_of,
    may_be_of_device,
)

RESULT = Result(metrics={"x": 1.0}, peak_device_memory_bytes=5)
FAILED = Failed(error_type="bad_data", message="row 7", retryable=False)
OOM = Failed(error_type="out_of_memory", message="no", retryable=True)
GPU_OOM = OOM.model_copy(update={"error_type": "device_out_of_memory"})
GPU_FAULT = OOM.model_copy(update={"error_type": "device_failed"})
DISK_FULL = OOM.model_copy(update={"error_type": "disk_full"})
CLEAN, KILLED = Exit(code=0, peak_memory_bytes=10_000_000), Exit(signal=signal.SIGKILL, peak_memory_bytes=10_000_000)


@pytest.mark.parametrize(
    ("ended", "verdict"),
    [
        (RunnerExit(CLEAN, RESULT), Succeed(RESULT)),
        (RunnerExit(KILLED, RESULT, requested=Ask.DRAIN, kill_reason=KillReason.GRACE), Succeed(RESULT)),
        (RunnerExit(CLEAN, RESULT, requested=Ask.CANCEL), Succeed(RESULT)),  # SQL refuses it if the cancel is durable
        (RunnerExit(CLEAN, RESULT, requested=Ask.FINISH), Succeed(RESULT)),
        (RunnerExit(CLEAN, Stopped(reason="cancel"), requested=Ask.CANCEL), Released(Out.CANCELLED)),
        (RunnerExit(CLEAN, Stopped(reason="pause"), requested=Ask.PAUSE), Released(Out.PAUSED)),
        (RunnerExit(CLEAN, Stopped(reason="preempt"), requested=Ask.PREEMPT), Released(Out.PREEMPTED)),
        (RunnerExit(CLEAN, Stopped(reason="drain"), requested=Ask.DRAIN), Released(Out.DRAINED)),
        (RunnerExit(CLEAN, Stopped(reason="pause"), requested=Ask.CANCEL), Released(Out.CANCELLED)),
        (RunnerExit(KILLED, requested=Ask.CANCEL, kill_reason=KillReason.GRACE), Released(Out.CANCELLED)),
        (RunnerExit(KILLED, requested=Ask.PAUSE, kill_reason=KillReason.GRACE), Released(Out.PAUSED)),
        (RunnerExit(KILLED, requested=Ask.DRAIN, kill_reason=KillReason.GRACE), Released(Out.DRAINED)),
        (RunnerExit(CLEAN, FAILED, requested=Ask.CANCEL), Released(Out.CANCELLED)),
        (RunnerExit(CLEAN, Finishing(), requested=Ask.CANCEL), Released(Out.CANCELLED)),
        (RunnerExit(KILLED, Finishing(), requested=Ask.DRAIN, kill_reason=KillReason.GRACE), Released(Out.DRAINED)),
    ],
)
def test_results_and_requests(ended: RunnerExit, verdict: object) -> None:
    assert classify_exit(ended) == verdict


@pytest.mark.parametrize(
    ("ended", "outcome", "kind", "retryable"),
    [
        (RunnerExit(CLEAN, FAILED), Out.JOB_ERROR, "bad_data", False),
        (RunnerExit(CLEAN, FAILED, requested=Ask.PAUSE), Out.JOB_ERROR, "bad_data", False),
        (RunnerExit(CLEAN, OOM), Out.OUT_OF_MEMORY, "out_of_memory", True),
        (RunnerExit(CLEAN, GPU_OOM), Out.OUT_OF_MEMORY, "device_out_of_memory", True),
        (RunnerExit(CLEAN, GPU_FAULT), Out.CRASHED, "device_failed", True),
        (RunnerExit(CLEAN, DISK_FULL), Out.CRASHED, "disk_full", True),
        (RunnerExit(KILLED), Out.CRASHED, "crashed", True),
        (RunnerExit(KILLED, oom_killed=True), Out.OUT_OF_MEMORY, "out_of_memory", True),
        (RunnerExit(Exit(signal=6), tail="terminate: std::bad_alloc"), Out.OUT_OF_MEMORY, "out_of_memory", True),
        (RunnerExit(Exit(signal=11), oom_killed=True), Out.CRASHED, "crashed", True),
        (RunnerExit(Exit(code=7)), Out.CRASHED, "crashed", True),
        (RunnerExit(Exit(code=0)), Out.CRASHED, "crashed", True),
        (RunnerExit(Exit(signal=9, lost=True)), Out.CRASHED, "crashed", True),
        (RunnerExit(KILLED, kill_reason=KillReason.STALLED, detail="silent"), Out.STALLED, "stalled", True),
        (RunnerExit(KILLED, kill_reason=KillReason.PROTOCOL, detail="?"), Out.CRASHED, "protocol_error", True),
        (RunnerExit(KILLED, kill_reason=KillReason.NOT_FINITE, detail="nan"), Out.JOB_ERROR, "non_finite_loss", False),
        (RunnerExit(KILLED, kill_reason=KillReason.TIMEOUT, detail="late"), Out.TIMED_OUT, "timeout", False),
        (
            RunnerExit(CLEAN, Stopped(reason="cancel"), kill_reason=KillReason.TIMEOUT, detail="late"),
            Out.TIMED_OUT,
            "timeout",
            False,
        ),
        (
            RunnerExit(CLEAN, requested=Ask.CANCEL, kill_reason=KillReason.TIMEOUT, detail="late"),
            Out.TIMED_OUT,
            "timeout",
            False,
        ),
    ],
)
def test_failures(ended: RunnerExit, outcome: Out, kind: str, retryable: bool) -> None:
    verdict = classify_exit(ended)
    assert isinstance(verdict, Fail)
    assert (verdict.outcome, verdict.error["type"], verdict.error["retryable"]) == (outcome, kind, retryable)
    assert verdict.error["message"]


def test_a_crash_tells_all_that_is_known() -> None:
    verdict = classify_exit(RunnerExit(replace(KILLED, signal=signal.SIGSEGV), tail="Fatal Python error | line 7"))
    assert isinstance(verdict, Fail)
    for word in ("SIGSEGV", "10 MB", "Fatal Python error"):
        assert word in verdict.error["message"]


def test_the_evidence_is_kept() -> None:
    ending = ending_of(RunnerExit(CLEAN, RESULT, peak_device_memory_bytes=5, evidence={"step": 3}))
    assert (ending.exit_code, ending.signal, ending.peak_memory_bytes) == (0, None, 10_000_000)
    assert (ending.peak_device_memory_bytes, ending.evidence) == (5, {"step": 3})


def test_every_cut_and_every_request_has_a_verdict() -> None:
    for kill_reason in (None, *KillReason):
        for requested in (None, *Ask):
            for last in (None, RESULT, FAILED, OOM, *(Stopped(reason=ask.value) for ask in Ask)):
                classify_exit(RunnerExit(KILLED, last, requested, kill_reason))


@pytest.mark.parametrize(
    ("ended", "suspected"),
    [
        (RunnerExit(CLEAN, GPU_FAULT), True),
        (RunnerExit(Exit(signal=signal.SIGABRT)), True),
        (RunnerExit(KILLED, kill_reason=KillReason.STALLED), True),
        (RunnerExit(CLEAN, GPU_OOM), False),
        (RunnerExit(CLEAN, DISK_FULL), False),
        (RunnerExit(CLEAN, FAILED), False),
        (RunnerExit(CLEAN, RESULT), False),
        (RunnerExit(CLEAN, Stopped(reason="drain"), requested=Ask.DRAIN), False),
        (RunnerExit(KILLED, kill_reason=KillReason.TIMEOUT), False),
    ],
)
def test_a_device_is_suspected_after_faults_crashes_and_stalls(ended: RunnerExit, suspected: bool) -> None:
    assert may_be_of_device(classify_exit(ended)) is suspected


def test_an_end_that_the_device_caused_is_told_with_both_reasons() -> None:
    verdict = classify_exit(RunnerExit(CLEAN, GPU_FAULT))
    assert isinstance(verdict, Fail)
    blamed = blame_device(verdict, "GPU is lost")
    assert (blamed.outcome, blamed.error["type"], blamed.error["retryable"]) == (
        Out.DEVICE_FAILED,
        "device_failed",
        True,
    )
    assert blamed.error["message"] == "the device failed: GPU is lost; the attempt ended: no"


@pytest.mark.parametrize(
    ("ended", "needs_device", "hands_over"),
    [
        (RunnerExit(CLEAN, Finishing()), False, True),
        (RunnerExit(CLEAN, Finishing(), requested=Ask.DRAIN), False, True),
        (RunnerExit(CLEAN, Finishing(), requested=Ask.CANCEL), False, False),
        (RunnerExit(KILLED, Finishing(), requested=Ask.DRAIN, kill_reason=KillReason.GRACE), False, False),
        (RunnerExit(CLEAN, RESULT), False, False),
        (RunnerExit(CLEAN, FAILED), True, False),
        (RunnerExit(CLEAN, Stopped(reason="pause"), requested=Ask.PAUSE), True, False),
        (RunnerExit(KILLED), True, False),
    ],
)
def test_a_final_model_needs_no_device(ended: RunnerExit, needs_device: bool, hands_over: bool) -> None:
    assert (ended.needs_device, ended.hands_over) == (needs_device, hands_over)

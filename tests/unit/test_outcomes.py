"""Every way a runner can end has one verdict."""

from __future__ import annotations

import signal
from dataclasses import replace

import pytest

from shared.jobs.states import AttemptOutcome as Out
from shared.jobs.states import StopRequest as Ask
from worker.forkclient import Exit
from worker.outcomes import Cut, Ended, Fail, Leave, Succeed, ending_of, judge
from worker.protocol import Failed, Result, Stopped

RESULT = Result(metrics={"x": 1.0}, peak_device_memory_bytes=5)
FAILED = Failed(error_type="bad_data", message="row 7", retryable=False)
OOM = Failed(error_type="out_of_memory", message="no", retryable=True)
GPU_OOM = OOM.model_copy(update={"error_type": "device_out_of_memory"})
CLEAN, KILLED = Exit(code=0, peak_memory_bytes=10_000_000), Exit(signal=signal.SIGKILL, peak_memory_bytes=10_000_000)


@pytest.mark.parametrize(
    ("ended", "verdict"),
    [
        (Ended(CLEAN, RESULT), Succeed(RESULT)),
        (Ended(KILLED, RESULT, asked=Ask.DRAIN, cut=Cut.GRACE), Succeed(RESULT)),
        (Ended(CLEAN, RESULT, asked=Ask.CANCEL), Succeed(RESULT)),  # SQL refuses it if the cancel is durable
        (Ended(CLEAN, RESULT, asked=Ask.FINISH), Succeed(RESULT)),
        (Ended(CLEAN, Stopped(reason="cancel"), asked=Ask.CANCEL), Leave(Out.CANCELLED)),
        (Ended(CLEAN, Stopped(reason="pause"), asked=Ask.PAUSE), Leave(Out.PAUSED)),
        (Ended(CLEAN, Stopped(reason="preempt"), asked=Ask.PREEMPT), Leave(Out.PREEMPTED)),
        (Ended(CLEAN, Stopped(reason="drain"), asked=Ask.DRAIN), Leave(Out.DRAINED)),
        (Ended(CLEAN, Stopped(reason="pause"), asked=Ask.CANCEL), Leave(Out.CANCELLED)),
        (Ended(KILLED, asked=Ask.CANCEL, cut=Cut.GRACE), Leave(Out.CANCELLED)),
        (Ended(KILLED, asked=Ask.PAUSE, cut=Cut.GRACE), Leave(Out.PAUSED)),
        (Ended(KILLED, asked=Ask.DRAIN, cut=Cut.GRACE), Leave(Out.DRAINED)),
        (Ended(CLEAN, FAILED, asked=Ask.CANCEL), Leave(Out.CANCELLED)),
    ],
)
def test_results_and_requests(ended: Ended, verdict: object) -> None:
    assert judge(ended) == verdict


@pytest.mark.parametrize(
    ("ended", "outcome", "kind", "retryable"),
    [
        (Ended(CLEAN, FAILED), Out.JOB_ERROR, "bad_data", False),
        (Ended(CLEAN, FAILED, asked=Ask.PAUSE), Out.JOB_ERROR, "bad_data", False),
        (Ended(CLEAN, OOM), Out.OUT_OF_MEMORY, "out_of_memory", True),
        (Ended(CLEAN, GPU_OOM), Out.OUT_OF_MEMORY, "device_out_of_memory", True),
        (Ended(KILLED), Out.CRASHED, "crashed", True),
        (Ended(KILLED, oom_killed=True), Out.OUT_OF_MEMORY, "out_of_memory", True),
        (Ended(Exit(signal=6), tail="terminate: std::bad_alloc"), Out.OUT_OF_MEMORY, "out_of_memory", True),
        (Ended(Exit(signal=11), oom_killed=True), Out.CRASHED, "crashed", True),
        (Ended(Exit(code=7)), Out.CRASHED, "crashed", True),
        (Ended(Exit(code=0)), Out.CRASHED, "crashed", True),
        (Ended(Exit(signal=9, lost=True)), Out.CRASHED, "crashed", True),
        (Ended(KILLED, cut=Cut.STALLED, detail="silent"), Out.STALLED, "stalled", True),
        (Ended(KILLED, cut=Cut.PROTOCOL, detail="?"), Out.CRASHED, "protocol_error", True),
        (Ended(KILLED, cut=Cut.NOT_FINITE, detail="nan"), Out.JOB_ERROR, "non_finite_loss", False),
        (Ended(KILLED, cut=Cut.TIMEOUT, detail="late"), Out.TIMED_OUT, "timeout", False),
        (Ended(CLEAN, Stopped(reason="cancel"), cut=Cut.TIMEOUT, detail="late"), Out.TIMED_OUT, "timeout", False),
        (Ended(CLEAN, asked=Ask.CANCEL, cut=Cut.TIMEOUT, detail="late"), Out.TIMED_OUT, "timeout", False),
    ],
)
def test_failures(ended: Ended, outcome: Out, kind: str, retryable: bool) -> None:
    verdict = judge(ended)
    assert isinstance(verdict, Fail)
    assert (verdict.outcome, verdict.error["type"], verdict.error["retryable"]) == (outcome, kind, retryable)
    assert verdict.error["message"]


def test_a_crash_tells_all_that_is_known() -> None:
    verdict = judge(Ended(replace(KILLED, signal=signal.SIGSEGV), tail="Fatal Python error | line 7"))
    assert isinstance(verdict, Fail)
    for word in ("SIGSEGV", "10 MB", "Fatal Python error"):
        assert word in verdict.error["message"]


def test_the_evidence_is_kept() -> None:
    ending = ending_of(Ended(CLEAN, RESULT, peak_device_memory_bytes=5, evidence={"step": 3}))
    assert (ending.exit_code, ending.signal, ending.peak_memory_bytes) == (0, None, 10_000_000)
    assert (ending.peak_device_memory_bytes, ending.evidence) == (5, {"step": 3})


def test_every_cut_and_every_request_has_a_verdict() -> None:
    for cut in (None, *Cut):
        for asked in (None, *Ask):
            for last in (None, RESULT, FAILED, OOM, *(Stopped(reason=ask.value) for ask in Ask)):
                judge(Ended(KILLED, last, asked, cut))

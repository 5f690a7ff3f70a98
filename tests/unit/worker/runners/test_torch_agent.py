"""What the ranks of a gang share with their agent."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from worker.runners.messages import Failed
from worker.runners.torch_agent import Shared


def error(message: str) -> Failed:
    return Failed(error_type="job_error", message=message, retryable=False)


def test_the_first_of_several_errors_counts_and_none_cuts_another() -> None:
    shared = Shared(3)
    assert shared.failure is None
    shared.leave(2, error("the longer message of the third rank"))
    shared.leave(1, error("short"))
    assert shared.failure == error("the longer message of the third rank")


def test_an_error_that_is_too_long_is_left_out() -> None:
    shared = Shared(2)
    shared.leave(0, error("x" * 70_000))
    assert shared.failure is None
    shared.leave(1, error("short"))
    assert shared.failure == error("short")

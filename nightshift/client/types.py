"""The JSON shapes the API answers with, as the SDK hands them on.

Dictionaries, not classes: a newer server may send more than is listed here, and nothing of it gets lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict


class Progress(TypedDict, total=False):
    step: int
    total_steps: int | None
    epoch: int
    percent: float | None
    eta_seconds: float | None
    samples_per_second: float | None


class JobData(TypedDict, total=False):
    id: str
    kind: str
    name: str | None
    state: str
    family: str | None
    framework: str | None
    dataset: str | None
    priority: int
    attempt: int
    progress: Progress | None
    stop_requested: str | None
    created_at: str
    run_at: str | None
    started_at: str | None
    finished_at: str | None
    archived_at: str | None
    worker: str | None
    device: str | None
    error: dict[str, Any] | None
    result: dict[str, Any] | None
    tags: dict[str, str]
    notes: str | None
    copied_from: dict[str, Any] | None
    pinned: dict[str, str]
    spec: dict[str, Any]


class MetricPoint(TypedDict):
    name: str
    step: int
    epoch: int
    value: float
    at: str


class MetricTable(list[MetricPoint]):
    """Points as rows, by name and step: what `pandas.DataFrame` and `polars.DataFrame` take as it is."""

    def series(self) -> dict[str, list[tuple[int, float]]]:
        """The curves: (step, value) by name."""
        found: dict[str, list[tuple[int, float]]] = {}
        for point in self:
            found.setdefault(point["name"], []).append((point["step"], point["value"]))
        return found

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame` with columns name, step, epoch, value, at (a time). Needs pandas, which the SDK does
        not."""
        import pandas as pd

        frame = pd.DataFrame(list(self), columns=["name", "step", "epoch", "value", "at"])
        frame["at"] = pd.to_datetime(frame["at"])
        return frame


class SystemData(TypedDict):
    attempt: int
    at: str
    cpu_percent: float | None
    memory_bytes: int | None
    gpu_percent: float | None
    gpu_memory_bytes: int | None


class AttemptData(TypedDict, total=False):
    attempt: int
    worker: str
    device: str | None
    started_at: str
    ended_at: str | None
    outcome: str | None
    error: dict[str, Any] | None
    exit_code: int | None
    signal: int | None
    peak_memory_bytes: int | None
    peak_device_memory_bytes: int | None
    evidence: dict[str, Any] | None
    environment: dict[str, Any] | None
    resumed_step: int | None


class Reason(TypedDict):
    code: str
    sentence: str
    fields: dict[str, Any]


class WhyData(TypedDict):
    id: str
    state: str
    sentence: str
    reasons: list[Reason]


class CheckpointData(TypedDict, total=False):
    id: str
    step: int
    epoch: int
    sha256: str
    size_bytes: int
    is_best: bool
    state: str
    created_at: str


class ArtifactData(TypedDict, total=False):
    path: str
    sha256: str
    size_bytes: int
    media_type: str
    created_at: str


class LogLine(TypedDict, total=False):
    seq: int
    at: str
    attempt: int
    level: str
    message: str


@dataclass(frozen=True)
class Event:
    """Something that happened to a job. `id` counts up within the job; a stream resumes after any of them."""

    id: int
    type: str  # state | progress | metric | checkpoint | artifact | promotion | edited | log
    at: str | None
    data: dict[str, Any]

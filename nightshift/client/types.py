"""Types of the JSON that the API returns. The API builds its response models from them (`api/shapes.py`).

They are dictionaries, so fields that only a newer server sends are kept. A text in `Annotated` describes the field.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypedDict


class Progress(TypedDict, total=False):
    """The progress of a running job."""

    step: int
    total_steps: int | None
    epoch: int
    percent: float | None
    eta_seconds: float | None
    samples_per_second: float | None
    whole_steps: Annotated[int | None, "Of a shard: the rows of the whole job."]


class JobHead(TypedDict, total=False):
    """What identifies a job."""

    id: str
    kind: str
    name: str | None
    state: str
    family: str | None
    framework: str | None
    dataset: str | None
    priority: int


class BatchItem(TypedDict):
    """What became of a job of a batch. Of a refused one `id` is null."""

    id: str | None
    name: str | None
    state: str | None
    created: Annotated[bool, "false also when the Idempotency-Key belongs to an existing job."]
    error: Annotated[dict[str, Any] | None, "Why it was refused: `status`, `title`, `detail` and `errors`."]


class JobData(JobHead, total=False):
    """A job. Times are ISO 8601 in UTC."""

    attempt: Annotated[int, "Number of the current attempt; 0 before the first."]
    progress: Progress | None
    stop_requested: str | None
    created_at: str
    run_at: str | None
    started_at: str | None
    finished_at: str | None
    archived_at: Annotated[str | None, "When it was archived. Lists omit archived jobs unless asked for them."]
    deadline_at: Annotated[str | None, "When `timeout_seconds` have passed."]
    worker: str | None
    device: Annotated[str | None, "Device of the current attempt; before the first, the requested one."]
    error: dict[str, Any] | None
    result: Annotated[
        dict[str, Any] | None,
        "`metrics`, `model` and `artifacts` of a succeeded job; with `promote` also `promoted` and `promotion`.",
    ]
    retries: Annotated[int, "Retryable failures so far; at most `max_retries`."]
    after: list[str]
    part_of: Annotated[str | None, "The job that this one is a shard of."]
    shard: Annotated[int | None, "Of a shard: which of the `shards` it is, from 1."]
    shards: Annotated[int | None, "In how many shards the job is computed; null: in one piece."]
    tags: dict[str, str]
    notes: str | None
    copied_from: dict[str, Any] | None
    pinned: Annotated[
        dict[str, str],
        "`dataset`, `evaluate_on` and `model` with their versions when the job first started; and the `package` of a "
        "program or family.",
    ]
    promise: Annotated[
        str | None,
        "What a resumed run is worth: `exact`, `resumable` or `restart`; null: not known before the first attempt.",
    ]
    sweep: Annotated[dict[str, Any] | None, "`id` of its sweep and `number` of its trial; null: it is of none."]
    spec: Annotated[dict[str, Any], "The complete spec, with presets filled in."]


class SweepData(TypedDict, total=False):
    """A sweep."""

    id: str
    name: str | None
    state: Annotated[
        str, "running, paused, stopping, or the final succeeded (a trial has a value), failed, stopped or cancelled."
    ]
    job: Annotated[dict[str, Any], "The spec of every trial's job without the parameters."]
    space: Annotated[dict[str, Any], "The parameters by dotted path."]
    objective: Annotated[dict[str, Any], "`metric` and `direction` (`max` or `min`)."]
    trials: Annotated[int, "Number of trials that the sweep is to have."]
    concurrency: int
    sampler: str
    pruner: dict[str, Any]
    seed: int
    on_best: dict[str, Any]
    started: Annotated[int, "Number of trials that were started."]
    running: Annotated[int, "Trials whose jobs have not ended."]
    pruned: int
    failed: int
    best: Annotated[int | None, "Number of the best trial."]
    best_value: float | None
    importance: Annotated[
        dict[str, float] | None, "Share of each parameter in the differences of the objective; null: too few trials."
    ]
    outcome: Annotated[
        dict[str, Any] | None,
        "What was done with the best trial: `registered`, `job_id` (of `promote`), `schedule`, and what was `refused`.",
    ]
    created_at: str
    finished_at: str | None


class TrialData(TypedDict, total=False):
    """A trial of a sweep."""

    number: int
    params: Annotated[dict[str, Any], "Its parameters by dotted path; those with an unmet condition are missing."]
    state: Annotated[str, "running, complete, pruned (finished early, with a value), failed or cancelled."]
    pruning: Annotated[bool, "Whether its job was asked to finish early."]
    value: Annotated[float | None, "The objective, once its job has succeeded."]
    reason: Annotated[str | None, "Why it has no value."]
    job_id: Annotated[str | None, "null: its job was refused."]
    job_state: Annotated[str | None, "null: its job was deleted, or refused."]
    steps: Annotated[int | None, "Steps that its job has done."]
    percent: Annotated[float | None, "Progress of its job while it runs."]
    reports: Annotated[int, "Points of its curve that the pruner has seen."]
    started_at: str
    ended_at: str | None


class SweepEvent(TypedDict):
    """An event of a sweep."""

    seq: int
    type: Annotated[str, "state, trial, changed or best."]
    at: str
    data: dict[str, Any]


class MetricPoint(TypedDict):
    """One value of a metric."""

    name: str
    step: int
    epoch: int
    value: float
    at: str


class MetricTable(list[MetricPoint]):
    """Metric points as rows, sorted by name and step; an argument for `pandas.DataFrame` or `polars.DataFrame`."""

    def series(self) -> dict[str, list[tuple[int, float]]]:
        """Return the curves: lists of (step, value) by metric name."""
        found: dict[str, list[tuple[int, float]]] = {}
        for point in self:
            found.setdefault(point["name"], []).append((point["step"], point["value"]))
        return found

    def to_pandas(self) -> Any:
        """Return a `pandas.DataFrame` with the columns name, step, epoch, value, at (a timestamp).

        Needs pandas, which the client does not install.
        """
        import pandas as pd

        frame = pd.DataFrame(list(self), columns=["name", "step", "epoch", "value", "at"])
        frame["at"] = pd.to_datetime(frame["at"])
        return frame


class SystemData(TypedDict):
    """A sample of the CPU, memory and GPU usage of an attempt."""

    attempt: int
    at: str
    cpu_percent: Annotated[float | None, "100 is one core; 200 are two."]
    memory_bytes: Annotated[int | None, "Resident memory of the runner."]
    gpu_percent: float | None
    gpu_memory_bytes: Annotated[int | None, "Of the whole device, which only this runner uses."]


class AttemptData(TypedDict, total=False):
    """One attempt to run a job."""

    attempt: int
    worker: str
    device: str | None
    celery_task_id: str | None
    started_at: str
    ended_at: str | None
    outcome: str | None
    error: dict[str, Any] | None
    exit_code: int | None
    signal: int | None
    peak_memory_bytes: int | None
    peak_device_memory_bytes: int | None
    environment: Annotated[
        dict[str, Any] | None,
        "Where it ran, as far as known: host, worker, versions, cpu, gpu, driver, threads, commit, command.",
    ]
    evidence: dict[str, Any] | None
    resumed_from: Annotated[str | None, "The checkpoint that it resumed from."]
    resumed_step: int | None


class Reason(TypedDict):
    """One reason of a job's state."""

    code: str
    sentence: str
    fields: Annotated[dict[str, Any], "The facts of the sentence; which ones depends on the code."]


class WhyData(TypedDict):
    """The explanation of a job's state."""

    id: str
    state: str
    sentence: str
    reasons: list[Reason]


class CheckpointData(TypedDict, total=False):
    """A checkpoint of a job."""

    id: str
    attempt: int
    step: int
    epoch: int
    sha256: str
    size_bytes: int
    is_best: bool
    state: Literal["ready", "quarantined", "deleted"]
    created_at: str


class ArtifactData(TypedDict, total=False):
    """A file that a job produced."""

    path: str
    attempt: int
    sha256: str
    size_bytes: int
    media_type: str
    created_at: str


class LogLine(TypedDict, total=False):
    """A line of a job's log."""

    seq: int
    at: str
    attempt: int
    level: str
    message: str


@dataclass(frozen=True)
class Event:
    """An event of a job. `id` increases within the job; a stream can be resumed after any id."""

    id: int
    type: str  # state | progress | metric | checkpoint | artifact | promotion | edited | log
    at: str | None
    data: dict[str, Any]

"""Response models. Times are RFC 3339 in UTC; every collection is a `Page`."""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, Field

from nightshift.states import JobState
from shared.datasets.builtins import Availability
from shared.jobs.states import AttemptOutcome, StopRequest
from shared.schedules.models import CatchUp, Overlap, TickOutcome
from shared.webhooks.models import BodyFormat, DeliveryState, EventType

T = TypeVar("T")


class Page(BaseModel, Generic[T]):
    """One page of a collection."""

    items: list[T]
    next_cursor: str | None = Field(
        None, description="Pass it as `cursor` to get the next page; null on the last page."
    )


class FieldProblem(BaseModel):
    """An invalid field."""

    loc: list[str | int] = Field(description='The path to the field, e.g. `["training", "epochs"]`.')
    msg: str = Field(description="What is wrong and what is allowed.")


class Problem(BaseModel):
    """RFC 9457. `type` is for programs; `detail` states the remedy for users."""

    type: str = Field(examples=["urn:nightshift:problem:invalid-request"])
    title: str
    status: int
    detail: str
    instance: str
    errors: list[FieldProblem]


class Progress(BaseModel):
    """Progress of the current attempt."""

    step: int | None = None
    total_steps: int | None = None
    epoch: int | None = None
    percent: float | None = None
    eta_seconds: float | None = None
    samples_per_second: float | None = None
    loss: float | None = None
    phase: str | None = Field(
        None, description="device, load, first_step, train, infer, validate, checkpoint, evaluate, figures or write"
    )


class JobErrorView(BaseModel):
    """Why a job or attempt failed."""

    type: str = Field(examples=["non_finite_loss"])
    message: str
    retryable: bool


class ChangeView(BaseModel):
    """A setting that differs between two jobs."""

    path: str = Field(examples=["training.learning_rate"])
    before: Any
    after: Any


class CopiedFromView(BaseModel):
    """The job that another one was copied from."""

    id: str
    name: str | None
    changes: list[ChangeView] = Field(description="Settings that differ from that job.")


class JobHead(BaseModel):
    """A job."""

    id: str
    kind: str
    name: str | None
    state: JobState
    family: str | None
    framework: str | None
    dataset: str | None
    priority: int


class JobView(JobHead):
    attempt: int = Field(description="Number of the current attempt; 0 before the first.")
    progress: Progress | None
    stop_requested: StopRequest | None
    created_at: str
    run_at: str | None
    started_at: str | None
    finished_at: str | None
    archived_at: str | None = Field(description="When it was archived. Lists omit archived jobs unless asked for them.")
    deadline_at: str | None = Field(description="When `timeout_seconds` have passed.")
    worker: str | None
    device: str | None = Field(description="Device of the current attempt; before the first, the requested one.")
    error: JobErrorView | None
    result: dict[str, Any] | None = Field(
        description="`metrics`, `model` and `artifacts` of a succeeded job; with `promote` also `promoted` and "
        "`promotion`."
    )
    retries: int = Field(description="Retryable failures so far; at most `max_retries`.")
    after: list[str]
    tags: dict[str, str]
    notes: str | None
    copied_from: CopiedFromView | None = Field(description="The job that this one was copied from.")
    pinned: dict[str, str] = Field(
        description="`dataset`, `evaluate_on` and `model` with their versions when the job first started."
    )
    spec: dict[str, Any] = Field(description="The complete spec, with presets filled in.")


class Accepted(JobHead):
    """The accepted job. `created` is false when the Idempotency-Key belongs to an existing job."""

    created: bool
    spec: dict[str, Any]


class MetricView(BaseModel):
    """One measured value."""

    name: str
    step: int
    epoch: int
    value: float
    at: str


class EvidenceView(BaseModel):
    """The last state and output of a runner, kept when its attempt ends."""

    phase: str | None = Field(None, description="load, first_step, train, infer, validate, checkpoint, evaluate, …")
    step: int | None = None
    last_frames: list[dict[str, Any]] = Field([], description="Last messages, oldest first, with `seconds_before_end`.")
    log_tail: list[str] = Field([], description="Last lines of log and output, each with its level.")


class AttemptView(BaseModel):
    """One attempt to run a job."""

    attempt: int
    worker: str
    device: str | None
    celery_task_id: str | None
    started_at: str
    ended_at: str | None
    outcome: AttemptOutcome | None = Field(description="How the attempt ended; null while it runs.")
    error: JobErrorView | None
    exit_code: int | None
    signal: int | None
    peak_memory_bytes: int | None
    peak_device_memory_bytes: int | None
    environment: dict[str, Any] | None = Field(
        description="Where it ran, as far as known: host, worker, versions, cpu, gpu, driver, threads, commit, command."
    )
    evidence: EvidenceView | None = Field(
        description="Null while it runs; for a lost attempt what had been written to SQL."
    )
    resumed_from: str | None = Field(description="The checkpoint that it resumed from.")
    resumed_step: int | None


class SystemView(BaseModel):
    """Resource usage of a runner at one time."""

    attempt: int
    at: str
    cpu_percent: float | None = Field(description="100 is one core; 200 are two.")
    memory_bytes: int | None = Field(description="Resident memory of the runner.")
    gpu_percent: float | None
    gpu_memory_bytes: int | None = Field(description="Of the whole device, which only this runner uses.")


class ReasonView(BaseModel):
    """A reason for a job's state."""

    code: str = Field(examples=["jobs_ahead"], description="Code of the reason; docs/why.md lists all.")
    sentence: str
    fields: dict[str, Any] = Field(description="The facts of the sentence; which ones depends on the code.")


class WhyView(BaseModel):
    """Why a job is in its state: what it waits for, what it is doing, how it ended."""

    id: str
    state: JobState
    sentence: str = Field(examples=["It is queued: the only worker that can run it is busy (cpu0@a with 3f…)."])
    reasons: list[ReasonView] = Field(
        description="Current reasons first, the decisive one at the top; then attempts that did not count."
    )


class CheckpointView(BaseModel):
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


class ArtifactView(BaseModel):
    """A file that a job wrote."""

    path: str = Field(examples=["model/model.safetensors"])
    attempt: int
    sha256: str
    size_bytes: int
    media_type: str
    created_at: str


class LogView(BaseModel):
    """A line of a job's log."""

    seq: int
    at: str
    attempt: int
    level: str
    message: str


class HostUsageView(BaseModel):
    """Usage of a worker's host."""

    memory_bytes: int | None
    memory_used_bytes: int | None
    cpu_percent: float | None = Field(description="Of all cores, since the previous heartbeat.")
    cores: int | None = None


class RunnerUsageView(BaseModel):
    """Usage of a worker's runners."""

    memory_bytes: int
    cpu_percent: float | None = Field(description="100 is one core; since the previous heartbeat.")


class UsageView(BaseModel):
    """Usage as of the last heartbeat; null: unknown."""

    memory_bytes: int | None = Field(description="Memory of the GPU; of the host for a CPU worker.")
    memory_used_bytes: int | None
    busy_percent: float | None
    temperature_celsius: float | None
    host: HostUsageView
    runner: RunnerUsageView | None = Field(None, description="Host resources used by the worker's runners.")


class WorkerView(BaseModel):
    """A worker and its device."""

    name: str
    host: str
    state: str = Field(
        description="online, not_listening (lost its queue and is reconnecting), draining or offline (no heartbeat for "
        "a lease)"
    )
    device: Literal["cpu", "gpu"]
    device_name: str
    memory_bytes: int | None
    frameworks: list[str]
    versions: dict[str, Any]
    job_id: str | None = Field(description="The job it runs; null for another owner's job.")
    usage: UsageView | None = Field(description="Usage of its device; null while the worker is offline.")
    started_at: str
    heartbeat_at: str


class ProgramView(BaseModel):
    """A program that jobs of kind `run` may name."""

    name: str
    package: str | None = Field(description="The package that brings it, with its version.")
    description: str
    framework: str | None
    dataset_kinds: list[str] = Field(description="Kinds of data sets that it reads; empty: none.")
    promise: str | None = Field(
        description="What a resumed run is worth: `exact` (the same bits), `resumable` or `restart` (a new start)."
    )
    params_schema: dict[str, Any] | None = Field(description="JSON schema of `params`.")
    error: str | None = Field(description="Why it cannot be used; null: it can.")


class FamilyView(BaseModel):
    """A model family."""

    name: str
    kinds: list[str] = Field(description="Kinds of job that this version's workers run for it.")
    frameworks: list[str]
    dataset_kind: str
    default_preset: str
    presets: dict[str, Any] = Field(description="Each preset in full: `model` and its `training` defaults.")
    model_schema: dict[str, Any] = Field(description="JSON schema of `model`; any field overrides the preset's.")
    training_schema: dict[str, Any] = Field(description="JSON schema of `training`.")


class Owned(BaseModel):
    """A resource that every key may use and only its owner may change."""

    owner: str | None = Field(description="Name of the owner's first key; null: no owner.")
    yours: bool = Field(description="Whether this key's owner owns it.")
    may_change: bool = Field(description="Whether this key may change it: yours, or without an owner and not built in.")


class DatasetView(Owned):
    """A data set, described by its newest version."""

    name: str
    version: int | None = Field(description="Newest version; null for a built-in set that is not registered yet.")
    kind: str | None
    builtin: bool
    availability: Availability = Field(
        description="Whether a job can use it. A built-in set is registered by the first job, from "
        "local files (`on_first_use`) or by a download; `unavailable`: downloads are off."
    )
    sha256: str | None
    size_bytes: int | None
    classes: list[str] | None
    image: list[int] | None = Field(description="Height, width, channels.")
    split: str | None = Field(description="Where the test part comes from.")
    splits: dict[str, Any] | None = Field(description="Counts and class histogram of each part.")
    created_at: str | None


class DatasetVersionView(BaseModel):
    """A version of a data set."""

    version: int
    sha256: str
    rows: dict[str, int] = Field(description="Number of images or documents in each part.")
    created_at: str


class DatasetDetail(DatasetView):
    """A data set with its versions."""

    versions: list[DatasetVersionView]


class Champion(BaseModel):
    """The version that a model's name alone refers to."""

    version: int
    job_id: str | None = Field(description="The job that created it; null for another owner's job.")
    metrics: dict[str, Any]


class ModelView(Owned):
    """A registered model."""

    name: str
    family: str
    framework: str
    latest_version: int
    updated_at: str
    champion: Champion | None = Field(description="The version that the model's name alone refers to.")
    aliases: dict[str, int]


class ModelVersionView(BaseModel):
    """A version of a model."""

    name: str
    version: int
    job_id: str | None = Field(description="The job that created it; null for another owner's job.")
    family: str
    framework: str
    dataset: str | None
    parent: str | None = Field(description="The model that it was fine-tuned from.")
    metrics: dict[str, Any]
    description: str | None = None
    tags: dict[str, str] = {}
    created_at: str


class ModelDetail(Owned):
    """A registered model with its versions."""

    name: str
    description: str | None = None
    aliases: dict[str, int]
    versions: list[ModelVersionView] = Field(description="Newest first.")


class ModelChangeView(BaseModel):
    """An audited change of a model."""

    change: Literal["set", "rollback", "delete", "register", "describe"]
    alias: str | None = Field(description="null: no alias was moved.")
    from_version: int | None
    to_version: int | None
    who: str = Field(description="Owner of the key, `job:<id>` or `system`.")
    why: str | None
    at: str


class MetricPair(BaseModel):
    """A metric of two versions."""

    a: Any
    b: Any
    difference: float | None = Field(description="b - a, where both are numbers.")


class ComparisonView(BaseModel):
    """Two versions of a model with their metrics."""

    name: str
    a: ModelVersionView
    b: ModelVersionView
    same_dataset: bool = Field(description="Whether both were trained and measured on the same data set version.")
    metrics: dict[str, MetricPair]


class LastTick(BaseModel):
    """The last tick of a schedule."""

    tick: str
    due_at: str
    outcome: TickOutcome
    job_id: str | None


class ScheduleView(BaseModel):
    """A schedule."""

    id: str
    name: str
    cron: str
    timezone: str
    job: dict[str, Any] = Field(description="The complete spec, with templates in name and tags.")
    enabled: bool
    catch_up: CatchUp
    catch_up_limit: int
    max_lateness_seconds: float | None
    overlap: Overlap
    skip_if_unchanged: bool
    next_at: str | None = Field(description="The next tick; null while paused.")
    next_at_local: str | None
    last_tick: LastTick | None
    created_at: str
    updated_at: str


class PreviewView(BaseModel):
    """A future tick of a schedule."""

    utc: str
    local: str
    tick: str = Field(description="The value of {tick}.")


class TickView(BaseModel):
    """A past tick of a schedule."""

    tick: str
    due_at: str
    due_at_local: str
    manual: bool = Field(description="Whether it was run by hand.")
    outcome: TickOutcome
    job_id: str | None
    job_state: JobState | None
    reason: str | None = Field(description="Why there is no job (yet).")
    decided_at: str


class WebhookView(BaseModel):
    """A webhook."""

    id: str
    name: str
    url: str
    events: list[EventType]
    tags: dict[str, str]
    match: str | None
    format: BodyFormat
    enabled: bool
    disabled_reason: str | None = Field(description="Why Nightshift disabled it; null if a user did.")
    old_secret_until: str | None = Field(description="Until then the previous secret signs as well.")
    created_at: str
    updated_at: str


class NewWebhookView(WebhookView):
    """A webhook with its signing secret."""

    secret: str = Field(description="Signs deliveries; it is not shown again.")


class DeliveryView(BaseModel):
    """The delivery of an event to a webhook."""

    id: str
    event_id: str = Field(description="Header `webhook-id`, the same for every attempt.")
    event_type: str
    state: DeliveryState
    attempts: int
    status: int | None = Field(description="HTTP status of the last answer.")
    error: str | None = Field(description="Error of the last attempt.")
    milliseconds: float | None
    created_at: str
    next_at: str | None = Field(description="Time of the next attempt; null when settled.")
    settled_at: str | None


class DeliveryDetail(DeliveryView):
    """A delivery with its body."""

    body: str = Field(description="The exact body that is sent.")


class Readiness(BaseModel):
    """Readiness of the service."""

    status: Literal["ready", "degraded", "unready"]
    parts: dict[str, str] = Field(description="`ok` or the problem, for database, migrations and broker.")

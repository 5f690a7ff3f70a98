"""The shapes of the answers, as OpenAPI shows them. Times are RFC 3339 in UTC; every collection is a `Page`."""

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
    items: list[T]
    next_cursor: str | None = Field(None, description="Give it as `cursor` for the next page; null on the last.")


class FieldProblem(BaseModel):
    loc: list[str | int] = Field(description='The path to the field, e.g. `["training", "epochs"]`.')
    msg: str = Field(description="What is wrong and what is allowed.")


class Problem(BaseModel):
    """RFC 9457. `type` tells programs which problem it is, `detail` tells a person the way out."""

    type: str = Field(examples=["urn:nightshift:problem:invalid-request"])
    title: str
    status: int
    detail: str
    instance: str
    errors: list[FieldProblem]


class Progress(BaseModel):
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
    type: str = Field(examples=["non_finite_loss"])
    message: str
    retryable: bool


class ChangeView(BaseModel):
    path: str = Field(examples=["training.learning_rate"])
    before: Any
    after: Any


class CopiedFromView(BaseModel):
    id: str
    name: str | None
    changes: list[ChangeView] = Field(description="In which settings it differs from that job.")


class JobView(BaseModel):
    id: str
    kind: str
    name: str | None
    state: JobState
    family: str | None
    framework: str | None
    dataset: str | None
    priority: int
    attempt: int = Field(description="Number of the present attempt; 0 before the first.")
    progress: Progress | None
    stop_requested: StopRequest | None
    created_at: str
    run_at: str | None
    started_at: str | None
    finished_at: str | None
    archived_at: str | None = Field(description="Lists leave it out since then, unless asked for archived jobs.")
    deadline_at: str | None = Field(description="When `timeout_seconds` are over.")
    worker: str | None
    device: str | None = Field(description="What the present attempt runs on; before there is one, what was asked for.")
    error: JobErrorView | None
    result: dict[str, Any] | None = Field(
        description="`metrics`, `model` and `artifacts` of a job that succeeded; with `promote`, `promoted` and `promotion`."
    )
    retries: int = Field(description="Retryable failures so far, of `max_retries`.")
    after: list[str]
    tags: dict[str, str]
    notes: str | None
    copied_from: CopiedFromView | None = Field(description="The job that it runs again.")
    pinned: dict[str, str] = Field(
        description="`dataset`, `evaluate_on` and `model` with the versions they had when the job first started."
    )
    spec: dict[str, Any] = Field(description="The complete spec, presets filled in.")


class Accepted(BaseModel):
    """What was written. `created` is false when the Idempotency-Key named a job that was there already."""

    id: str
    kind: str
    name: str | None
    state: JobState
    family: str | None
    framework: str | None
    dataset: str | None
    priority: int
    created: bool
    spec: dict[str, Any]


class MetricView(BaseModel):
    name: str
    step: int
    epoch: int
    value: float
    at: str


class EvidenceView(BaseModel):
    """What a runner did and said last, kept when its attempt ends."""

    phase: str | None = Field(None, description="load, first_step, train, infer, validate, checkpoint, evaluate, …")
    step: int | None = None
    last_frames: list[dict[str, Any]] = Field([], description="Its last messages, oldest first, `seconds_before_end`.")
    log_tail: list[str] = Field([], description="Its last lines of log and output, each after its level.")


class AttemptView(BaseModel):
    attempt: int
    worker: str
    device: str | None
    celery_task_id: str | None
    started_at: str
    ended_at: str | None
    outcome: AttemptOutcome | None = Field(description="How it ended; null while it runs.")
    error: JobErrorView | None
    exit_code: int | None
    signal: int | None
    peak_memory_bytes: int | None
    peak_device_memory_bytes: int | None
    environment: dict[str, Any] | None = Field(
        description="What it ran on: host, worker, versions, cpu, gpu, driver, threads, commit, command, as far as known."
    )
    evidence: EvidenceView | None = Field(description="Null while it runs; of a lost one what had reached SQL.")
    resumed_from: str | None = Field(description="The checkpoint it went on from.")
    resumed_step: int | None


class SystemView(BaseModel):
    attempt: int
    at: str
    cpu_percent: float | None = Field(description="Of one core: 200 is two of them.")
    memory_bytes: int | None = Field(description="Resident memory of the runner.")
    gpu_percent: float | None
    gpu_memory_bytes: int | None = Field(description="Of the whole device, which is the runner's alone.")


class ReasonView(BaseModel):
    code: str = Field(examples=["jobs_ahead"], description="Which reason it is; docs/why.md lists them.")
    sentence: str
    fields: dict[str, Any] = Field(description="The facts of the sentence, by code.")


class WhyView(BaseModel):
    """Why a job is where it is: what it waits for, what it is doing, how it ended."""

    id: str
    state: JobState
    sentence: str = Field(examples=["It is queued: the only worker that can run it is busy (cpu0@a with 3f…)."])
    reasons: list[ReasonView] = Field(
        description="Those of the present first, the decisive one at their head; then the tries that did not count."
    )


class CheckpointView(BaseModel):
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
    path: str = Field(examples=["model/model.safetensors"])
    attempt: int
    sha256: str
    size_bytes: int
    media_type: str
    created_at: str


class LogView(BaseModel):
    seq: int
    at: str
    attempt: int
    level: str
    message: str


class HostUsageView(BaseModel):
    memory_bytes: int | None
    memory_used_bytes: int | None
    cpu_percent: float | None = Field(description="Of all cores, since the heartbeat before.")
    cores: int | None = None


class RunnerUsageView(BaseModel):
    memory_bytes: int
    cpu_percent: float | None = Field(description="100 is one core; since the heartbeat before.")


class UsageView(BaseModel):
    """As of the last heartbeat; null: cannot be known."""

    memory_bytes: int | None = Field(description="Of the GPU, or of the host where it works on the CPU.")
    memory_used_bytes: int | None
    busy_percent: float | None
    temperature_celsius: float | None
    host: HostUsageView
    runner: RunnerUsageView | None = Field(None, description="What the worker's runners use of the host.")


class WorkerView(BaseModel):
    name: str
    host: str
    state: str = Field(
        description="online, not_listening (lost a queue, takes it back), draining or offline (no heartbeat for a lease)"
    )
    device: Literal["cpu", "gpu"]
    device_name: str
    memory_bytes: int | None
    frameworks: list[str]
    versions: dict[str, Any]
    job_id: str | None = Field(description="The job it works on; null where that is somebody else's.")
    usage: UsageView | None = Field(description="How busy its device is; null while it is offline.")
    started_at: str
    heartbeat_at: str


class FamilyView(BaseModel):
    name: str
    kinds: list[str] = Field(description="The kinds of job that workers of this version run for it.")
    frameworks: list[str]
    dataset_kind: str
    default_preset: str
    presets: dict[str, Any] = Field(description="Each preset in full: `model`, and the `training` defaults it brings.")
    model_schema: dict[str, Any] = Field(description="JSON schema of `model`; any field overrides the preset's.")
    training_schema: dict[str, Any] = Field(description="JSON schema of `training`.")


class Owned(BaseModel):
    """What every key may use, and its owner change."""

    owner: str | None = Field(description="The name of the owner's first key; null: nobody's.")
    yours: bool = Field(description="It is this key's owner's.")
    may_change: bool = Field(description="This key may change it: it is yours, or nobody's and not built in.")


class DatasetView(Owned):
    name: str
    version: int | None = Field(description="The newest; null for a built-in set that nobody has used yet.")
    kind: str | None
    builtin: bool
    availability: Availability = Field(
        description="Whether a job can have it: a built-in set that nobody has used is registered by the first job, from "
        "files that are there (`on_first_use`) or by a download; `unavailable`: downloads are off."
    )
    sha256: str | None
    size_bytes: int | None
    classes: list[str] | None
    image: list[int] | None = Field(description="Height, width, channels.")
    split: str | None = Field(description="Where the test part comes from.")
    splits: dict[str, Any] | None = Field(description="Counts and class histogram of each part.")
    created_at: str | None


class DatasetVersionView(BaseModel):
    version: int
    sha256: str
    rows: dict[str, int] = Field(description="Images or documents of each part.")
    created_at: str


class DatasetDetail(DatasetView):
    versions: list[DatasetVersionView]


class Champion(BaseModel):
    version: int
    job_id: str | None = Field(description="The job that made it; null where that is somebody else's.")
    metrics: dict[str, Any]


class ModelView(Owned):
    name: str
    family: str
    framework: str
    latest_version: int
    updated_at: str
    champion: Champion | None = Field(description="The version that the name alone means.")
    aliases: dict[str, int]


class ModelVersionView(BaseModel):
    name: str
    version: int
    job_id: str | None = Field(description="The job that made it; null where that is somebody else's.")
    family: str
    framework: str
    dataset: str | None
    parent: str | None = Field(description="The model it was fine-tuned from.")
    metrics: dict[str, Any]
    description: str | None = None
    tags: dict[str, str] = {}
    created_at: str


class ModelDetail(Owned):
    name: str
    description: str | None = None
    aliases: dict[str, int]
    versions: list[ModelVersionView] = Field(description="Newest first.")


class ModelChangeView(BaseModel):
    change: Literal["set", "rollback", "delete", "register", "describe"]
    alias: str | None = Field(description="null: no alias moved")
    from_version: int | None
    to_version: int | None
    who: str = Field(description="The owner of the key, `job:<id>` or `system`.")
    why: str | None
    at: str


class MetricPair(BaseModel):
    a: Any
    b: Any
    difference: float | None = Field(description="b - a, where both are numbers.")


class ComparisonView(BaseModel):
    name: str
    a: ModelVersionView
    b: ModelVersionView
    same_dataset: bool = Field(description="Both were made and measured on the same data set version.")
    metrics: dict[str, MetricPair]


class LastTick(BaseModel):
    tick: str
    due_at: str
    outcome: TickOutcome
    job_id: str | None


class ScheduleView(BaseModel):
    id: str
    name: str
    cron: str
    timezone: str
    job: dict[str, Any] = Field(description="The complete spec; name and tags as templates.")
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
    utc: str
    local: str
    tick: str = Field(description="What {tick} will be.")


class TickView(BaseModel):
    tick: str
    due_at: str
    due_at_local: str
    manual: bool = Field(description="Run by hand.")
    outcome: TickOutcome
    job_id: str | None
    job_state: JobState | None
    reason: str | None = Field(description="Why there is no job (yet).")
    decided_at: str


class WebhookView(BaseModel):
    id: str
    name: str
    url: str
    events: list[EventType]
    tags: dict[str, str]
    match: str | None
    format: BodyFormat
    enabled: bool
    disabled_reason: str | None = Field(description="Why it was disabled, when nobody paused it.")
    old_secret_until: str | None = Field(description="Until then the secret before the last change signs, too.")
    created_at: str
    updated_at: str


class NewWebhookView(WebhookView):
    secret: str = Field(description="What signs; it is not shown again.")


class DeliveryView(BaseModel):
    id: str
    event_id: str = Field(description="The header `webhook-id`, the same at every attempt.")
    event_type: str
    state: DeliveryState
    attempts: int
    status: int | None = Field(description="HTTP status of the last answer.")
    error: str | None = Field(description="What was wrong with the last attempt.")
    milliseconds: float | None
    created_at: str
    next_at: str | None = Field(description="The next attempt; null when it is settled.")
    settled_at: str | None


class DeliveryDetail(DeliveryView):
    body: str = Field(description="The very text that is sent.")


class Readiness(BaseModel):
    status: Literal["ready", "degraded", "unready"]
    parts: dict[str, str] = Field(description="`ok`, or what is wrong, for database, migrations, broker.")

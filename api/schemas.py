"""Response models. Times are RFC 3339 in UTC; every collection is a `Page`.

Their fields are those of the client's types (`shaped`), and what only the OpenAPI document has: values of enumerations,
examples and nested objects.
"""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, Field

from api.shapes import shaped
from nightshift.client import resources, types
from nightshift.states import JobState
from shared.jobs.states import AttemptOutcome, StopRequest
from shared.schedules.models import CatchUp, Overlap, TickOutcome
from shared.sweeps.models import SweepState, TrialState
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
    whole_steps: int | None = Field(None, description="Of a shard: the rows of the whole job.")
    loss: float | None = None
    phase: str | None = Field(
        None, description="device, load, first_step, train, infer, validate, checkpoint, evaluate, write or finishing"
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


@shaped(types.JobHead)
class JobHead(BaseModel):
    """A job."""

    state: JobState


@shaped(types.JobData)
class JobView(JobHead):
    progress: Progress | None
    stop_requested: StopRequest | None
    error: JobErrorView | None
    copied_from: CopiedFromView | None = Field(description="The job that this one was copied from.")


class Accepted(JobHead):
    """The accepted job. `created` is false when the Idempotency-Key belongs to an existing job."""

    created: bool
    spec: dict[str, Any]


class RefusalView(BaseModel):
    """Why a job of a batch was refused: a problem document without `instance`."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldProblem]


@shaped(types.BatchItem)
class BatchItem(BaseModel):
    """What became of a job of a batch."""

    state: JobState | None
    error: RefusalView | None = Field(description="Why it was refused; null: it was submitted.")


class BatchAnswer(BaseModel):
    """What became of each job of a batch, in its order."""

    items: list[BatchItem]


@shaped(types.MetricPoint)
class MetricView(BaseModel):
    """One measured value."""


class EvidenceView(BaseModel):
    """The last state and output of a runner, kept when its attempt ends."""

    phase: str | None = Field(None, description="load, first_step, train, infer, validate, checkpoint, evaluate, …")
    step: int | None = None
    last_frames: list[dict[str, Any]] = Field([], description="Last messages, oldest first, with `seconds_before_end`.")
    log_tail: list[str] = Field([], description="Last lines of log and output, each with its level.")


@shaped(types.AttemptData)
class AttemptView(BaseModel):
    """One attempt to run a job."""

    outcome: AttemptOutcome | None = Field(description="How the attempt ended; null while it runs.")
    error: JobErrorView | None
    evidence: EvidenceView | None = Field(
        description="Null while it runs; for a lost attempt what had been written to SQL."
    )


@shaped(types.SystemData)
class SystemView(BaseModel):
    """Resource usage of a runner at one time."""


@shaped(types.Reason)
class ReasonView(BaseModel):
    """A reason for a job's state."""

    code: str = Field(examples=["jobs_ahead"], description="Code of the reason; docs/why.md lists all.")


class WhyView(BaseModel):
    """Why a job is in its state: what it waits for, what it is doing, how it ended."""

    id: str
    state: JobState
    sentence: str = Field(examples=["It is queued: the only worker that can run it is busy (cpu0@a with 3f…)."])
    reasons: list[ReasonView] = Field(
        description="Current reasons first, the decisive one at the top; then attempts that did not count."
    )


@shaped(types.CheckpointData)
class CheckpointView(BaseModel):
    """A checkpoint of a job."""


@shaped(types.ArtifactData)
class ArtifactView(BaseModel):
    """A file that a job wrote."""

    path: str = Field(examples=["model/model.safetensors"])


@shaped(types.LogLine)
class LogView(BaseModel):
    """A line of a job's log."""


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
    loaded: list[str] = Field([], description="Frameworks in its memory: their next job starts at once.")


@shaped(resources.Worker)
class WorkerView(BaseModel):
    """A worker and its device."""

    usage: UsageView | None = Field(description="Usage of its device; null while the worker is offline.")


@shaped(resources.Device)
class DeviceView(BaseModel):
    """A device in the ledger."""


@shaped(resources.InstalledProgram)
class ProgramView(BaseModel):
    """A program that jobs of kind `run` may name."""


@shaped(resources.Family)
class FamilyView(BaseModel):
    """A model family."""


@shaped(resources.LayerRow)
class LayerView(BaseModel):
    """A row of a model's summary."""


@shaped(resources.ModelSummary)
class ModelSummaryView(BaseModel):
    """The layers of a model."""

    rows: Literal["layers", "weights"] = Field(description="What the rows are.")
    layers: list[LayerView] | None = Field(description="In the order of the network; null: see `error`.")


@shaped(resources.Owned)
class Owned(BaseModel):
    """A resource that every key may use and only its owner may change."""


@shaped(resources.Dataset)
class DatasetView(Owned):
    """A data set, described by its newest version."""


#: A value of a table in JSON; texts are shortened.
Cell = bool | int | float | str | None


@shaped(resources.DatasetVersion)
class DatasetVersionView(BaseModel):
    """A version of a data set."""


class FrequentValue(BaseModel):
    """A value of a column, with the number of its rows."""

    value: Cell
    count: int


class OutliersView(BaseModel):
    """Numbers further from the middle half of a column than 1.5 times its length."""

    count: int
    low: float = Field(description="Smaller numbers are outliers.")
    high: float = Field(description="Larger numbers are outliers.")


class NotNumbersView(BaseModel):
    """The values that keep a column of text from being numbers, with the first of them."""

    count: int
    of: int = Field(description="Values that are not missing.")
    value: str
    row: int = Field(description="Its row, from 1.")
    line: int | None = Field(description="Its line in the CSV; null where that is not known.")


class ColumnView(BaseModel):
    """A column of a table, over all rows."""

    name: str
    type: str = Field(description="As Arrow names it: int64, double, string, date32[day], …")
    nulls: int = Field(description="Missing values, with NaN.")
    distinct: int | None = Field(description="Different values; null for nested and binary columns.")
    distinct_is_capped: bool = Field(description="Whether there are more different values than were counted.")
    min: Cell = Field(description="Of numbers, dates and times; infinite numbers are left out.")
    max: Cell
    mean: float | None
    top: list[FrequentValue] | None = Field(description="The most frequent values of text and of true and false.")
    outliers: OutliersView | None = Field(default=None, description="Of numbers; null where most are one number.")
    not_numbers: NotNumbersView | None = Field(
        default=None, description="The few values that make a column text of which 95 % or more are numbers."
    )


class Duplicates(BaseModel):
    """Rows that equal an earlier one."""

    count: int
    of: int = Field(description="Rows that were compared: all, or the first ten million.")


class CleaningReport(BaseModel):
    """What should be cleaned in a table: of the first columns, duplicates of all."""

    missing: int = Field(description="Missing values.")
    with_missing: list[str] = Field(description="Columns that have some.")
    duplicates: Duplicates | None = Field(description="null: the table has values that are not compared.")
    empty: list[str] = Field(description="Columns without any value.")
    constant: list[str] = Field(description="Columns with the same value in all rows.")
    outliers: int
    with_outliers: list[str] = Field(description="Columns that have some.")
    not_numbers: list[str] = Field(description="Columns of text that are nearly numbers.")


class TablePreview(BaseModel):
    """A look at a table."""

    columns: list[ColumnView] = Field(description="The first columns.")
    column_count: int = Field(description="All columns.")
    rows: list[list[Cell]] = Field(description="The first rows, in these columns.")
    report: CleaningReport | None = Field(
        default=None, description="What should be cleaned; null for versions from before there was a report."
    )


class FileView(BaseModel):
    """A file of a data set."""

    path: str
    size_bytes: int


class FilesPreview(BaseModel):
    """A look at files."""

    files: list[FileView] = Field(description="The first files by name.")


class DatasetDetail(DatasetView):
    """A data set with its versions."""

    versions: list[DatasetVersionView]
    preview: TablePreview | FilesPreview | None = Field(
        default=None, description="A look at a table or at files; null for images and text, which have a sample."
    )


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


@shaped(resources.ModelVersion)
class ModelVersionView(BaseModel):
    """A version of a model."""

    description: str | None = None
    tags: dict[str, str] = {}


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


@shaped(resources.Schedule)
class ScheduleView(BaseModel):
    """A schedule."""

    catch_up: CatchUp
    overlap: Overlap
    last_tick: LastTick | None


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


@shaped(types.TrialData)
class TrialView(BaseModel):
    """A trial of a sweep."""

    state: TrialState
    job_state: JobState | None


@shaped(types.SweepEvent)
class SweepEventView(BaseModel):
    """An event of a sweep."""


@shaped(types.SweepData)
class SweepView(BaseModel):
    """A sweep."""

    state: SweepState


class SweepDetail(SweepView):
    """A sweep with its trials."""

    trial_list: list[TrialView] = Field(description="The trials, in order.")
    events: list[SweepEventView] = Field(description="The newest events, oldest first.")


@shaped(resources.Webhook)
class WebhookView(BaseModel):
    """A webhook."""

    events: list[EventType]
    format: BodyFormat


class NewWebhookView(WebhookView):
    """A webhook with its signing secret."""

    secret: str = Field(description="Signs deliveries; it is not shown again.")


@shaped(resources.Delivery)
class DeliveryView(BaseModel):
    """The delivery of an event to a webhook."""

    state: DeliveryState


class DeliveryDetail(DeliveryView):
    """A delivery with its body."""

    body: str = Field(description="The exact body that is sent.")


class Readiness(BaseModel):
    """Readiness of the service."""

    status: Literal["ready", "degraded", "unready"]
    parts: dict[str, str] = Field(description="`ok` or the problem, for database, migrations and broker.")

"""Arguments and results of transitions, as frozen values."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from nightshift.states import JobState
from shared.fleet.plugins import InstalledPlugin
from shared.job_files.checkpoint_record import CheckpointRecord
from shared.jobs.states import StopRequest
from shared.specs.jobs import AnyJob


@dataclass(frozen=True)
class NewJob:
    """A job to submit."""

    owner_id: str
    spec: AnyJob
    body_hash: str | None = None
    idempotency_key: str | None = None
    #: Facts fixed at submission. `family` is shown for kinds whose spec does not name one.
    pinned: dict[str, Any] = field(default_factory=dict)
    #: The job it was copied from: id, name, changes.
    copied_from: dict[str, Any] | None = None

    @cached_property
    def spec_as_json(self) -> dict[str, Any]:
        """The complete spec, as it is stored and shown."""
        return self.spec.model_dump(mode="json")


@dataclass(frozen=True)
class Submitted:
    """The job of a submission."""

    job_id: str
    state: JobState
    created: bool  # False: it exists already, with the same idempotency key and body
    #: Whether it was created queued and its `run_at` has come: a worker may claim it now.
    is_due: bool = False


@dataclass(frozen=True)
class Claimer:
    """A worker that claims jobs, and its device."""

    worker: str
    device: str  # cpu | gpu
    device_label: str
    frameworks: frozenset[str]
    celery_task_id: str | None = None
    plugins: tuple[InstalledPlugin, ...] = ()
    takes_auto: bool = True


@dataclass(frozen=True)
class Lease:
    """The right of an attempt to write for its job, until a later fence replaces it."""

    job_id: str
    fence: int
    worker: str
    #: Every write renews the lease for this long (seconds).
    seconds: float = 30.0


@dataclass(frozen=True)
class Claimed:
    """A claimed job with its lease."""

    lease: Lease
    kind: str
    spec: dict[str, Any]
    pinned: dict[str, Any]
    checkpoints: list[CheckpointRecord]  # ready ones, newest first
    deadline_at: float | None
    owner_id: str
    #: A request from before the claim, e.g. `finish` of a paused job.
    stop_requested: StopRequest | None = None
    #: The devices that it holds (ids in the ledger), the worker's own first.
    devices: tuple[str, ...] = ()


@dataclass(frozen=True)
class AttemptStatus:
    """Status of an attempt after a write: its stop request, deadline and lease, by the database's clock."""

    stop_requested: StopRequest | None
    deadline_at: float | None
    lease_until: float
    now: float
    #: The job that this one is a shard of.
    part_of: str | None = None


#: Evidence kept of an attempt: number of last log lines, and the length each is cut to (characters).
LAST_LINES, LONGEST = 20, 300


@dataclass(frozen=True)
class Ending:
    """Evidence of how a runner ended."""

    exit_code: int | None = None
    signal: int | None = None
    peak_memory_bytes: int | None = None
    peak_device_memory_bytes: int | None = None
    #: phase, step, last_frames, log_tail (`worker.supervisor.runner_messages`).
    evidence: dict[str, Any] | None = None


@dataclass(frozen=True)
class MetricRow:
    """One measured value."""

    name: str
    step: int
    epoch: int
    value: float  # finite


@dataclass(frozen=True)
class LogRow:
    """One log line."""

    level: str
    message: str


@dataclass(frozen=True)
class SampleRow:
    """Resource usage of a runner, `age` seconds before it is written. None: not known."""

    age: float
    cpu_percent: float | None = None  # of one core
    memory_bytes: int | None = None
    gpu_percent: float | None = None
    gpu_memory_bytes: int | None = None


@dataclass(frozen=True)
class ArtifactRecord:
    """A file of an attempt to list as an artifact."""

    path: str
    stored_as: str
    sha256: str
    size_bytes: int
    media_type: str


@dataclass(frozen=True)
class ModelVersionRecord:
    """A model to register under `name` when the job succeeds; its version number is assigned then."""

    name: str
    family: str
    framework: str
    dataset: str | None = None
    parent: str | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    promotion: PromotionRecord | None = None
    description: str | None = None
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PromotionRecord:
    """Comparison of a new model with the version that `alias` named; `succeed` moves the alias if it is better."""

    alias: str
    metric: str
    evaluated_on: str  # data set with its version
    better: bool
    reason: str
    previous: int | None  # the version it was compared with, if any
    candidate: float | None
    champion: float | None
    lower_bound: float | None = None

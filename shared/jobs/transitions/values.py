"""What goes into transitions and comes out of them: small frozen values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from nightshift.states import JobState
from shared.job_files.checkpoint_record import CheckpointRecord
from shared.jobs.states import StopRequest
from shared.specs.jobs import AnyJob


@dataclass(frozen=True)
class NewJob:
    owner_id: str
    spec: AnyJob
    body_hash: str | None = None
    idempotency_key: str | None = None
    #: Facts fixed at submission. `family` is shown for kinds whose spec does not name one.
    pinned: dict[str, Any] = field(default_factory=dict)
    #: The job it was made like: id, name, changes.
    copied_from: dict[str, Any] | None = None


@dataclass(frozen=True)
class Submitted:
    job_id: str
    state: JobState
    created: bool  # False: the same idempotency key and body came before


@dataclass(frozen=True)
class Claimer:
    worker: str
    device: str  # cpu | gpu
    device_label: str
    frameworks: frozenset[str]
    celery_task_id: str | None = None


@dataclass(frozen=True)
class Lease:
    """The right to write for a job, until a later fence takes it away."""

    job_id: str
    fence: int
    worker: str
    #: Every write renews the lease for this long (seconds).
    seconds: float = 30.0


@dataclass(frozen=True)
class Claimed:
    lease: Lease
    kind: str
    spec: dict[str, Any]
    pinned: dict[str, Any]
    checkpoints: list[CheckpointRecord]  # ready ones, newest first
    deadline_at: float | None
    owner_id: str
    #: Kept from before, e.g. `finish` of a job that was waiting to go on.
    stop_requested: StopRequest | None = None


@dataclass(frozen=True)
class AttemptStatus:
    """Where an attempt stands after a write: what it is asked to do and how long it may (database clock)."""

    stop_requested: StopRequest | None
    deadline_at: float | None
    lease_until: float
    now: float


#: Evidence kept of an attempt: its last lines, each cut to so many characters.
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
    name: str
    step: int
    epoch: int
    value: float  # finite


@dataclass(frozen=True)
class LogRow:
    level: str
    message: str


@dataclass(frozen=True)
class SampleRow:
    """What a runner used, `age` seconds before it is written. None: cannot be known."""

    age: float
    cpu_percent: float | None = None  # of one core
    memory_bytes: int | None = None
    gpu_percent: float | None = None
    gpu_memory_bytes: int | None = None


@dataclass(frozen=True)
class ArtifactRecord:
    path: str
    stored_as: str
    sha256: str
    size_bytes: int
    media_type: str


@dataclass(frozen=True)
class ModelVersionRecord:
    """A model to register under `name` when the job succeeds; the version number is given then."""

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
    """How a new model did against the version that held `alias` then; `succeed` moves the alias, or says why not."""

    alias: str
    metric: str
    evaluated_on: str  # data set with its version
    better: bool
    reason: str
    previous: int | None  # the version it was compared with; None: there was none
    candidate: float | None
    champion: float | None
    lower_bound: float | None = None

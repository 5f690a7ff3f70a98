"""The tables of jobs: Job, JobDependency, Attempt, JobEvent, JobLog, Metric, CurveSummary, Checkpoint, Artifact.

Times are seconds since the Unix epoch (UTC) in double precision, always read from the database's clock
(`shared.clock.db_now`), so leases are compared on one clock whatever the clocks of the hosts.

Events, log lines and metrics of a job carry a sequence number `seq`, drawn from `Job.event_seq` by the UPDATE that
takes the row lock. Within a job, sequence order is therefore commit order, and an event stream resumes without gaps.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, CheckConstraint, Column, Computed, Float, Index, String, Text, UniqueConstraint
from sqlmodel import Field, SQLModel

from shared.db.partial_index import partial_index

#: Wait after which a job outranks a new one that is one priority level higher (seconds). Too low: priorities have
#: little effect. Too high: low priorities wait long behind a steady stream. At 600 s, priority 0 outranks a new
#: priority 9 after 90 minutes.
AGEING_SECONDS = 600

#: What a worker must have for a job: `device/framework/plug-in#needs`.
REQUIRES = "device || '/' || coalesce(framework, '') || '/' || coalesce(plugin, '') || coalesce('#' || needs, '')"


class Job(SQLModel, table=True):
    """One accepted job. Only `shared.jobs.transitions` writes `state`."""

    __tablename__ = "jobs"
    __table_args__ = (
        UniqueConstraint("owner_id", "idempotency_key"),
        CheckConstraint("fence >= 0"),
        CheckConstraint("(state = 'running') = (lease_until IS NOT NULL)", name="lease_iff_running"),
        partial_index("ix_jobs_claim", "rank", "id", where="state = 'queued'"),
        # For `shared.jobs.fronts`.
        partial_index("ix_jobs_requires", "requires", "priority", "run_at", "id", where="state = 'queued'"),
        Index("ix_jobs_newest", "owner_id", "created_at", "id", "archived_at"),
        # For `shared.jobs.queries.newest`, and the jobs of all owners, newest first.
        Index("ix_jobs_states", "owner_id", "state", "archived_at", "created_at", "id"),
        Index("ix_jobs_created", "created_at", "id", "archived_at"),
        # For the list of a kind or family of which there are few.
        Index("ix_jobs_kinds", "owner_id", "kind", "created_at", "id"),
        Index("ix_jobs_families", "owner_id", "family", "created_at", "id"),
        partial_index(
            "ix_jobs_urgent",
            "rank",
            "id",
            where="state = 'queued' AND preempts",
            sqlite="state = 'queued' AND preempts = 1",
        ),
        # An urgent job has one victim at a time.
        partial_index("ix_jobs_makes_room", "makes_room_for", where="state = 'running'", unique=True),
        # Unfinished jobs have no `finished_at`: few rows at the front of the index, however large the table.
        Index("ix_jobs_ended", "finished_at", "state"),
        partial_index("ix_jobs_deadline", "finished_at", "deadline_at", where="deadline_at IS NOT NULL"),
        partial_index("ix_jobs_part_of", "part_of", "id", where="part_of IS NOT NULL"),
    )

    id: str = Field(primary_key=True, max_length=32)
    owner_id: str = Field(max_length=64)  # the owner of the key that submitted it
    idempotency_key: str | None = Field(default=None, max_length=255)
    body_hash: str | None = Field(default=None, max_length=64)

    kind: str = Field(max_length=16)
    name: str | None = Field(default=None, max_length=200)
    family: str | None = Field(default=None, max_length=16)
    framework: str | None = Field(default=None, max_length=16)
    dataset: str | None = Field(default=None, max_length=200)
    #: The plug-in that it needs (`shared.fleet.plugins`); None: what every worker has. The first attempt pins its
    #: version: the hash of the package's list of files, and the version of the state in its checkpoints.
    plugin: str | None = Field(default=None, max_length=32)
    plugin_record: str | None = Field(default=None, max_length=64)
    plugin_state: int | None = None
    device: str = Field(max_length=8)  # auto | cpu | gpu
    #: What it needs of its devices beyond their kind (`shared.fleet.needs`); null: any one device.
    needs: str | None = Field(default=None, max_length=700)
    #: What a worker must have, apart from the plug-in's version: `shared.jobs.fronts.requires`. Not stored on
    #: SQLite, which can add no stored column to a table.
    requires: str | None = Field(default=None, sa_column=Column(String(800), Computed(REQUIRES)))
    tags: dict[str, str] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    spec: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    #: Facts fixed at submission or first claim, e.g. the data set version (content hash) the job keeps.
    pinned: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))

    state: str = Field(max_length=16)
    fence: int = 0  # number of the current attempt; 0 before the first
    worker: str | None = Field(default=None, max_length=200)  # holder of the lease
    lease_until: float | None = Field(default=None, sa_column=Column(Float(53)))
    priority: int = 5
    run_at: float = Field(sa_column=Column(Float(53), nullable=False))
    #: The lowest is claimed first: `run_at` minus the priority in seconds. As a rank is a point in time, fewer and
    #: fewer new jobs overtake a waiting one: ageing without updating a row.
    rank: float | None = Field(
        default=None,
        sa_column=Column(Float(53), Computed(f"run_at - {AGEING_SECONDS}.0 * priority", persisted=True)),
    )
    deadline_at: float | None = Field(default=None, sa_column=Column(Float(53)))
    timeout_seconds: float | None = Field(default=None, sa_column=Column(Float(53)))
    stop_requested: str | None = Field(default=None, max_length=16)
    #: May preempt a running job of lower priority (`preempt` of its spec).
    preempts: bool = False
    #: The urgent job for which it is preempted; when it is not running, the last one.
    makes_room_for: str | None = Field(default=None, max_length=32)
    lost_streak: int = 0  # crashes in a row without a new checkpoint
    retries: int = 0  # retryable failures charged so far
    max_retries: int = 2
    checkpoint_id: str | None = Field(default=None, max_length=32)
    after: list[str] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    #: The job that it is a shard of (`shared.jobs.transitions.sharding`).
    part_of: str | None = Field(default=None, max_length=32)
    #: Free text of users; like `name`, `tags` and `priority` it may be edited, which never changes the spec.
    notes: str | None = Field(default=None, sa_column=Column(Text))
    #: The job it was copied from: id, name, and the changes to its spec.
    copied_from: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))

    progress: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    progress_seq: int = 0
    error: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    result: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    event_seq: int = 0

    created_at: float = Field(sa_column=Column(Float(53), nullable=False))
    started_at: float | None = Field(default=None, sa_column=Column(Float(53)))  # first claim
    finished_at: float | None = Field(default=None, sa_column=Column(Float(53)))
    #: Hidden from lists since then; without any other effect.
    archived_at: float | None = Field(default=None, sa_column=Column(Float(53)))


class DeletedJob(SQLModel, table=True):
    """Record of a deleted job: its id and key, whether its files remain, and its share of the exported counters."""

    __tablename__ = "deleted_jobs"
    __table_args__ = (
        UniqueConstraint("owner_id", "idempotency_key"),
        partial_index("ix_deleted_jobs_files", "finished_at", where="has_files", sqlite="has_files = 1"),
    )

    id: str = Field(primary_key=True, max_length=32)
    owner_id: str = Field(max_length=64)
    #: A repeated submission must not create a second job.
    idempotency_key: str | None = Field(default=None, max_length=255)
    body_hash: str | None = Field(default=None, max_length=64)
    #: Null for a job that an older version of Nightshift deleted: it is not counted.
    kind: str | None = Field(default=None, max_length=16)
    state: str | None = Field(default=None, max_length=16)
    started_at: float | None = Field(default=None, sa_column=Column(Float(53)))
    #: The pruner has not yet removed its folder.
    has_files: bool = True
    finished_at: float = Field(sa_column=Column(Float(53), nullable=False))
    deleted_at: float = Field(sa_column=Column(Float(53), nullable=False))


class DeletedAttempts(SQLModel, table=True):
    """Number of attempts of a deleted job that ended with an outcome."""

    __tablename__ = "deleted_attempts"

    outcome: str = Field(primary_key=True, max_length=16)
    job_id: str = Field(primary_key=True, foreign_key="deleted_jobs.id", max_length=32, ondelete="CASCADE")
    attempts: int


class JobDependency(SQLModel, table=True):
    """`job_id` waits until `depends_on` has succeeded."""

    __tablename__ = "job_dependencies"
    __table_args__ = (Index("ix_job_dependencies_on", "depends_on"),)

    job_id: str = Field(primary_key=True, foreign_key="jobs.id", max_length=32, ondelete="CASCADE")
    depends_on: str = Field(primary_key=True, max_length=32)


class Attempt(SQLModel, table=True):
    """One claim of a job: `(job_id, fence)`. `outcome` is null while it runs."""

    __tablename__ = "attempts"
    __table_args__ = (
        Index("ix_attempts_task", "celery_task_id"),
        Index("ix_attempts_started", "started_at"),
        # For attempts that ran during the last hours; those still running come first in it.
        Index("ix_attempts_ended", "ended_at"),
    )

    job_id: str = Field(primary_key=True, foreign_key="jobs.id", max_length=32, ondelete="CASCADE")
    fence: int = Field(primary_key=True)
    worker: str = Field(max_length=200)
    device: str | None = Field(default=None, max_length=100)
    celery_task_id: str | None = Field(default=None, max_length=64)
    started_at: float = Field(sa_column=Column(Float(53), nullable=False))
    ended_at: float | None = Field(default=None, sa_column=Column(Float(53)))
    outcome: str | None = Field(default=None, max_length=16)
    error: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    exit_code: int | None = None
    signal: int | None = None
    peak_memory_bytes: int | None = Field(default=None, sa_column=Column(BigInteger))
    peak_device_memory_bytes: int | None = Field(default=None, sa_column=Column(BigInteger))
    #: Last known state of its runner: phase, step, last_frames, log_tail.
    evidence: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    #: Environment of the run: host, versions, processor, GPU, driver, threads, commit, command.
    environment: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    resumed_from: str | None = Field(default=None, max_length=32)  # checkpoint id
    resumed_step: int | None = Field(default=None, sa_column=Column(BigInteger))


class JobEvent(SQLModel, table=True):
    """One event of a job: `state`, `checkpoint`, `artifact`, `promotion`, `stop_requested`, `attempt`, `edited`."""

    __tablename__ = "job_events"

    job_id: str = Field(primary_key=True, max_length=32)  # no foreign key: see `shared.db.removals`
    seq: int = Field(primary_key=True)
    type: str = Field(max_length=24)
    at: float = Field(sa_column=Column(Float(53), nullable=False))
    fence: int = 0
    data: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))


class JobLog(SQLModel, table=True):
    """One line that a runner logged or printed."""

    __tablename__ = "job_logs"

    job_id: str = Field(primary_key=True, max_length=32)  # no foreign key: see `shared.db.removals`
    seq: int = Field(primary_key=True)
    at: float = Field(sa_column=Column(Float(53), nullable=False))
    fence: int
    level: str = Field(max_length=16)  # debug | info | warning | error | stdout | stderr
    message: str = Field(sa_column=Column(Text, nullable=False))


class Metric(SQLModel, table=True):
    """One measured value: exactly one row per (job, name, step), also after crashes and resumed attempts."""

    __tablename__ = "metrics"
    __table_args__ = (Index("ix_metrics_seq", "job_id", "seq"),)

    job_id: str = Field(primary_key=True, max_length=32)  # no foreign key: see `shared.db.removals`
    name: str = Field(primary_key=True, max_length=64)
    step: int = Field(primary_key=True, sa_type=BigInteger)
    epoch: int
    value: float = Field(sa_column=Column(Float(53), nullable=False))
    at: float = Field(sa_column=Column(Float(53), nullable=False))
    fence: int
    seq: int


class CurveSummary(SQLModel, table=True):
    """Last, lowest and highest value of a curve, written with its points, so tables of jobs need not read them."""

    __tablename__ = "curve_summaries"

    job_id: str = Field(primary_key=True, foreign_key="jobs.id", max_length=32, ondelete="CASCADE")
    name: str = Field(primary_key=True, max_length=64)
    step: int = Field(sa_column=Column(BigInteger, nullable=False))  # of the last point
    last: float = Field(sa_column=Column(Float(53), nullable=False))
    lowest: float = Field(sa_column=Column(Float(53), nullable=False))
    highest: float = Field(sa_column=Column(Float(53), nullable=False))


class SystemSample(SQLModel, table=True):
    """Resource usage of an attempt's runner at one time. Not a metric: metrics are reproducible from the job alone."""

    __tablename__ = "system_samples"

    job_id: str = Field(primary_key=True, max_length=32)  # no foreign key: see `shared.db.removals`
    fence: int = Field(primary_key=True)
    at: float = Field(sa_column=Column(Float(53), primary_key=True))
    cpu_percent: float | None = Field(default=None, sa_column=Column(Float(53)))  # of one core: 200 is two cores
    memory_bytes: int | None = Field(default=None, sa_column=Column(BigInteger))  # resident
    gpu_percent: float | None = Field(default=None, sa_column=Column(Float(53)))
    gpu_memory_bytes: int | None = Field(default=None, sa_column=Column(BigInteger))


class Checkpoint(SQLModel, table=True):
    """A complete, hashed checkpoint on disk. The row is written only after the file is renamed into place."""

    __tablename__ = "checkpoints"
    __table_args__ = (Index("ix_checkpoints_job", "job_id", "step"),)

    id: str = Field(primary_key=True, max_length=32)
    job_id: str = Field(foreign_key="jobs.id", max_length=32, ondelete="CASCADE")
    fence: int
    step: int = Field(sa_column=Column(BigInteger, nullable=False))
    epoch: int
    path: str = Field(max_length=300)  # relative to the job's folder (shared.job_files.layout.job_dir)
    sha256: str = Field(max_length=64)
    size_bytes: int = Field(sa_column=Column(BigInteger, nullable=False))
    is_best: bool = False
    state: str = Field(default="ready", max_length=16)  # ready | quarantined | deleted
    created_at: float = Field(sa_column=Column(Float(53), nullable=False))


class Artifact(SQLModel, table=True):
    """A complete, hashed output file of a job; `path` is the name shown to users."""

    __tablename__ = "artifacts"

    job_id: str = Field(primary_key=True, foreign_key="jobs.id", max_length=32, ondelete="CASCADE")
    path: str = Field(primary_key=True, max_length=200)
    fence: int
    #: Relative to the storage root; contains the fence, so attempts never overwrite each other's files.
    stored_as: str = Field(max_length=300)
    sha256: str = Field(max_length=64)
    size_bytes: int = Field(sa_column=Column(BigInteger, nullable=False))
    media_type: str = Field(max_length=100)
    created_at: float = Field(sa_column=Column(Float(53), nullable=False))

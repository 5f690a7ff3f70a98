"""Tables of sweeps, their trials and their events.

`(sweep_id, number)` is the primary key of a trial: the process that inserts its row submits its job in the same
transaction. Times are seconds since the epoch on the database's clock.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, BigInteger, Column, Float, Index, UniqueConstraint
from sqlmodel import Field, SQLModel

from shared.db.partial_index import partial_index


class SweepState(StrEnum):
    """The state of a sweep."""

    #: Starts trials until it has all of them.
    RUNNING = "running"
    #: Starts no trial; its jobs wait at a checkpoint.
    PAUSED = "paused"
    #: Starts no trial; its jobs finish with what they have.
    STOPPING = "stopping"
    #: Final: all trials have ended and one has a value.
    SUCCEEDED = "succeeded"
    #: Final: all trials have ended and none has a value, or it could not go on; `outcome` has the reason then.
    FAILED = "failed"
    #: Final: stopped by request, with the best of the trials so far.
    STOPPED = "stopped"
    #: Final: cancelled by request; nothing is done with the best trial.
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether only `add_trials` changes the state again."""
        return self not in (SweepState.RUNNING, SweepState.PAUSED, SweepState.STOPPING)


class TrialState(StrEnum):
    """The state of a trial; all but RUNNING are final."""

    #: Its job has not ended.
    RUNNING = "running"
    COMPLETE = "complete"
    #: Its job was asked to finish early; it has a value all the same.
    PRUNED = "pruned"
    #: Its job failed, or has no value of the objective.
    FAILED = "failed"
    CANCELLED = "cancelled"


class Sweep(SQLModel, table=True):
    """A job's spec, the space of its parameters, and the trials made of them. `shared.sweeps.transitions` writes it."""

    __tablename__ = "sweeps"
    __table_args__ = (
        UniqueConstraint("owner_id", "idempotency_key"),
        Index("ix_sweeps_newest", "owner_id", "created_at", "id"),
        partial_index("ix_sweeps_unfinished", "id", where="finished_at IS NULL"),
    )

    id: str = Field(primary_key=True, max_length=32)
    owner_id: str = Field(max_length=64)  # the owner of the key that submitted it, and of its jobs
    idempotency_key: str | None = Field(default=None, max_length=255)
    body_hash: str | None = Field(default=None, max_length=64)
    name: str | None = Field(default=None, max_length=200)
    state: str = Field(max_length=16)
    #: The spec of every trial's job without the parameters, with the versions of data set and model fixed.
    job: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    #: Facts fixed at submission for every job, as `Job.pinned`.
    pinned: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    #: Parameters by dotted path (`shared.sweeps.space`).
    space: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    metric: str = Field(max_length=100)
    direction: str = Field(max_length=3)  # max | min
    trials: int
    concurrency: int
    sampler: str = Field(max_length=16)
    pruner: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    seed: int = Field(sa_type=BigInteger)
    on_best: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    #: Number of trials started, and of the next one: the fence of a process that starts a trial.
    started: int = 0
    #: Number of the best trial; null while none has a value.
    best: int | None = None
    #: Share of each parameter in the differences of the objective; null: not known.
    importance: dict[str, float] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    #: What was done with the best trial at the end: registered, job_id, schedule, refused.
    #: `failed_because`: why the sweep could not go on.
    outcome: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    event_seq: int = 0
    created_at: float = Field(sa_column=Column(Float(53), nullable=False))
    finished_at: float | None = Field(default=None, sa_column=Column(Float(53)))


class SweepTrial(SQLModel, table=True):
    """One choice of parameters, and the job that measures it."""

    __tablename__ = "sweep_trials"
    __table_args__ = (
        Index("ix_sweep_trials_job", "job_id", unique=True),
        partial_index("ix_sweep_trials_running", "sweep_id", where="state = 'running'"),
    )

    sweep_id: str = Field(primary_key=True, foreign_key="sweeps.id", max_length=32, ondelete="CASCADE")
    number: int = Field(primary_key=True)
    job_id: str = Field(max_length=32)  # no foreign key: the job may be deleted
    params: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    state: str = Field(max_length=16)
    #: The pruner has asked its job to finish.
    pruning: bool = False
    #: The pause of the sweep has asked its job to pause; the resume of the sweep resumes it.
    held: bool = False
    #: The objective, once its job has succeeded.
    value: float | None = Field(default=None, sa_column=Column(Float(53)))
    #: Why it has no value.
    reason: str | None = Field(default=None, max_length=500)
    #: What the pruner has seen: the values of its metric, and the step of the last one.
    reports: list[float] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    reported_step: int = Field(default=0, sa_type=BigInteger)
    #: Steps that its job had done when it ended.
    steps: int | None = Field(default=None, sa_column=Column(BigInteger))
    #: What Optuna's sampler and pruner remember of it.
    attrs: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    started_at: float = Field(sa_column=Column(Float(53), nullable=False))
    ended_at: float | None = Field(default=None, sa_column=Column(Float(53)))


class SweepEvent(SQLModel, table=True):
    """One event of a sweep, in the order of `seq`: `state`, `trial`, `changed`, `best`, `problem`, `recovered`."""

    __tablename__ = "sweep_events"

    sweep_id: str = Field(primary_key=True, foreign_key="sweeps.id", max_length=32, ondelete="CASCADE")
    seq: int = Field(primary_key=True)
    type: str = Field(max_length=24)
    at: float = Field(sa_column=Column(Float(53), nullable=False))
    data: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))

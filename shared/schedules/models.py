"""Tables of schedules and of their ticks with their outcomes.

`(schedule_id, due_at)` is unique: the process that inserts the row of a tick submits its job in the same transaction.
Times are seconds since the epoch on the database's clock.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, CheckConstraint, Column, Float, Index, UniqueConstraint, false
from sqlmodel import Field, SQLModel


class CatchUp(StrEnum):
    """Which ticks missed during an outage are run afterwards."""

    NONE = "none"
    #: The newest one.
    LATEST = "latest"
    #: The newest `catch_up_limit`, oldest first.
    ALL = "all"


class Overlap(StrEnum):
    """Action of a tick while a job of its schedule is unfinished."""

    SKIP = "skip"
    #: The job is submitted after the previous one has ended.
    QUEUE = "queue"
    CANCEL_RUNNING = "cancel_running"


class TickOutcome(StrEnum):
    """Outcome of a tick."""

    #: `job_id` is its job.
    SUBMITTED = "submitted"
    #: Waits for the previous job (overlap `queue`); the scheduler changes it to SUBMITTED.
    WAITING = "waiting"
    #: A job of the schedule was unfinished (overlap `skip`), or nothing has changed (`skip_if_unchanged`).
    SKIPPED = "skipped"
    #: Too late for the catch-up policy.
    MISSED = "missed"
    #: The job could not be submitted; see `reason`.
    FAILED = "failed"


class Schedule(SQLModel, table=True):
    """A cron expression and the job it submits."""

    __tablename__ = "schedules"
    __table_args__ = (
        UniqueConstraint("owner_id", "name"),
        CheckConstraint("next_at IS NULL OR enabled", name="due_only_if_enabled"),
        Index("ix_schedules_due", "next_at"),
    )

    id: str = Field(primary_key=True, max_length=32)
    owner_id: str = Field(max_length=64)
    name: str = Field(max_length=100)
    cron: str = Field(max_length=100)
    timezone: str = Field(max_length=64)
    #: A complete spec; its name and tags may hold {date} and {tick}.
    job: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    enabled: bool = True
    catch_up: str = Field(max_length=8)
    catch_up_limit: int
    max_lateness_seconds: float | None = Field(default=None, sa_column=Column(Float(53)))
    overlap: str = Field(max_length=16)
    #: Skip a tick while data, settings and parent model are the same as in the last job that succeeded.
    skip_if_unchanged: bool = Field(default=False, sa_column_kwargs={"server_default": false()})
    #: The earliest tick without an outcome; null while paused.
    next_at: float | None = Field(default=None, sa_column=Column(Float(53)))
    created_at: float = Field(sa_column=Column(Float(53), nullable=False))
    updated_at: float = Field(sa_column=Column(Float(53), nullable=False))


class ScheduleTick(SQLModel, table=True):
    """One due time of a schedule and its outcome."""

    __tablename__ = "schedule_ticks"
    __table_args__ = (
        CheckConstraint("(outcome = 'submitted') = (job_id IS NOT NULL)", name="job_iff_submitted"),
        Index("ix_schedule_ticks_job", "job_id"),
        Index("ix_schedule_ticks_outcome", "outcome", "schedule_id", "due_at"),
    )

    schedule_id: str = Field(primary_key=True, max_length=32)  # no foreign key: see `shared.db.removals`
    due_at: float = Field(sa_column=Column(Float(53), primary_key=True))
    manual: bool  # requested by a user; `due_at` is the time of the request
    outcome: str = Field(max_length=16)
    job_id: str | None = Field(default=None, max_length=32)
    reason: str | None = Field(default=None, max_length=500)
    decided_at: float = Field(sa_column=Column(Float(53), nullable=False))

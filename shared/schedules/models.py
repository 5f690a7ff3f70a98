"""Schedules, and every tick with what became of it.

`(schedule_id, due_at)` is unique: whoever inserts the row of a tick makes its job, in the same transaction. Times are
seconds since the epoch on the database's clock.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, CheckConstraint, Column, Float, Index, UniqueConstraint, false
from sqlmodel import Field, SQLModel


class CatchUp(StrEnum):
    """What becomes of ticks that nobody was there to see."""

    NONE = "none"
    #: The newest of them.
    LATEST = "latest"
    #: The newest `catch_up_limit` of them, oldest first.
    ALL = "all"


class Overlap(StrEnum):
    """What a tick does when a job of its schedule is not final yet."""

    SKIP = "skip"
    #: The job is made when the one before has ended.
    QUEUE = "queue"
    CANCEL_RUNNING = "cancel_running"


class TickOutcome(StrEnum):
    #: `job_id` names its job.
    SUBMITTED = "submitted"
    #: For the job before it (overlap `queue`); the scheduler moves it to SUBMITTED.
    WAITING = "waiting"
    #: A job of the schedule was not final (overlap `skip`), or nothing has changed (`skip_if_unchanged`).
    SKIPPED = "skipped"
    #: Too late for the catch-up policy.
    MISSED = "missed"
    #: The job could not be made; `reason` says why.
    FAILED = "failed"


class Schedule(SQLModel, table=True):
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
    #: A tick makes no job while data, settings and parent model are those of the last one that succeeded.
    skip_if_unchanged: bool = Field(default=False, sa_column_kwargs={"server_default": false()})
    #: The earliest tick that nobody has decided yet; null while paused.
    next_at: float | None = Field(default=None, sa_column=Column(Float(53)))
    created_at: float = Field(sa_column=Column(Float(53), nullable=False))
    updated_at: float = Field(sa_column=Column(Float(53), nullable=False))


class ScheduleTick(SQLModel, table=True):
    __tablename__ = "schedule_ticks"
    __table_args__ = (
        CheckConstraint("(outcome = 'submitted') = (job_id IS NOT NULL)", name="job_iff_submitted"),
        Index("ix_schedule_ticks_job", "job_id"),
        Index("ix_schedule_ticks_outcome", "outcome", "schedule_id", "due_at"),
    )

    schedule_id: str = Field(primary_key=True, max_length=32)  # no foreign key: see `shared.db.removals`
    due_at: float = Field(sa_column=Column(Float(53), primary_key=True))
    manual: bool  # run by hand; `due_at` is when that was asked
    outcome: str = Field(max_length=16)
    job_id: str | None = Field(default=None, max_length=32)
    reason: str | None = Field(default=None, max_length=500)
    decided_at: float = Field(sa_column=Column(Float(53), nullable=False))

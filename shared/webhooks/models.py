"""Webhooks, and what is to be or was delivered to each: the outbox.

A row of `webhook_deliveries` is written in the transaction of the event that it tells of. Times are seconds since the
epoch on the database's clock.
"""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import JSON, Column, Float, Index, Text, UniqueConstraint, text
from sqlmodel import Field, SQLModel


class EventType(StrEnum):
    """What a webhook may ask for."""

    JOB_STARTED = "job.started"
    JOB_PAUSED = "job.paused"
    #: An attempt ended without success and the job is back in the queue.
    JOB_RETRIED = "job.retried"
    JOB_SUCCEEDED = "job.succeeded"
    JOB_FAILED = "job.failed"
    JOB_CANCELLED = "job.cancelled"
    #: A gate moved an alias to what a job made.
    MODEL_PROMOTED = "model.promoted"
    #: A gate left the alias where it was.
    MODEL_PROMOTION_REFUSED = "model.promotion_refused"
    #: An alias points at another version, whoever moved it.
    MODEL_ALIAS_MOVED = "model.alias_moved"
    MODEL_ROLLED_BACK = "model.rolled_back"
    MODEL_VERSION_DELETED = "model.version_deleted"


#: Asked for by hand; every webhook gets it.
TEST = "webhook.test"


class BodyFormat(StrEnum):
    #: `{"type", "timestamp", "data"}`, as the Standard Webhooks specification has it.
    EVENT = "event"
    #: `{"text"}`: what Slack, Mattermost and Rocket.Chat show as a message.
    SLACK = "slack"


class DeliveryState(StrEnum):
    #: To be sent at `next_at`, or being sent until `lease_until`.
    PENDING = "pending"
    DELIVERED = "delivered"
    #: Given up; it can be sent again by hand.
    DEAD = "dead"


class Webhook(SQLModel, table=True):
    """Where to send what. A secret is kept in clear, because signing needs it."""

    __tablename__ = "webhooks"
    __table_args__ = (UniqueConstraint("owner_id", "name"),)

    id: str = Field(primary_key=True, max_length=32)
    owner_id: str = Field(max_length=64)
    name: str = Field(max_length=100)
    url: str = Field(max_length=2000)
    events: list[str] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    #: Tags that a job must have, all of them.
    tags: dict[str, str] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    #: A pattern such as `digits*`, for the name of the job or the model.
    match: str | None = Field(default=None, max_length=200)
    format: str = Field(max_length=8)
    secret: str = Field(max_length=100)
    #: Signs beside the present one until `old_secret_until`, so that receivers can change over.
    old_secret: str | None = Field(default=None, max_length=100)
    old_secret_until: float | None = Field(default=None, sa_column=Column(Float(53)))
    enabled: bool = True
    #: Why it was disabled, when nobody paused it.
    disabled_reason: str | None = Field(default=None, max_length=500)
    dead_streak: int = 0  # deliveries given up since the last that arrived
    created_at: float = Field(sa_column=Column(Float(53), nullable=False))
    updated_at: float = Field(sa_column=Column(Float(53), nullable=False))


class WebhookDelivery(SQLModel, table=True):
    """One event for one webhook. `attempts` is the fence: it counts claims, and only the newest claim settles."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        UniqueConstraint("webhook_id", "event_id"),
        Index(
            "ix_webhook_deliveries_due",
            "next_at",
            sqlite_where=text("state = 'pending'"),
            postgresql_where=text("state = 'pending'"),
        ),
        Index(
            "ix_webhook_deliveries_leased",
            "lease_until",
            sqlite_where=text("lease_until IS NOT NULL"),
            postgresql_where=text("lease_until IS NOT NULL"),
        ),
        Index("ix_webhook_deliveries_newest", "webhook_id", "created_at", "id"),
        Index("ix_webhook_deliveries_old", "created_at", "state"),
    )

    id: str = Field(primary_key=True, max_length=32)
    webhook_id: str = Field(max_length=32)  # no foreign key: see `shared.db.removals`
    event_id: str = Field(max_length=64)
    event_type: str = Field(max_length=32)
    body: str = Field(sa_column=Column(Text, nullable=False))  # the very text that is sent
    state: str = Field(default="pending", max_length=16)
    attempts: int = 0
    #: Attempts before it was sent again by hand: those that count towards giving up come after.
    attempts_before: int = 0
    next_at: float = Field(sa_column=Column(Float(53), nullable=False))
    lease_until: float | None = Field(default=None, sa_column=Column(Float(53)))
    status: int | None = None  # the last answer's HTTP status
    error: str | None = Field(default=None, max_length=500)
    milliseconds: float | None = Field(default=None, sa_column=Column(Float(53)))
    created_at: float = Field(sa_column=Column(Float(53), nullable=False))
    settled_at: float | None = Field(default=None, sa_column=Column(Float(53)))

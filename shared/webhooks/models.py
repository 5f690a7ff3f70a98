"""Tables of webhooks and of their deliveries (the outbox).

A row of `webhook_deliveries` is written in the transaction of its event. Times are seconds since the epoch on the
database's clock.
"""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import JSON, Column, Float, Index, Text, UniqueConstraint
from sqlmodel import Field, SQLModel

from shared.db.partial_index import partial_index


class EventType(StrEnum):
    """Events that a webhook can subscribe to."""

    JOB_STARTED = "job.started"
    JOB_PAUSED = "job.paused"
    #: An attempt ended without success and the job is back in the queue.
    JOB_RETRIED = "job.retried"
    JOB_SUCCEEDED = "job.succeeded"
    JOB_FAILED = "job.failed"
    JOB_CANCELLED = "job.cancelled"
    #: A promotion gate moved an alias to the model of a job.
    MODEL_PROMOTED = "model.promoted"
    #: A promotion gate left the alias unchanged.
    MODEL_PROMOTION_REFUSED = "model.promotion_refused"
    #: An alias points at another version, moved by a gate or a user.
    MODEL_ALIAS_MOVED = "model.alias_moved"
    MODEL_ROLLED_BACK = "model.rolled_back"
    MODEL_VERSION_DELETED = "model.version_deleted"


#: Sent on request to any webhook.
TEST = "webhook.test"


class BodyFormat(StrEnum):
    """Format of the request body."""

    #: `{"type", "timestamp", "data"}` of the Standard Webhooks specification.
    EVENT = "event"
    #: `{"text"}`, a message in Slack, Mattermost and Rocket.Chat.
    SLACK = "slack"


class DeliveryState(StrEnum):
    """State of a delivery."""

    #: To be sent at `next_at`, or being sent until `lease_until`.
    PENDING = "pending"
    DELIVERED = "delivered"
    #: Failed for good; it can be sent again on request.
    DEAD = "dead"


class Webhook(SQLModel, table=True):
    """A subscription to events. The secret is stored in clear text, because signing needs it."""

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
    #: Also used for signing until `old_secret_until`, so that receivers can switch to the new secret.
    old_secret: str | None = Field(default=None, max_length=100)
    old_secret_until: float | None = Field(default=None, sa_column=Column(Float(53)))
    enabled: bool = True
    #: Why it was disabled automatically; None if a user paused it.
    disabled_reason: str | None = Field(default=None, max_length=500)
    dead_streak: int = 0  # failed deliveries since the last successful one
    created_at: float = Field(sa_column=Column(Float(53), nullable=False))
    updated_at: float = Field(sa_column=Column(Float(53), nullable=False))


class WebhookDelivery(SQLModel, table=True):
    """One event for one webhook. `attempts` counts claims and is the fence: only the newest claim can settle it."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        UniqueConstraint("webhook_id", "event_id"),
        partial_index("ix_webhook_deliveries_due", "next_at", where="state = 'pending'"),
        partial_index("ix_webhook_deliveries_leased", "lease_until", where="lease_until IS NOT NULL"),
        Index("ix_webhook_deliveries_newest", "webhook_id", "created_at", "id"),
        Index("ix_webhook_deliveries_old", "created_at", "state"),
    )

    id: str = Field(primary_key=True, max_length=32)
    webhook_id: str = Field(max_length=32)  # no foreign key: see `shared.db.removals`
    event_id: str = Field(max_length=64)
    event_type: str = Field(max_length=32)
    body: str = Field(sa_column=Column(Text, nullable=False))  # sent and signed unchanged
    state: str = Field(default="pending", max_length=16)
    attempts: int = 0
    #: Attempts before it was sent again on request; they do not count toward the limit.
    attempts_before: int = 0
    next_at: float = Field(sa_column=Column(Float(53), nullable=False))
    lease_until: float | None = Field(default=None, sa_column=Column(Float(53)))
    status: int | None = None  # the last answer's HTTP status
    error: str | None = Field(default=None, max_length=500)
    milliseconds: float | None = Field(default=None, sa_column=Column(Float(53)))
    created_at: float = Field(sa_column=Column(Float(53), nullable=False))
    settled_at: float | None = Field(default=None, sa_column=Column(Float(53)))

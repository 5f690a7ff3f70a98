"""Tables of workers, of their devices, of API keys, and of the reports of the conformance kit."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, Column, Float, Index, false, true
from sqlmodel import Field, SQLModel


class Worker(SQLModel, table=True):
    """One Celery worker pinned to one device. Online while `heartbeat_at` is younger than a lease."""

    __tablename__ = "workers"

    name: str = Field(primary_key=True, max_length=200)  # gpu0@host, cpu0@host
    host: str = Field(max_length=200)
    pid: int
    device: str = Field(max_length=8)  # cpu | gpu
    device_name: str = Field(max_length=200)
    device_uuid: str | None = Field(default=None, max_length=100)
    memory_bytes: int | None = Field(default=None, sa_column=Column(BigInteger))
    frameworks: list[str] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    #: The plug-ins that it has (`shared.fleet.plugins`).
    plugins: list[dict[str, Any]] = Field(
        default_factory=list, sa_column=Column(JSON, nullable=False, server_default="[]")
    )
    #: Installed frameworks that do not work on its device: why, by name.
    unusable: dict[str, str] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False, server_default="{}"))
    versions: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    #: Whether it takes jobs for any device; else only those that require its device.
    takes_auto: bool = Field(default=True, sa_column=Column(Boolean, nullable=False, server_default=true()))
    #: online | not_listening | device_failed | disk_full | draining | offline
    state: str = Field(default="online", max_length=16)
    #: Why it left its device, or has no room on its disk; null: it takes jobs.
    left_because: str | None = Field(default=None, max_length=500)
    job_id: str | None = Field(default=None, max_length=32)
    #: Usage of its device and host at the last heartbeat (shared.fleet.workers.Usage).
    usage: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    started_at: float = Field(sa_column=Column(Float(53), nullable=False))
    heartbeat_at: float = Field(sa_column=Column(Float(53), nullable=False))


class Device(SQLModel, table=True):
    """The ledger: one device of a host, and the attempt that holds it."""

    __tablename__ = "devices"
    __table_args__ = (
        Index("ix_devices_worker", "worker", unique=True),
        Index("ix_devices_host", "host", "kind"),
        Index("ix_devices_job", "job_id"),
    )

    id: str = Field(primary_key=True, max_length=200)  # the UUID of a GPU; of a CPU slot its worker's name
    host: str = Field(max_length=200)
    kind: str = Field(max_length=8)  # cpu | gpu
    #: The worker that serves it; null: another device has taken its place.
    worker: str | None = Field(default=None, max_length=200)
    model: str = Field(max_length=200)
    memory_bytes: int | None = Field(default=None, sa_column=Column(BigInteger))
    labels: list[str] = Field(default_factory=list, sa_column=Column(JSON, nullable=False, server_default="[]"))
    #: Since then no attempt takes it.
    cordoned_at: float | None = Field(default=None, sa_column=Column(Float(53)))
    #: The attempt that holds it, its worker, and since when; null: it is free.
    job_id: str | None = Field(default=None, max_length=32)
    fence: int | None = None
    holder: str | None = Field(default=None, max_length=200)
    held_since: float | None = Field(default=None, sa_column=Column(Float(53)))
    #: The gang that gets it once all its devices are free, and when that is expected; null: unknown.
    reserved_for: str | None = Field(default=None, max_length=32)
    reserved_until: float | None = Field(default=None, sa_column=Column(Float(53)))
    #: Until then also jobs of this priority or a lower one may use it: they are asked to give way.
    yields_below: int | None = None
    #: Whether the attempt that holds it does so before the gang.
    is_filler: bool = Field(default=False, sa_column=Column(Boolean, nullable=False, server_default=false()))
    registered_at: float = Field(sa_column=Column(Float(53), nullable=False))


class ConformanceReport(SQLModel, table=True):
    """The newest report of `nightshift families check` or `programs check` for one version of a package."""

    __tablename__ = "conformance_reports"

    #: As `shared.fleet.plugins` names it.
    plugin: str = Field(primary_key=True, max_length=32)
    record: str = Field(primary_key=True, max_length=64)  # hash of the package's list of files
    package: str = Field(max_length=300)
    passed: bool
    report: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    checked_at: float = Field(sa_column=Column(Float(53), nullable=False))


class ApiKey(SQLModel, table=True):
    """An API key, stored as the SHA-256 of its 256 random bits. Jobs belong to `owner_id`, so keys can be rotated."""

    __tablename__ = "api_keys"

    id: str = Field(primary_key=True, max_length=32)
    owner_id: str = Field(max_length=64)
    name: str = Field(max_length=200)
    sha256: str = Field(max_length=64, unique=True)
    created_at: float = Field(sa_column=Column(Float(53), nullable=False))
    revoked_at: float | None = Field(default=None, sa_column=Column(Float(53)))

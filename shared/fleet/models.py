"""Tables of workers with their devices, of API keys, and of the reports of the conformance kit."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, Column, Float, true
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
    #: online | not_listening | device_failed | draining | offline
    state: str = Field(default="online", max_length=16)
    #: Why it left its device; null: it works on it.
    left_because: str | None = Field(default=None, max_length=500)
    job_id: str | None = Field(default=None, max_length=32)
    #: Usage of its device and host at the last heartbeat (shared.fleet.workers.Usage).
    usage: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    started_at: float = Field(sa_column=Column(Float(53), nullable=False))
    heartbeat_at: float = Field(sa_column=Column(Float(53), nullable=False))


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

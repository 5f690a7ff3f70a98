"""Tables of the model registry: models, versions, aliases and the audit log."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Column, Float, Index, Text
from sqlmodel import Field, SQLModel


class Model(SQLModel, table=True):
    """A model name and its owner: that of the first version's job or of the key that registered it."""

    __tablename__ = "models"

    name: str = Field(primary_key=True, max_length=100)
    #: None: no owner, for models whose creator is unknown.
    owner_id: str | None = Field(default=None, max_length=64)
    created_at: float = Field(sa_column=Column(Float(53), nullable=False))


class ModelVersion(SQLModel, table=True):
    """A version of a model: the result of one job."""

    __tablename__ = "model_versions"

    name: str = Field(primary_key=True, max_length=100)
    version: int = Field(primary_key=True)
    job_id: str = Field(max_length=32, index=True)
    family: str = Field(max_length=16)
    framework: str = Field(max_length=16)
    dataset: str | None = Field(default=None, max_length=200)  # name@version
    parent: str | None = Field(default=None, max_length=200)  # model_ref it was fine-tuned from
    metrics: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    #: Description and tags may be changed at any time.
    description: str | None = Field(default=None, sa_column=Column(Text))
    tags: dict[str, str] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False, server_default="{}"))
    created_at: float = Field(sa_column=Column(Float(53), nullable=False))


class ModelDescription(SQLModel, table=True):
    """The description of a model as a whole, if it has one."""

    __tablename__ = "model_descriptions"

    name: str = Field(primary_key=True, max_length=100)
    description: str = Field(sa_column=Column(Text, nullable=False))
    updated_at: float = Field(sa_column=Column(Float(53), nullable=False))


class ModelAlias(SQLModel, table=True):
    """A named pointer to a version. The first version of a model becomes its `champion`."""

    __tablename__ = "model_aliases"

    name: str = Field(primary_key=True, max_length=100)
    alias: str = Field(primary_key=True, max_length=100)
    version: int
    updated_at: float = Field(sa_column=Column(Float(53), nullable=False))


class ModelChange(SQLModel, table=True):
    """Audit log, in order of `id`: moves of aliases; versions registered manually, described or deleted."""

    __tablename__ = "model_changes"
    __table_args__ = (Index("ix_model_changes_name", "name", "id"),)

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(max_length=100)
    change: str = Field(max_length=16)  # set | rollback | delete | register | describe
    alias: str | None = Field(default=None, max_length=100)  # null: no alias was moved
    from_version: int | None = None
    to_version: int | None = None
    who: str = Field(max_length=100)  # an owner, `job:<id>` or `system`
    why: str | None = Field(default=None, max_length=500)
    at: float = Field(sa_column=Column(Float(53), nullable=False))

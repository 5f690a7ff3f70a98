"""Data sets in SQL: a name, and versions by content hash. The bytes lie in `<storage>/datasets/<version>/`."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Column, Float, UniqueConstraint
from sqlmodel import Field, SQLModel


class Dataset(SQLModel, table=True):
    """A name that users give. Every key may use it; keys of its owner may change it."""

    __tablename__ = "datasets"

    name: str = Field(primary_key=True, max_length=100)
    kind: str = Field(max_length=16)  # image | text
    builtin: bool = False
    #: None: nobody's, as built-in sets are, and those of whom it was not kept.
    owner_id: str | None = Field(default=None, max_length=64)
    #: The highest number ever given: that of a deleted version never means another one.
    last_version: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    created_at: float = Field(sa_column=Column(Float(53), nullable=False))


class DatasetVersion(SQLModel, table=True):
    """Complete, immutable content. `version` counts 1, 2, … per name; `sha256` names its folder."""

    __tablename__ = "dataset_versions"
    __table_args__ = (UniqueConstraint("name", "sha256"),)

    name: str = Field(primary_key=True, foreign_key="datasets.name", max_length=100, ondelete="CASCADE")
    version: int = Field(primary_key=True)
    sha256: str = Field(max_length=64)
    size_bytes: int = Field(sa_column=Column(BigInteger, nullable=False))
    #: Shapes, dtype, classes, counts per split, class histogram; of a text also characters and words per split.
    summary: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    created_at: float = Field(sa_column=Column(Float(53), nullable=False))

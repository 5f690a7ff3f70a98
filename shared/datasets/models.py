"""Tables of data sets and their versions. The files are in `<storage>/datasets/<sha256>/`."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Column, Float, UniqueConstraint
from sqlmodel import Field, SQLModel


class Dataset(SQLModel, table=True):
    """A named data set. Every API key may use it; only keys of its owner may change it."""

    __tablename__ = "datasets"

    name: str = Field(primary_key=True, max_length=100)
    kind: str = Field(max_length=16)  # nightshift.names.DataKind
    builtin: bool = False
    #: None: no owner, as for built-in sets and those registered before owners were recorded.
    owner_id: str | None = Field(default=None, max_length=64)
    #: The highest version number ever assigned; numbers of deleted versions are not reused.
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
    #: Shapes, dtype, classes, counts per split, class histogram; for text also tags, characters and words per split.
    summary: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    created_at: float = Field(sa_column=Column(Float(53), nullable=False))

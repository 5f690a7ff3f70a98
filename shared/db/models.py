"""Table of deletions in progress."""

from __future__ import annotations

from sqlalchemy import Column, Float
from sqlmodel import Field, SQLModel


class Removal(SQLModel, table=True):
    """A deleted job, schedule or webhook; `shared.db.removals` deletes its remaining rows."""

    __tablename__ = "removals"

    kind: str = Field(primary_key=True, max_length=16)  # job | schedule | webhook
    id: str = Field(primary_key=True, max_length=32)
    removed_at: float = Field(sa_column=Column(Float(53), nullable=False))

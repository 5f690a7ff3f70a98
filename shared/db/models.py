"""The table of what was deleted and may have rows left: Removal."""

from __future__ import annotations

from sqlalchemy import Column, Float
from sqlmodel import Field, SQLModel


class Removal(SQLModel, table=True):
    """A job, schedule or webhook whose own row is gone, so that nothing shows it; `shared.db.removals` deletes the
    rest."""

    __tablename__ = "removals"

    kind: str = Field(primary_key=True, max_length=16)  # job | schedule | webhook
    id: str = Field(primary_key=True, max_length=32)
    removed_at: float = Field(sa_column=Column(Float(53), nullable=False))

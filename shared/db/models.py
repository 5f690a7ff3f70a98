"""Tables of deletions in progress and of counters."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float
from sqlmodel import Field, SQLModel


class Removal(SQLModel, table=True):
    """A deleted job, schedule or webhook; `shared.db.removals` deletes its remaining rows."""

    __tablename__ = "removals"

    kind: str = Field(primary_key=True, max_length=16)  # job | schedule | webhook
    id: str = Field(primary_key=True, max_length=32)
    removed_at: float = Field(sa_column=Column(Float(53), nullable=False))


class Counter(SQLModel, table=True):
    """How many rows of a sort there are, kept by triggers in the transactions that change them.

    `shared.db.counters` describes the measures. PostgreSQL's triggers add rows with a `change` of their own, so that
    transactions do not wait for each other; maintenance folds them into the row with `change` 0.
    """

    __tablename__ = "counters"
    __table_args__ = {"sqlite_with_rowid": False}

    measure: str = Field(primary_key=True, max_length=16)
    owner_id: str = Field(primary_key=True, max_length=64)
    #: The second before whose end queued jobs become due, or the number of a histogram's bucket.
    position: int = Field(primary_key=True, sa_type=BigInteger)
    label: str = Field(primary_key=True, max_length=200)
    detail: str = Field(primary_key=True, max_length=40)
    change: int = Field(primary_key=True, sa_type=BigInteger)
    n: int = Field(sa_type=BigInteger)
    #: The sum of a value over the rows (milliseconds of jobs that ended).
    amount: int = Field(sa_type=BigInteger)

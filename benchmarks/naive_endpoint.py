"""The endpoint that people would write first, for `bench_submit`: FastAPI, SQLModel and Celery.

A request inserts one row, commits and calls `delay`; a Celery worker receives the task and does nothing. It has no
keys, no idempotency, no checks of data sets, no events.

    NAIVE_DATABASE=sqlite:////tmp/naive.db NAIVE_REDIS=redis://localhost/1 uvicorn benchmarks.naive_endpoint:app
    … celery -A benchmarks.naive_endpoint:queue worker -c 1
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any

from celery import Celery
from fastapi import Depends, FastAPI
from pydantic import BaseModel
from sqlalchemy import JSON, Column, event
from sqlmodel import Field, Session, SQLModel, create_engine

queue = Celery("naive", broker=os.environ["NAIVE_REDIS"])
queue.conf.update(task_ignore_result=True)

engine = create_engine(os.environ["NAIVE_DATABASE"])
if engine.dialect.name == "sqlite":

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=30000"):
            connection.execute(f"PRAGMA {pragma}").close()


class NaiveJob(SQLModel, table=True):
    """One job."""

    __tablename__ = "naive_jobs"

    id: int | None = Field(default=None, primary_key=True)
    kind: str
    dataset: str
    spec: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    state: str = "queued"
    created_at: datetime = Field(default_factory=lambda: datetime.now(UTC))


class NewJob(BaseModel):
    """The body of a request."""

    kind: str
    dataset: str
    model: dict[str, Any]
    training: dict[str, Any] = {}
    run_at: datetime | None = None


def _session() -> Iterator[Session]:
    with Session(engine) as session:
        yield session


app = FastAPI()


@queue.task(name="naive.run")  # type: ignore[untyped-decorator]
def run(job_id: int) -> None:
    """Do nothing."""


@app.post("/jobs", status_code=202)
def submit(new: NewJob, session: Annotated[Session, Depends(_session)]) -> NaiveJob:
    """Insert the row, commit, send the task."""
    job = NaiveJob(kind=new.kind, dataset=new.dataset, spec=new.model_dump(mode="json"))
    session.add(job)
    session.commit()
    session.refresh(job)
    run.delay(job.id)
    return job


def create_tables() -> None:
    """Create the table."""
    SQLModel.metadata.create_all(engine, tables=[NaiveJob.__table__])  # type: ignore[attr-defined]

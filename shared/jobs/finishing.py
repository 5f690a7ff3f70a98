"""Running jobs that have left their device: all it was needed for is done, and their results are being stored."""

from __future__ import annotations

from sqlalchemy import ColumnElement, and_, func, select

from shared.db.schema import job_events, jobs
from shared.jobs.states import FINISHING


def is_finishing() -> ColumnElement[bool]:
    """Return the SQL condition for running jobs that have left their device in their present attempt."""
    began = (job_events.c.job_id == jobs.c.id) & (job_events.c.fence == jobs.c.fence)
    claimed = select(func.min(job_events.c.seq)).where(began).correlate(jobs).scalar_subquery()
    # Older progress is of an earlier attempt.
    return and_(jobs.c.progress["phase"].as_string() == FINISHING, jobs.c.progress_seq > claimed)

"""Reading jobs: nothing here writes. Functions take an open connection; those that a user reaches take the owner too.

jobs      get_job, find_id, list_jobs, job_view, job_by_task        parts    attempts, checkpoints, artifacts, logs
stream    events_after                                              curves   metrics
counts    waiting_counts, due_ids, stats                            surroundings
"""

from shared.jobs.queries.counts import due_ids, stats, waiting_counts
from shared.jobs.queries.cursors import Page
from shared.jobs.queries.curves import metrics
from shared.jobs.queries.jobs import JobFilters, find_id, get_job, job_by_task, job_view, list_jobs
from shared.jobs.queries.parts import artifact, artifacts, attempts, checkpoints, logs
from shared.jobs.queries.stream import events_after
from shared.jobs.queries.surroundings import surroundings

__all__ = [
    "JobFilters",
    "Page",
    "artifact",
    "artifacts",
    "attempts",
    "checkpoints",
    "due_ids",
    "events_after",
    "find_id",
    "get_job",
    "job_by_task",
    "job_view",
    "list_jobs",
    "logs",
    "metrics",
    "stats",
    "surroundings",
    "waiting_counts",
]

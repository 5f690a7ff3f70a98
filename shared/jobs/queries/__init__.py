"""Read-only queries of jobs. Functions take an open connection, and the owner if they check access.

jobs              get_job, find_id, list_jobs, list_shards, job_view, job_by_task
job_details       attempts, checkpoints, artifacts, logs, …
event_log         events_after                  curves        metrics, curves
table             jobs_table (for the pages)    sparklines    sparklines
counts            due_ids, stats
durations, explain_context
"""

from shared.jobs.queries.counts import Due, Stats, due_ids, stats
from shared.jobs.queries.cursors import Page
from shared.jobs.queries.curves import metrics
from shared.jobs.queries.durations import Durations, durations
from shared.jobs.queries.event_log import events_after
from shared.jobs.queries.explain_context import explain_context
from shared.jobs.queries.job_details import (
    artifact,
    artifacts,
    attempts,
    checkpoints,
    log_tail,
    logs,
    shard_parts,
    state_events,
    system_samples,
)
from shared.jobs.queries.jobs import JobFilters, find_id, get_job, job_by_task, job_view, list_jobs, list_shards

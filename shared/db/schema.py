"""All tables; importing this module completes the metadata."""

from __future__ import annotations

from sqlmodel import SQLModel

import shared.datasets.models
import shared.db.models
import shared.fleet.models
import shared.jobs.models
import shared.models.models
import shared.schedules.models
import shared.sweeps.models
import shared.webhooks.models  # noqa: F401 - the imports register the tables

metadata = SQLModel.metadata

jobs = metadata.tables["jobs"]
deleted_jobs = metadata.tables["deleted_jobs"]
deleted_attempts = metadata.tables["deleted_attempts"]
job_dependencies = metadata.tables["job_dependencies"]
attempts = metadata.tables["attempts"]
job_events = metadata.tables["job_events"]
job_logs = metadata.tables["job_logs"]
metrics = metadata.tables["metrics"]
system_samples = metadata.tables["system_samples"]
curve_summaries = metadata.tables["curve_summaries"]
checkpoints = metadata.tables["checkpoints"]
artifacts = metadata.tables["artifacts"]
datasets = metadata.tables["datasets"]
dataset_versions = metadata.tables["dataset_versions"]
models = metadata.tables["models"]
model_versions = metadata.tables["model_versions"]
model_descriptions = metadata.tables["model_descriptions"]
model_aliases = metadata.tables["model_aliases"]
model_changes = metadata.tables["model_changes"]
schedules = metadata.tables["schedules"]
schedule_ticks = metadata.tables["schedule_ticks"]
sweeps = metadata.tables["sweeps"]
sweep_trials = metadata.tables["sweep_trials"]
sweep_events = metadata.tables["sweep_events"]
webhooks = metadata.tables["webhooks"]
webhook_deliveries = metadata.tables["webhook_deliveries"]
workers = metadata.tables["workers"]
devices = metadata.tables["devices"]
api_keys = metadata.tables["api_keys"]
conformance_reports = metadata.tables["conformance_reports"]
removals = metadata.tables["removals"]
counters = metadata.tables["counters"]

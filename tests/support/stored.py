"""Jobs of every family in SQL: running, finished, and finished before there were `train_` metrics; with queries."""

from __future__ import annotations

import math
from typing import Any

from sqlalchemy import Engine, select

from shared.db.engine import read, write
from shared.db.schema import jobs, metrics, model_versions
from shared.jobs import transitions
from shared.jobs.transitions import Lease, MetricRow, ModelVersionRecord
from tests.support.factories import running_job

#: family -> metrics of its steps, of its validations, and further ones of its result.
CURVES = {
    "cnn": ("loss accuracy", "val_loss val_accuracy", "test_accuracy test_loss f1_macro train_loss train_accuracy"),
    "gru_lm": (
        "loss perplexity",
        "val_loss val_accuracy val_perplexity",
        "test_perplexity test_loss train_loss train_perplexity",
    ),
    "gan": ("g_loss d_loss", "val_frechet_distance", "frechet_distance precision recall train_g_loss train_d_loss"),
}
#: Points of a curve of steps, more than a chart is wide; the step of the best model; the step of an outlier.
STEPS, BEST, SPIKE = 900, 540, 333


def value(name: str, step: int, job: int) -> float:
    """Return a plausible value of the metric. Curves fall or rise with waves; one step is an outlier."""
    wave = 0.05 * math.sin(step / 7 + job) + 1 / (1 + step / 100 + job)
    if any(part in name for part in ("accuracy", "f1", "precision", "recall")):
        return 0.001 if (step, job) == (SPIKE, 0) else 0.93 - wave / 2
    return 999.96 if (step, job) == (SPIKE, 0) else 1.5 + wave


def begin(engine: Engine, owner: str, family: str, job: int, steps: int = STEPS) -> Lease:
    """Return the lease of a running job whose curves have `steps` points and five validations."""
    model: dict[str, Any] = {"family": family}
    lease = running_job(
        engine, owner_id=owner, name=f"{family} {job}", model=model, training={"learning_rate": 10.0**-job}
    )
    trained, validated, _ = (names.split() for names in CURVES[family])
    rows = [(name, step) for name in (*trained, "samples_per_second") for step in range(1, steps + 1)]
    rows += [(name, step) for name in validated for step in range(steps // 5, steps + 1, steps // 5)]
    with write(engine) as conn:
        progress = {"step": steps, "total_steps": 2000, "percent": steps / 20, "epoch": 3, "eta_seconds": 12.5}
        points = [MetricRow(name, step, 1, value(name, step, job)) for name, step in rows]
        transitions.record(conn, lease, progress=progress, metrics=points)
    return lease


def end(engine: Engine, lease: Lease, family: str, job: int, *, old: bool = False) -> None:
    """Finish a job with its best validation and register it as a version of the model `of-<family>`.

    `old`: as jobs once ended, with the last points of their curves and without the means of their epoch.
    """
    trained, validated, rest = (names.split() for names in CURVES[family])
    figures = {name: value(name, BEST, job) for name in (*validated, *rest)}
    if old:
        figures = {name: one for name, one in figures.items() if not name.startswith("train_")}
        figures |= {name: value(name, STEPS, job) for name in (*trained, "samples_per_second")}
    version = ModelVersionRecord(
        name=f"of-{family}", family=family, framework="torch", dataset="digits@1", parent=None, metrics=figures
    )
    with write(engine) as conn:
        transitions.succeed(conn, lease, result={"metrics": figures}, artifacts=[], register=version)


def every_kind(engine: Engine, owner: str) -> dict[str, dict[str, str]]:
    """Make jobs and return family -> {old, new, another, running} -> job id."""
    found: dict[str, dict[str, str]] = {}
    for family in CURVES:
        leases = {what: begin(engine, owner, family, job) for job, what in enumerate(("old", "new", "another"))}
        for job, (what, lease) in enumerate(leases.items()):
            end(engine, lease, family, job, old=what == "old")
        leases["running"] = begin(engine, owner, family, 3, steps=400)
        found[family] = {what: lease.job_id for what, lease in leases.items()}
    return found


# -- queries --------------------------------------------------------------------------------------


def curve(engine: Engine, job_id: str, name: str) -> list[tuple[int, float]]:
    with read(engine) as conn:
        this = (metrics.c.job_id == job_id, metrics.c.name == name)
        rows = conn.execute(select(metrics.c.step, metrics.c.value).where(*this).order_by(metrics.c.step))
        return [(row.step, row.value) for row in rows]


def names(engine: Engine, job_id: str) -> list[str]:
    with read(engine) as conn:
        return list(conn.scalars(select(metrics.c.name).where(metrics.c.job_id == job_id).distinct()))


def result(engine: Engine, job_id: str) -> dict[str, float]:
    with read(engine) as conn:
        found = conn.scalars(select(jobs.c.result).where(jobs.c.id == job_id)).one()
    return dict((found or {}).get("metrics", {}))


def versions(engine: Engine, name: str) -> dict[int, dict[str, float]]:
    with read(engine) as conn:
        rows = conn.execute(select(model_versions).where(model_versions.c.name == name))
        return {row.version: row.metrics for row in rows}

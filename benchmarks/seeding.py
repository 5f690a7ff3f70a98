"""A database as after months of use: thousands of jobs in every state, written directly to SQL."""

from __future__ import annotations

import math
import random
from typing import Any

from sqlalchemy import Connection, Engine, insert, select

from shared.clock import db_now
from shared.db.engine import read, write
from shared.db.schema import (
    attempts,
    curve_summaries,
    job_events,
    job_logs,
    jobs,
    metrics,
    model_aliases,
    model_versions,
)
from shared.jobs.transitions.effects import summary
from shared.specs.jobs import job_spec_adapter

_BODIES: list[dict[str, Any]] = [
    {"model": {"family": "cnn", "preset": "mnist-3conv"}, "dataset": "mnist"},
    {"model": {"family": "cnn", "preset": "mnist-1conv", "framework": "tensorflow"}, "dataset": "digits"},
    {"model": {"family": "gru_lm", "preset": "gru-2x512"}, "dataset": "shakespeare"},
    {"model": {"family": "gan", "preset": "dcgan"}, "dataset": "fashion_mnist"},
]
_NAMES = ("digits nightly", "baseline", "wider kernel", "lr sweep", None, "fashion")
_RATES = (0.0003, 0.001, 0.003, 0.01)
#: Percentage of jobs by state. `running` is left to real workers.
_STATES = {"succeeded": 78, "failed": 9, "cancelled": 6, "queued": 4, "paused": 3}
_DAY = 86_400.0


def fill(engine: Engine, owner_id: str, count: int, points: int = 40, seed: int = 0) -> list[str]:
    """Write `count` jobs of the last 90 days, finished ones with curves of `points` steps; return ids, oldest first."""
    chance = random.Random(seed)
    with read(engine) as conn:
        now = conn.scalars(select(db_now())).one()
    rows = [_job(chance, owner_id, now - 90 * _DAY * (1 - number / count)) for number in range(count)]
    for start in range(0, count, 1000):
        _write(engine, chance, rows[start : start + 1000], points)
    return [row["id"] for row in rows]


def _job(chance: random.Random, owner_id: str, created: float) -> dict[str, Any]:
    training = {
        "learning_rate": chance.choice(_RATES),
        "batch_size": chance.choice((32, 64, 128)),
        "seed": chance.randrange(5),
    }
    spec: Any = job_spec_adapter.validate_python(
        {"kind": "train", "name": chance.choice(_NAMES), "training": training, **chance.choice(_BODIES)}
    )
    state = chance.choices(list(_STATES), list(_STATES.values()))[0]
    begun = state not in ("queued", "paused")
    started = created + chance.expovariate(1 / 20) if begun else None
    finished = started + chance.uniform(20, 3000) if started else None
    model = spec.model
    return {
        "id": f"{chance.getrandbits(64):016x}", "owner_id": owner_id, "kind": "train", "name": spec.name,
        "family": model.family, "framework": model.framework, "dataset": spec.dataset, "device": "auto",
        "worker": "gpu0@rack1" if begun else None,
        "tags": {"team": chance.choice(["vision", "text"])}, "spec": spec.model_dump(mode="json"), "pinned": {},
        "state": state, "fence": int(begun), "priority": chance.randint(0, 9), "run_at": created, "lost_streak": 0,
        "retries": 0, "max_retries": 2, "after": [], "progress_seq": 0, "event_seq": 10_000, "created_at": created,
        "started_at": started, "finished_at": finished,
        "progress": {"percent": 100.0 if state == "succeeded" else 40.0, "step": 400, "total_steps": 1000}
        if begun else None,
        "error": {"type": "bad_data", "message": "made to fail", "retryable": False} if state == "failed" else None,
        "result": {"metrics": {"test_accuracy": chance.uniform(0.9, 0.99),
            "test_loss": chance.uniform(0.03, 0.3)}} if state == "succeeded" else None,
    }  # fmt: skip


def _write(engine: Engine, chance: random.Random, rows: list[dict[str, Any]], points: int) -> None:
    begun = [row for row in rows if row["started_at"]]
    curves = [curve(chance, row, "loss", points) for row in begun] if points else []
    with write(engine) as conn:
        conn.execute(insert(jobs), rows)
        conn.execute(insert(attempts), [_attempt(row) for row in begun])
        if curves:
            _insert_curves(conn, curves)


def _insert_curves(conn: Connection, curves: list[list[dict[str, Any]]]) -> None:
    conn.execute(insert(metrics), [point for points in curves for point in points])
    conn.execute(insert(curve_summaries), [summary(points) for points in curves])


def _attempt(row: dict[str, Any]) -> dict[str, Any]:
    outcome = {"succeeded": "succeeded", "failed": "job_error", "cancelled": "cancelled"}[row["state"]]
    return {
        "job_id": row["id"], "fence": 1, "worker": "gpu0@rack1", "device": "cpu", "started_at": row["started_at"],
        "ended_at": row["finished_at"], "outcome": outcome, "error": row["error"],
    }  # fmt: skip


def curve(chance: random.Random, row: dict[str, Any], name: str, points: int, seq: int = 10) -> list[dict[str, Any]]:
    """Return a falling curve with noise, as rows of the metrics table."""
    start, end = row["started_at"], row["finished_at"] or row["started_at"] + 600
    return [
        {
            "job_id": row["id"], "name": name, "step": step * 10, "epoch": step * 5 // points, "fence": 1,
            "value": 2.3 * math.exp(-3 * step / points) + 0.05 + chance.gauss(0, 0.03),
            "at": start + (end - start) * step / points, "seq": seq + step,
        }
        for step in range(points)
    ]  # fmt: skip


def long_job(engine: Engine, owner_id: str, points: int, names: tuple[str, ...] = ("loss", "accuracy")) -> str:
    """Write one finished job with `points` metric points in total, and a thousand log lines."""
    chance = random.Random(1)
    with read(engine) as conn:
        row = _job(chance, owner_id, conn.scalars(select(db_now())).one() - 7200)
    row |= {"name": "long", "state": "succeeded", "fence": 1, "error": None, "event_seq": points + 2000}
    row |= {"started_at": row["created_at"] + 5, "finished_at": row["created_at"] + 7000}
    each = points // len(names)
    with write(engine) as conn:
        conn.execute(insert(jobs), [row])
        conn.execute(insert(attempts), [_attempt(row)])
        for number, name in enumerate(names):
            _insert_curves(conn, [curve(chance, row, name, each, 2000 + number * each)])
        common = {"job_id": row["id"], "at": row["started_at"], "fence": 1}
        logs = [{**common, "seq": 200 + n, "level": "info", "message": f"line {n}"} for n in range(1000)]
        conn.execute(insert(job_logs), logs)
        states = ("queued", "running", "succeeded")
        events = [{**common, "seq": n, "type": "state", "data": {"state": state}} for n, state in enumerate(states)]
        conn.execute(insert(job_events), events)
    return str(row["id"])


def busy_week(engine: Engine, ids: list[str], devices: int = 10, count: int = 10_000) -> None:
    """Write `count` attempts of the last week on some devices, of jobs that have ended."""
    chance = random.Random(2)
    with write(engine) as conn:
        now = conn.scalars(select(db_now())).one()
        ended = jobs.c.finished_at.is_not(None)
        of = list(conn.scalars(select(jobs.c.id).where(ended, jobs.c.id.in_(ids[:5000])).limit(1000)))
        each = 7 * _DAY / (count // devices)
        for device in range(devices):
            rows = []
            for number in range(count // devices):
                start = now - 7 * _DAY + number * each
                outcome = chance.choices(["succeeded", "job_error", "preempted"], [90, 7, 3])[0]
                rows.append({
                    "job_id": of[number % len(of)], "fence": 2 + device + devices * (number // len(of)),
                    "worker": f"gpu{device}@rack2",
                    "device": "gpu", "started_at": start, "ended_at": start + each * chance.uniform(0.3, 0.95),
                    "outcome": outcome,
                })  # fmt: skip
            conn.execute(insert(attempts), rows)


def versions(engine: Engine, ids: list[str], name: str = "nightly", count: int = 1000) -> None:
    """Write a model with a thousand versions and a champion, each version with a dozen metrics."""
    chance = random.Random(3)
    measured = ("test_accuracy", "test_loss", "precision_macro", "recall_macro", "f1_macro", "auc_macro_ovr",
                "accuracy", "loss", "val_accuracy", "val_loss", "samples_per_second", "learning_rate")  # fmt: skip
    with write(engine) as conn:
        now = conn.scalars(select(db_now())).one()
        rows = [
            {
                "name": name, "version": number, "job_id": ids[number % len(ids)], "family": "cnn",
                "framework": "torch",
                "dataset": "digits@1", "metrics": {key: chance.random() for key in measured},
                "created_at": now - (count - number) * _DAY,
            }
            for number in range(1, count + 1)
        ]  # fmt: skip
        conn.execute(insert(model_versions), rows)
        champion = {"name": name, "alias": "champion", "version": count - 3, "updated_at": now}
        conn.execute(insert(model_aliases), [champion])

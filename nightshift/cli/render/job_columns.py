"""The columns of `nightshift jobs`. A narrow terminal drops the least important first."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from nightshift.cli.render import output
from nightshift.cli.render.tables import Field


def _state(job: Any) -> Any:
    requested = job["stop_requested"] if job["state"] == "running" else None
    return f"{job['state']} ({requested})" if requested else output.state_text(job["state"])


def _model(job: Any) -> str:
    spec = job.get("spec") or {}
    model = (spec.get("model") or {}).get("preset") or spec.get("model_ref") or spec.get("program") or ""
    return f"{job.get('family') or ''} {model}".strip()


def _percent(job: Any) -> float | None:
    percent: float | None = (job.get("progress") or {}).get("percent")
    return percent


def _done(job: Any) -> str:
    percent = _percent(job)
    return "" if percent is None else f"{percent:.0f}%"


def _time(job: Any) -> str:
    return output.between(job.get("started_at"), job.get("finished_at"))


def _seconds(job: Any) -> float | None:
    return output.seconds_between(job.get("started_at"), job.get("finished_at"))


def _outcome(job: Any) -> tuple[Any, ...]:
    """Return the outcome of a final job: its error type, or its main metric as (name, value)."""
    from nightshift.metrics import headline

    if job.get("error"):
        return (str(job["error"].get("type")),)
    metrics = _metrics(job)
    name = headline(metrics)
    return (name, metrics[name]) if name else ()


def _result(job: Any) -> str:
    name, *value = _outcome(job) or ("",)
    return " ".join([name, *map(output.number, value)])


def _metrics(job: Any) -> dict[str, Any]:
    return (job.get("result") or {}).get("metrics") or {}


def _created(job: Any) -> float:
    return datetime.fromisoformat(job["created_at"]).timestamp()


FIELDS: dict[str, Field] = {
    "id": Field("id"),
    "state": Field(_state, key=lambda job: job["state"]),
    "kind": Field("kind", 9),
    "name": Field("name", 2, least=12),
    "model": Field(_model, 7),
    "dataset": Field("dataset", 8),
    "done": Field(_done, 6, right=True, key=_percent),
    "result": Field(_result, 1, key=_outcome),
    "worker": Field("worker", 5),
    "time": Field(_time, 3, right=True, key=_seconds),
    "age": Field(lambda job: output.age(job.get("created_at")), 4, right=True, key=lambda job: -_created(job)),
    "framework": Field("framework", usual=False),
    "priority": Field("priority", right=True, usual=False),
    "attempt": Field("attempt", right=True, usual=False),
    "device": Field("device", usual=False),
    "created": Field("created_at", usual=False),
    "started": Field("started_at", usual=False),
    "finished": Field("finished_at", usual=False),
    "tags": Field(lambda job: " ".join(output.tag_texts(job)), usual=False),
}


def other(name: str, jobs: Sequence[Any]) -> Field | None:
    """Return the column of a metric (`test_accuracy`) or a setting (`training.learning_rate`).

    None if none of the jobs has it; without jobs, any name is accepted.
    """
    if any(name in _metrics(job) for job in jobs):
        return Field(lambda job: _plain(_metrics(job).get(name)), right=True, key=lambda job: _metrics(job).get(name))
    if not jobs or any(_setting(job, name) is not None for job in jobs):
        return Field(lambda job: _setting(job, name))
    return None


def _setting(job: Any, path: str) -> Any:
    here = job.get("spec")
    for name in path.split("."):
        here = here.get(name) if isinstance(here, dict) else None
    return here


def _plain(value: Any) -> Any:
    return output.number(value) if isinstance(value, int | float) else value

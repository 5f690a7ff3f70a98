"""The columns of `nightshift jobs`. On a narrow terminal those go first that one could tell from the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nightshift.cli.render.tables import Field


def _state(job: Any) -> Any:
    from nightshift.cli.render.output import state_text

    asked = job["stop_requested"] if job["state"] == "running" else None
    return f"{job['state']} ({asked})" if asked else state_text(job["state"])


def _model(job: Any) -> str:
    spec = job.get("spec") or {}
    model = (spec.get("model") or {}).get("preset") or spec.get("model_ref") or ""
    return f"{job.get('family') or ''} {model}".strip()


def _percent(job: Any) -> float | None:
    percent: float | None = (job.get("progress") or {}).get("percent")
    return percent


def _done(job: Any) -> str:
    percent = _percent(job)
    return "" if percent is None else f"{percent:.0f}%"


def _time(job: Any) -> str:
    from nightshift.cli.render.output import between

    return between(job.get("started_at"), job.get("finished_at"))


def _seconds(job: Any) -> float | None:
    from nightshift.cli.render.output import seconds_between

    return seconds_between(job.get("started_at"), job.get("finished_at"))


def _age(job: Any) -> str:
    from nightshift.cli.render.output import age

    return age(job.get("created_at"))


def _outcome(job: Any) -> tuple[Any, ...]:
    """The one thing worth knowing of a final job in a table: its error, or the figure it is known by."""
    from nightshift.metrics import HEADLINES

    if job.get("error"):
        return (str(job["error"].get("type")),)
    metrics = _metrics(job)
    for name in HEADLINES:
        if name in metrics:
            return (name, metrics[name])
    return ()


def _result(job: Any) -> str:
    from nightshift.cli.render.output import number

    name, *value = _outcome(job) or ("",)
    return " ".join([name, *map(number, value)])


def _tags(job: Any) -> str:
    return " ".join(f"{name}={value}" for name, value in (job.get("tags") or {}).items())


def _metrics(job: Any) -> dict[str, Any]:
    return (job.get("result") or {}).get("metrics") or {}


def _given(name: str) -> Any:
    return lambda job: job.get(name)


FIELDS: dict[str, Field] = {
    "id": Field(_given("id")),
    "state": Field(_state, key=_given("state")),
    "kind": Field(_given("kind"), 9),
    "name": Field(_given("name"), 2, least=12),
    "model": Field(_model, 7),
    "dataset": Field(_given("dataset"), 8),
    "done": Field(_done, 6, right=True, key=_percent),
    "result": Field(_result, 1, key=_outcome),
    "worker": Field(_given("worker"), 5),
    "time": Field(_time, 3, right=True, key=_seconds),
    "age": Field(_age, 4, right=True, key=lambda job: -_moment(job)),
    "framework": Field(_given("framework"), usual=False),
    "priority": Field(_given("priority"), right=True, usual=False),
    "attempt": Field(_given("attempt"), right=True, usual=False),
    "device": Field(_given("device"), usual=False),
    "created": Field(_given("created_at"), usual=False),
    "started": Field(_given("started_at"), usual=False),
    "finished": Field(_given("finished_at"), usual=False),
    "tags": Field(_tags, usual=False),
}


def _moment(job: Any) -> float:
    from datetime import datetime

    return datetime.fromisoformat(job["created_at"]).timestamp()


def other(name: str, jobs: Sequence[Any]) -> Field | None:
    """A result (`test_accuracy`) or a setting (`training.learning_rate`) that at least one of the jobs has. Nothing is
    known to be wrong where there are no jobs."""
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
    from nightshift.cli.render.output import number

    return number(value) if isinstance(value, int | float) else value

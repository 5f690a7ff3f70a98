"""Comparison of two models: by their stored metrics, or evaluated now on one data set."""

from __future__ import annotations

from typing import Any

from nightshift.client.client import Client, Job
from nightshift.errors import InvalidRequest
from nightshift.names import EVALUATE

Data = dict[str, Any]


def pair(refs: list[str]) -> tuple[str, str]:
    """Return the two references of `digits@1 digits@2` or `digits 1 2`; a name alone means its champion."""
    if len(refs) == 3 and "@" not in refs[0]:
        refs = [f"{refs[0]}@{selector}" for selector in refs[1:]]
    if len(refs) != 2:
        raise InvalidRequest("Name two versions: models compare digits@champion digits@4 (or: digits champion 4).")
    first, second = (ref if "@" in ref or ref.startswith("job:") else f"{ref}@champion" for ref in refs)
    return first, second


def registered(client: Client, first: str, second: str) -> Data:
    """Return the API's comparison, with `titles`. Raises `InvalidRequest` unless both are versions of one model."""
    (name, _, a), (other, _, b) = first.partition("@"), second.partition("@")
    if name != other or not a or not b:
        raise InvalidRequest(f"{first} and {second} are not versions of one model; use --on DATASET to evaluate both.")
    found = client.compare(name, a, b)
    return {**found, "titles": [f"{name}@{found[side]['version']}" for side in ("a", "b")]}


def measured(client: Client, first: str, second: str, on: str) -> Data:
    """Evaluate both models on the same version of a data set, by one job each. Raises `JobFailed`."""
    version = client.dataset(on)["version"]
    dataset = f"{on.partition('@')[0]}@{version}" if version else on
    jobs = [_evaluate(client, ref, dataset) for ref in (first, second)]
    a, b = ((job.wait().result or {})["metrics"] for job in jobs)
    names = [*a, *(name for name in b if name not in a)]
    return {
        "titles": [first, second],
        "on": dataset,
        "jobs": [job.id for job in jobs],
        "metrics": {name: _side_by_side(a.get(name), b.get(name)) for name in names},
    }


def _evaluate(client: Client, ref: str, dataset: str) -> Job:
    """Submit an evaluate job in the framework the model was trained with, which some worker has."""
    body = {"kind": EVALUATE, "model_ref": ref, "dataset": dataset, "framework": _framework(client, ref)}
    return client.submit({name: value for name, value in body.items() if value is not None})


def _framework(client: Client, ref: str) -> str | None:
    name, _, selector = ref.partition("@")
    if not selector:
        return client.job(ref.removeprefix("job:")).data.get("framework")
    shown = client.model(name)
    number = int(selector) if selector.isdigit() else shown["aliases"].get(selector)
    return next((str(item["framework"]) for item in shown["versions"] if item["version"] == number), None)


def _side_by_side(a: float | None, b: float | None) -> Data:
    return {"a": a, "b": b, "difference": b - a if a is not None and b is not None else None}

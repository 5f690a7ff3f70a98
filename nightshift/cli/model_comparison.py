"""Two models side by side: by what they measured when they were made, or measured now on one data set."""

from __future__ import annotations

from typing import Any

from nightshift.client.client import Client, Job
from nightshift.errors import InvalidRequest
from nightshift.names import EVALUATE

Data = dict[str, Any]


def pair(refs: list[str]) -> tuple[str, str]:
    """`digits@1 digits@2`, or `digits 1 2`. A name alone means its champion."""
    if len(refs) == 3 and "@" not in refs[0]:
        refs = [f"{refs[0]}@{selector}" for selector in refs[1:]]
    if len(refs) != 2:
        raise InvalidRequest("Name two: models compare digits@champion digits@4 (or: digits champion 4).")
    first, second = (ref if "@" in ref or ref.startswith("job:") else f"{ref}@champion" for ref in refs)
    return first, second


def registered(client: Client, first: str, second: str) -> Data:
    """The API's comparison, with `titles`. Two names, and jobs, have to be measured."""
    (name, _, a), (other, _, b) = first.partition("@"), second.partition("@")
    if name != other or not a or not b:
        raise InvalidRequest(
            f"{first} and {second} are not versions of one model; --on DATASET measures both on one set."
        )
    found = client.compare(name, a, b)
    return {**found, "titles": [f"{name}@{found[side]['version']}" for side in ("a", "b")]}


def measured(client: Client, first: str, second: str, on: str) -> Data:
    """Both on the same version of a data set, by evaluate jobs that run one after the other or side by side, whatever
    workers there are. Raises JobFailed."""
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
    """In the framework that the model was trained in: some worker has it."""
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

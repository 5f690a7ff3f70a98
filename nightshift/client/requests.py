"""Calls of the API, written once for both clients; their docstrings are those of the clients' methods.

A call is a generator: it yields requests (`Request`), receives the parsed responses, and returns the result.
`Client` runs it blocking and `AsyncClient` awaits it; the call itself does no I/O.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, cast
from urllib.parse import quote

from nightshift.client import types
from nightshift.client.resources import Dataset, Device, Family, InstalledProgram, ModelSummary, Worker, each
from nightshift.errors import InvalidRequest

T = TypeVar("T")
Data = dict[str, Any]

#: A job id, or a prefix of one.
JOB_ID = re.compile(r"[0-9a-f]{4,16}")
#: Timeout of an upload request (seconds).
UPLOAD_TIMEOUT = 3600.0
#: Largest page requested when the number of items is limited.
PAGE = 100
IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE"})


@dataclass(frozen=True)
class Request:
    """One request. `safe`: it is idempotent, so it may be retried. `options` are keyword arguments of httpx."""

    method: str
    path: str
    safe: bool
    options: Mapping[str, Any] = field(default_factory=dict)


Call = Generator[Request, Any, T]


class Dumpable(Protocol):
    """A pydantic model, such as those of `shared.specs.jobs`."""

    def model_dump_json(self, *, exclude_unset: bool) -> str:
        """Return the model as JSON."""


Spec = Mapping[str, Any] | Dumpable


def get(path: str, params: Data | None = None) -> Request:
    """Return a GET request."""
    return Request("GET", path, True, {"params": params} if params else {})


def send(method: str, path: str, body: Spec, *, safe: bool | None = None, headers: Data | None = None) -> Request:
    """Return a request with a JSON body. NaN and infinity are sent: the API rejects them and names the field."""
    content = json.dumps(body) if isinstance(body, Mapping) else body.model_dump_json(exclude_unset=True)
    options = {"content": content.encode(), "headers": {"content-type": "application/json", **(headers or {})}}
    return Request(method, path, method in IDEMPOTENT if safe is None else safe, options)


class Pages:
    """Pagination of a collection: at most `limit` items (None: all)."""

    def __init__(self, path: str, params: Data | None = None, limit: int | None = None) -> None:
        self._path, self._left = path, limit
        self._query = {name: value for name, value in (params or {}).items() if value is not None}
        self._more = True

    def next(self) -> Request | None:
        """Return the request for the next page, or None after the last."""
        if not self._more or (self._left is not None and self._left <= 0):
            return None
        if self._left is not None:
            self._query["limit"] = min(self._left, PAGE)
        return get(self._path, dict(self._query))

    def take(self, page: Any) -> list[Data]:
        """Return the items of a page and store its cursor."""
        items: list[Data] = page["items"] if self._left is None else page["items"][: self._left]
        self._left = None if self._left is None else self._left - len(items)
        self._more, self._query["cursor"] = bool(page.get("next_cursor")), page.get("next_cursor")
        return items


def collect(path: str, params: Data | None = None, limit: int | None = None) -> Call[list[Any]]:
    """Return the items of all pages, at most `limit`."""
    pages, found = Pages(path, params, limit), []
    while (request := pages.next()) is not None:
        found += pages.take((yield request))
    return found


# -- jobs -----------------------------------------------------------------------------------------


def submit(spec: Spec | None = None, idempotency_key: str | None = None, **fields: Any) -> Call[types.JobData]:
    """Submit a job: `spec`, or a spec made of `fields`. Given both, the fields replace those of the spec."""
    headers = key_header(idempotency_key)
    return cast("types.JobData", (yield send("POST", "jobs", _body(spec, fields), safe=True, headers=headers)))


def submit_batch(
    specs: Iterable[Spec], idempotency_key: str | None = None, *, each: bool = False
) -> Call[list[types.BatchItem]]:
    """Submit several jobs in one transaction: all or none, or `each` by itself."""
    body = {"jobs": [_plain(spec) for spec in specs], "mode": "each" if each else "all"}
    answer = yield send("POST", "jobs/batch", body, safe=True, headers=key_header(idempotency_key))
    return cast("list[types.BatchItem]", answer["items"])


def key_header(idempotency_key: str | None) -> dict[str, str]:
    """Return the header with the key, or with a new one. Raises InvalidRequest."""
    key = idempotency_key or str(uuid.uuid4())
    if not (key.isascii() and key.isprintable()):
        raise InvalidRequest("The idempotency key may contain only printable ASCII characters.")
    return {"idempotency-key": key}


def _plain(spec: Spec) -> Mapping[str, Any]:
    if isinstance(spec, Mapping):
        return spec
    parsed: dict[str, Any] = json.loads(spec.model_dump_json(exclude_unset=True))
    return parsed


def _body(spec: Spec | None, fields: Mapping[str, Any]) -> Spec:
    if spec is None:
        return fields
    if not fields:
        return spec
    return {**_plain(spec), **fields}


def rerun(job_id: str, set: Mapping[str, Any] | None = None, idempotency_key: str | None = None) -> Call[types.JobData]:
    """Submit a copy of a job, changed by `set`: values by dotted path, such as `{"training.epochs": 10}`."""
    headers = {"idempotency-key": idempotency_key or str(uuid.uuid4())}
    request = send("POST", f"jobs/{job_id}/rerun", {"set": dict(set or {})}, safe=True, headers=headers)
    return cast("types.JobData", (yield request))


def edit(job_id: str, **changes: Any) -> Call[types.JobData]:
    """Change a job's `name`, `notes`, `tags` (a value of None removes the tag) or, before it runs, `priority`."""
    return cast("types.JobData", (yield send("PATCH", f"jobs/{job_id}", changes, safe=True)))


def job(job_id: str) -> Call[types.JobData]:
    """Return a job by its id or a unique prefix of it (4 characters or more).

    Raises `NotFound`, and `Conflict` for a prefix that several jobs share.
    """
    if not JOB_ID.fullmatch(job_id):
        raise InvalidRequest(f"{job_id!r} is not a job id: use all 16 hexadecimal digits or at least the first 4.")
    return cast("types.JobData", (yield get(f"jobs/{job_id}")))


def jobs(
    *,
    state: str | None = None,
    kind: str | None = None,
    family: str | None = None,
    tag: str | None = None,
    search: str | None = None,
    sweep: str | None = None,
    limit: int | None = None,
) -> Pages:
    """Return the pages of the jobs that match all filters, newest first."""
    filters = {"state": state, "kind": kind, "family": family, "tag": tag, "q": search, "sweep": sweep}
    return Pages("jobs", filters, limit)


def control(job_id: str, verb: str) -> Call[types.JobData]:
    """Request cancel, finish, pause, resume, archive or unarchive. Return the job after that."""
    yield Request("POST", f"jobs/{job_id}/{verb}", False)
    return cast("types.JobData", (yield get(f"jobs/{job_id}")))


def delete(job_id: str) -> Call[None]:
    """Delete a finished job and its files. Raises `Conflict` while a model, job or schedule needs it."""
    yield Request("DELETE", f"jobs/{job_id}", False)


def why(job_id: str) -> Call[types.WhyData]:
    """Explain the job's state: why it waits, what it does, or how it ended.

    `sentence` is the explanation; each of `reasons` has `code`, `sentence` and `fields`.
    """
    return cast("types.WhyData", (yield get(f"jobs/{job_id}/why")))


def metrics(
    job_id: str, name: str | None = None, *, after_step: int | None = None, max_points: int | None = None
) -> Call[types.MetricTable]:
    """Return the job's metric points, sorted by name and step, as rows for `pandas.DataFrame`.

    `name` selects one metric, `after_step` the points after a step. Longer series are thinned to `max_points`,
    keeping their extremes.
    """
    params = {"name": name, "after_step": after_step, "max_points": max_points}
    return types.MetricTable((yield from collect(f"jobs/{job_id}/metrics", params)))


def system(job_id: str) -> Call[list[types.SystemData]]:
    """Return samples of the CPU, memory and GPU usage of the job's attempts, oldest first."""
    return (yield from collect(f"jobs/{job_id}/system"))


def attempts(job_id: str) -> Call[list[types.AttemptData]]:
    """Return the job's attempts with their outcomes, newest first."""
    return (yield from collect(f"jobs/{job_id}/attempts"))


def shards(job_id: str) -> Call[list[types.JobData]]:
    """Return the shards of a batch inference, in the order of their rows; none if it is computed in one piece."""
    return (yield from collect(f"jobs/{job_id}/shards"))


def checkpoints(job_id: str) -> Call[list[types.CheckpointData]]:
    """Return the job's checkpoints, newest first."""
    return (yield from collect(f"jobs/{job_id}/checkpoints"))


def logs(job_id: str, tail: int | None = None) -> Call[list[types.LogLine]]:
    """Return the job's log and output lines, oldest first; with `tail`, only the last `tail` lines."""
    found: list[types.LogLine] = yield from collect(f"jobs/{job_id}/logs")
    return found if tail is None else found[max(0, len(found) - tail) :]


def artifacts(job_id: str) -> Call[list[types.ArtifactData]]:
    """Return the job's artifacts."""
    return (yield from collect(f"jobs/{job_id}/artifacts"))


# -- workers, families, data sets -----------------------------------------------------------------


def workers() -> Call[list[Worker]]:
    """Return the workers, with their devices and current jobs."""
    return each(Worker, (yield from collect("workers")))


def devices() -> Call[list[Device]]:
    """Return the devices, with the attempts that hold them."""
    return each(Device, (yield from collect("devices")))


def cordon(name: str) -> Call[list[Device]]:
    """Let no attempt take a device (`gpu0@host`, a UUID) or those of a host; return them. Raises `NotFound`."""
    return (yield from _steer(name, "cordon"))


def drain(name: str) -> Call[list[Device]]:
    """Cordon a device or those of a host, and let the jobs on them return to the queue. Raises `NotFound`."""
    return (yield from _steer(name, "drain"))


def uncordon(name: str) -> Call[list[Device]]:
    """Let attempts take a device, or those of a host, again; return them. Raises `NotFound`."""
    return (yield from _steer(name, "uncordon"))


def forget(name: str) -> Call[list[Device]]:
    """Delete a device, or those of a host, that is gone; return them. Raises `NotFound`; `Conflict` if it lives."""
    return (yield from _steer(name, "forget"))


def _steer(name: str, action: str) -> Call[list[Device]]:
    changed = yield send("POST", f"devices/{quote(name, safe='')}/{action}", {}, safe=True)
    return each(Device, changed["items"])


def families() -> Call[list[Family]]:
    """Return the model families, with their presets and the JSON schemas of their settings."""
    return each(Family, (yield from collect("families")))


def model_summary(model: Mapping[str, Any], dataset: str | None = None) -> Call[ModelSummary]:
    """Return the layers of a model that is not trained yet, with shapes and numbers of parameters.

    `model` is that of a job: `{"family": "cnn", "preset": "mnist-2conv", "filters": [8, 16]}`. Without a data set a
    typical one is supposed. Raises `InvalidRequest` as for a job.
    """
    body = {"model": dict(model)} | ({} if dataset is None else {"dataset": dataset})
    return ModelSummary((yield send("POST", "families/summary", body, safe=True)))


def programs() -> Call[list[InstalledProgram]]:
    """Return the programs that jobs of kind `run` may name, with the JSON schemas of their parameters."""
    return each(InstalledProgram, (yield from collect("programs")))


def datasets() -> Call[list[Dataset]]:
    """Return the data sets, each at its newest version, and the built-in ones."""
    return each(Dataset, (yield from collect("datasets")))


def dataset(name: str) -> Call[Dataset]:
    """Return a data set (`pets`, or a version of it: `pets@3`) with its versions. Raises `NotFound`."""
    return Dataset((yield get(dataset_path(name))))


def delete_dataset_version(name: str, version: int) -> Call[None]:
    """Delete a version of a data set. Raises `Conflict` while an unfinished job or a schedule needs it."""
    yield Request("DELETE", f"{dataset_path(name)}/versions/{version}", True)


def add_dataset(file: Any, name: str, format: str | None = None, kind: str | None = None) -> Request:
    """Return the request that registers `file`, a pair of file name and stream."""
    return _upload("datasets", file, name=name, format=format, kind=kind)


def append_to_dataset(file: Any, name: str, format: str | None = None) -> Request:
    """Return the request that appends `file`, a pair of file name and stream."""
    return _upload(f"{dataset_path(name)}/append", file, format=format)


def _upload(path: str, file: Any, **fields: str | None) -> Request:
    given = {name: value for name, value in fields.items() if value is not None}
    return Request("POST", path, False, {"data": given, "files": {"file": file}, "timeout": UPLOAD_TIMEOUT})


def dataset_path(name: str) -> str:
    """Return the URL path of a data set."""
    return f"datasets/{quote(name, safe='')}"

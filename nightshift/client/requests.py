"""Calls of the API: the requests of each and what it returns, once for both clients.

A call is a generator: it yields requests (`Request`), is sent their parsed answers, and returns the result. `Client` and
`AsyncClient` run it, blocking or awaited; the call itself does no I/O.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, cast
from urllib.parse import quote

from nightshift.client import types
from nightshift.client.resources import Dataset, Family, Worker, each
from nightshift.errors import InvalidRequest

T = TypeVar("T")
Data = dict[str, Any]

#: A whole job id, or the beginning of one.
JOB_ID = re.compile(r"[0-9a-f]{4,16}")
#: What the server may take to read an upload (seconds).
UPLOAD_TIMEOUT = 3600.0
#: Items of a page when only so many are wanted.
PAGE = 100
IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE"})


@dataclass(frozen=True)
class Request:
    """One request. `safe`: sending it twice does what sending it once does. `options` go to httpx."""

    method: str
    path: str
    safe: bool
    options: Mapping[str, Any] = field(default_factory=dict)


Call = Generator[Request, Any, T]


class Dumpable(Protocol):
    """A pydantic model, such as those of `shared.specs.jobs`."""

    def model_dump_json(self, *, exclude_unset: bool) -> str: ...


Spec = Mapping[str, Any] | Dumpable


def get(path: str, params: Data | None = None) -> Request:
    return Request("GET", path, True, {"params": params} if params else {})


def send(method: str, path: str, body: Spec, *, safe: bool | None = None, headers: Data | None = None) -> Request:
    """NaN and the like go through: the API says which field holds them."""
    content = json.dumps(body) if isinstance(body, Mapping) else body.model_dump_json(exclude_unset=True)
    options = {"content": content.encode(), "headers": {"content-type": "application/json", **(headers or {})}}
    return Request(method, path, method in IDEMPOTENT if safe is None else safe, options)


class Pages:
    """A collection, page after page, `limit` items of it at most (None: all)."""

    def __init__(self, path: str, params: Data | None = None, limit: int | None = None) -> None:
        self._path, self._left = path, limit
        self._query = {name: value for name, value in (params or {}).items() if value is not None}
        self._more = True

    def next(self) -> Request | None:
        """The request for the next page; None after the last."""
        if not self._more or (self._left is not None and self._left <= 0):
            return None
        if self._left is not None:
            self._query["limit"] = min(self._left, PAGE)
        return get(self._path, dict(self._query))

    def take(self, page: Any) -> list[Data]:
        """The page's items."""
        items: list[Data] = page["items"] if self._left is None else page["items"][: self._left]
        self._left = None if self._left is None else self._left - len(items)
        self._more, self._query["cursor"] = bool(page.get("next_cursor")), page.get("next_cursor")
        return items


def collect(path: str, params: Data | None = None, limit: int | None = None) -> Call[list[Any]]:
    pages, found = Pages(path, params, limit), []
    while (ask := pages.next()) is not None:
        found += pages.take((yield ask))
    return found


# -- jobs -----------------------------------------------------------------------------------------


def submit(spec: Spec | None = None, idempotency_key: str | None = None, **fields: Any) -> Call[types.JobData]:
    """Submit `spec`, or the job of these `fields`; given both, the fields replace those of the spec."""
    key = idempotency_key or str(uuid.uuid4())
    if not (key.isascii() and key.isprintable()):
        raise InvalidRequest("The idempotency key may hold printable ASCII characters only.")
    return cast(
        "types.JobData", (yield send("POST", "jobs", _body(spec, fields), safe=True, headers={"idempotency-key": key}))
    )


def _body(spec: Spec | None, fields: Mapping[str, Any]) -> Spec:
    if spec is None:
        return fields
    if not fields:
        return spec
    given = spec if isinstance(spec, Mapping) else json.loads(spec.model_dump_json(exclude_unset=True))
    return {**given, **fields}


def rerun(job_id: str, set: Mapping[str, Any] | None = None, idempotency_key: str | None = None) -> Call[types.JobData]:
    """A new job like this one, with `set`: values by dotted path, such as `{"training.epochs": 10}`."""
    headers = {"idempotency-key": idempotency_key or str(uuid.uuid4())}
    asked = send("POST", f"jobs/{job_id}/rerun", {"set": dict(set or {})}, safe=True, headers=headers)
    return cast("types.JobData", (yield asked))


def edit(job_id: str, **changes: Any) -> Call[types.JobData]:
    """Another `name`, `notes`, `tags` (those named are set, or with None removed) or, while it waits, `priority`."""
    return cast("types.JobData", (yield send("PATCH", f"jobs/{job_id}", changes, safe=True)))


def job(job_id: str) -> Call[types.JobData]:
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
    limit: int | None = None,
) -> Pages:
    return Pages("jobs", {"state": state, "kind": kind, "family": family, "tag": tag, "q": search}, limit)


def control(job_id: str, verb: str) -> Call[types.JobData]:
    """Asks for cancel, finish, pause, resume, archive or unarchive; the job as it is then."""
    yield Request("POST", f"jobs/{job_id}/{verb}", False)
    return cast("types.JobData", (yield get(f"jobs/{job_id}")))


def delete(job_id: str) -> Call[None]:
    """For good; raises Conflict while something needs it."""
    yield Request("DELETE", f"jobs/{job_id}", False)


def why(job_id: str) -> Call[types.WhyData]:
    """Why the job waits, what it is doing, or how it ended: `sentence`, and `reasons` with code and fields."""
    return cast("types.WhyData", (yield get(f"jobs/{job_id}/why")))


def metrics(
    job_id: str, name: str | None = None, *, after_step: int | None = None, max_points: int | None = None
) -> Call[types.MetricTable]:
    """Its points, by name and step: a list of rows that `pandas.DataFrame` takes as they are (or `to_pandas()`)."""
    params = {"name": name, "after_step": after_step, "max_points": max_points}
    return types.MetricTable((yield from collect(f"jobs/{job_id}/metrics", params)))


def system(job_id: str) -> Call[list[types.SystemData]]:
    """What its runners used, sampled every few seconds, oldest first."""
    return (yield from collect(f"jobs/{job_id}/system"))


def attempts(job_id: str) -> Call[list[types.AttemptData]]:
    """Newest first, with how each ended."""
    return (yield from collect(f"jobs/{job_id}/attempts"))


def checkpoints(job_id: str) -> Call[list[types.CheckpointData]]:
    """Newest first."""
    return (yield from collect(f"jobs/{job_id}/checkpoints"))


def logs(job_id: str, tail: int | None = None) -> Call[list[types.LogLine]]:
    """What it logged and printed, oldest first; `tail` is the number of lines from the end."""
    found: list[types.LogLine] = yield from collect(f"jobs/{job_id}/logs")
    return found if tail is None else found[max(0, len(found) - tail) :]


def artifacts(job_id: str) -> Call[list[types.ArtifactData]]:
    return (yield from collect(f"jobs/{job_id}/artifacts"))


# -- what is there --------------------------------------------------------------------------------


def workers() -> Call[list[Worker]]:
    return each(Worker, (yield from collect("workers")))


def families() -> Call[list[Family]]:
    """Each family's presets, and the JSON schema of its settings."""
    return each(Family, (yield from collect("families")))


def datasets() -> Call[list[Dataset]]:
    return each(Dataset, (yield from collect("datasets")))


def dataset(name: str) -> Call[Dataset]:
    return Dataset((yield get(dataset_path(name))))


def delete_dataset_version(name: str, version: int) -> Call[None]:
    """Raises `Conflict` while an unfinished job or a schedule needs it."""
    yield Request("DELETE", f"{dataset_path(name)}/versions/{version}", True)


def add_dataset(file: Any, name: str, format: str | None = None) -> Request:
    """`file`: (name, stream)."""
    return _upload("datasets", file, name=name, format=format)


def append_to_dataset(file: Any, name: str, format: str | None = None) -> Request:
    return _upload(f"{dataset_path(name)}/append", file, format=format)


def _upload(path: str, file: Any, **fields: str | None) -> Request:
    given = {name: value for name, value in fields.items() if value is not None}
    return Request("POST", path, False, {"data": given, "files": {"file": file}, "timeout": UPLOAD_TIMEOUT})


def dataset_path(name: str) -> str:
    return f"datasets/{quote(name, safe='')}"

"""An API in memory, for tests of the client alone. Pass its `transport` to a `Client`.

`jobs` are served as they are, `events[job_id]` as a stream, `files[job_id][path]` as artifacts. `failures` are returned
(or raised) first, one per request, in order; `added` are more facts of an added data set; `requests` records all
requests.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import httpx

ID = "a1b2c3d4e5f60718"
OTHER_ID = "ffb2c3d4e5f60718"


def job_data(job_id: str = ID, **changes: Any) -> dict[str, Any]:
    """Return a job as the API does."""
    return {
        "id": job_id, "kind": "train", "name": "digits nightly", "state": "queued", "family": "cnn",
        "framework": "torch",
        "dataset": "digits", "priority": 5, "attempt": 0, "progress": None, "stop_requested": None,
        "created_at": "2027-01-31T02:00:00.000Z", "run_at": None, "started_at": None, "finished_at": None,
        "worker": None,
        "device": None, "error": None, "result": None, "tags": {},
        "spec": {"kind": "train", "model": {"family": "cnn", "preset": "mnist-3conv"}, "training": {"epochs": 5}},
        **changes,
    }  # fmt: skip


def problem(status: int, detail: str, errors: list[dict[str, Any]] | None = None) -> httpx.Response:
    body = {"type": "urn:x", "title": "T", "status": status, "detail": detail, "instance": "/", "errors": errors or []}
    return httpx.Response(status, content=json.dumps(body), headers={"content-type": "application/problem+json"})


class FakeApi:
    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.events: dict[str, list[tuple[int, str, dict[str, Any]]]] = {}
        self.files: dict[str, dict[str, bytes]] = {}
        self.collections: dict[str, list[dict[str, Any]]] = {}
        self.added: dict[str, Any] = {}
        self.failures: list[httpx.Response | Exception] = []
        self.requests: list[httpx.Request] = []
        self.page_size = 2
        self.transport = httpx.MockTransport(self._answer)

    def bodies(self) -> list[Any]:
        """Return the parsed JSON bodies of all requests with one."""
        return [json.loads(request.content) for request in self.requests if request.content]

    def _answer(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.requests.append(request)
        if self.failures:
            failure = self.failures.pop(0)
            if isinstance(failure, Exception):
                raise failure
            return failure
        parts = request.url.path.removeprefix("/v1/").split("/")
        if request.method == "PATCH":
            return httpx.Response(200, json=self.jobs[parts[1]])
        if request.method == "DELETE" and parts[0] == "jobs":
            if self.jobs[parts[1]]["state"] != "succeeded":
                return problem(409, f"Job {parts[1]} is needed by job {OTHER_ID}.")
            del self.jobs[parts[1]]
            return httpx.Response(204)
        if request.method == "POST":
            return self._post(request, parts)
        if parts[0] != "jobs" or len(parts) == 1:
            return self._get_collection(request, parts)
        return self._get_job(request, parts[1], parts[2:])

    def _post(self, request: httpx.Request, parts: list[str]) -> httpx.Response:
        if parts == ["jobs"]:
            return httpx.Response(202, json=self.jobs.setdefault(ID, job_data(spec=json.loads(request.content))))
        if parts[0] == "jobs" and parts[2] == "rerun":
            named = {"register_as": json.loads(request.content)["set"].get("register_as")}
            spec = self.jobs[parts[1]]["spec"]
            return httpx.Response(202, json=job_data(OTHER_ID, spec=spec | named if spec["kind"] == "train" else spec))
        if parts[0] == "jobs":
            self.jobs[parts[1]]["stop_requested"] = parts[2]
            return httpx.Response(202, json=self.jobs[parts[1]])
        if parts == ["families", "summary"]:
            return httpx.Response(200, json=self.collections["summaries"][0])
        return httpx.Response(201, json={"name": "mine", "version": 2, **self.added})

    def _get_collection(self, request: httpx.Request, parts: list[str]) -> httpx.Response:
        if len(parts) > 1:
            found = [item for item in self.collections.get(parts[0], []) if item["name"] == parts[1]]
            return (
                httpx.Response(200, json=found[0]) if found else problem(404, f"There is no {parts[0]} {parts[1]!r}.")
            )
        items = list(self.jobs.values()) if parts == ["jobs"] else self.collections.get("/".join(parts), [])
        return self._page(request, items)

    def _page(self, request: httpx.Request, items: list[dict[str, Any]]) -> httpx.Response:
        query = request.url.params
        start = int(query.get("cursor", 0))
        end = start + min(int(query.get("limit", 50)), self.page_size)
        return httpx.Response(
            200, json={"items": items[start:end], "next_cursor": str(end) if end < len(items) else None}
        )

    def _get_job(self, request: httpx.Request, beginning: str, rest: list[str]) -> httpx.Response:
        ids = [job_id for job_id in self.jobs if job_id.startswith(beginning)]
        if len(ids) != 1:
            return problem(404, f"There is no job {beginning!r}.")
        if not rest:
            return httpx.Response(200, json=self.jobs[ids[0]])
        if rest == ["events"]:
            after = int(request.headers.get("last-event-id", 0))
            return httpx.Response(200, content=b"".join(self._stream(ids[0], after, request.url.params.get("type"))))
        if rest[0] == "artifacts":
            return self._artifacts(request, ids[0], "/".join(rest[1:]))
        return self._page(request, self.collections.get(f"jobs/{rest[0]}", []))

    def _stream(self, job_id: str, after: int, only: str | None) -> Iterator[bytes]:
        for seq, kind, data in self.events.get(job_id, []):
            if seq > after and only in (None, kind):
                yield f"id: {seq}\nevent: {kind}\ndata: {json.dumps(data)}\n\n".encode()

    def _artifacts(self, request: httpx.Request, job_id: str, path: str) -> httpx.Response:
        files = self.files.get(job_id, {})
        if path:
            return httpx.Response(200, content=files[path])
        facts = [
            {"path": name, "sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data), "media_type": "x/y"}
            for name, data in files.items()
        ]
        return self._page(request, facts)

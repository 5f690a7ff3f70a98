"""The Python SDK.

    from api.client.sdk import Client

    with Client() as nightshift:
        job = nightshift.submit({"kind": "train", "model": {"family": "cnn"}, "dataset": "digits"})
        for event in job.events():
            print(event.type, event.data)
        job.artifact("model/model.safetensors")

Errors are those of `shared.errors` (`InvalidRequest`, `NotFound`, `Conflict`, …, with `detail` and `errors`), and
`ApiUnreachable` when nothing answers. Calls that are safe to repeat are repeated when the connection fails; `submit` is,
because it carries an idempotency key.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import httpx

from api.client import locate, shapes, stream, upload
from api.client.calls import ModelCalls, ScheduleCalls
from api.client.shapes import Event, JobData
from api.client.transport import ANSWER_TIMEOUT, UPLOAD_TIMEOUT, Transport
from shared.errors import InvalidRequest, NightshiftError, NotFound
from shared.jobs.states import JobState

#: A whole job id, or the beginning of one.
JOB_ID = re.compile(r"[0-9a-f]{4,16}")


class DamagedDownload(NightshiftError):
    """What arrived does not match the artifact's SHA-256."""


class Client(ModelCalls, ScheduleCalls):
    """One connection to the API. `url` and `key` default to what `locate.find` finds; `retries` is per call."""

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        data_dir: str | Path | None = None,
        retries: int = 4,
        timeout: float = ANSWER_TIMEOUT,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.endpoint = locate.find(url, key, data_dir)
        self._transport = Transport(self.endpoint, retries=retries, timeout=timeout, transport=transport)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self._transport.close()

    # -- jobs -------------------------------------------------------------------------------------

    def submit(self, spec: dict[str, Any], idempotency_key: str | None = None) -> Job:
        """Accepts the job and returns it; with the same key and spec twice, the same job."""
        key = idempotency_key or str(uuid.uuid4())
        if not (key.isascii() and key.isprintable()):
            raise InvalidRequest("The idempotency key may hold printable ASCII characters only.")
        headers = {"idempotency-key": key, "content-type": "application/json"}
        body = json.dumps(spec).encode()  # NaN and the like go through: the API says which field holds them
        return Job(self, self._transport.json("POST", "jobs", safe=True, content=body, headers=headers))

    def job(self, job_id: str) -> Job:
        """The job with this id, or with the only id that begins so (4 characters or more)."""
        if not JOB_ID.fullmatch(job_id):
            raise InvalidRequest(
                f"{job_id!r} is no job id: it has 16 hexadecimal digits, or at least the first 4 of them."
            )
        return Job(self, self._transport.json("GET", f"jobs/{job_id}"))

    def jobs(
        self,
        *,
        state: str | None = None,
        kind: str | None = None,
        family: str | None = None,
        tag: str | None = None,
        limit: int | None = None,
    ) -> Iterator[Job]:
        """Newest first, fetched page by page; `limit` is the most that come (None: all)."""
        wanted = {"state": state, "kind": kind, "family": family, "tag": tag}
        for data in self._items("jobs", wanted, limit):
            yield Job(self, data)

    # -- what is there ----------------------------------------------------------------------------

    def workers(self) -> list[dict[str, Any]]:
        return list(self._items("workers"))

    def families(self) -> list[dict[str, Any]]:
        return list(self._items("families"))

    def datasets(self) -> list[dict[str, Any]]:
        return list(self._items("datasets"))

    def dataset(self, name: str) -> dict[str, Any]:
        return cast("dict[str, Any]", self._transport.json("GET", f"datasets/{quote(name, safe='')}"))

    def dataset_sample(self, name: str) -> bytes:
        """A look at a data set: a PNG of images, or the beginning of a text in UTF-8."""
        with self._transport.stream(f"datasets/{quote(name, safe='')}/sample") as answer:
            return answer.read()

    def add_dataset(self, name: str, path: str | Path, format: str | None = None) -> dict[str, Any]:
        """Registers a file or a folder of this machine as a new version of the data set `name`."""
        data = {"name": name, **({"format": format} if format else {})}
        with upload.opened(Path(path)) as (file_name, file):
            answer = self._transport.json(
                "POST", "datasets", safe=False, data=data, files={"file": (file_name, file)}, timeout=UPLOAD_TIMEOUT
            )
        return cast("dict[str, Any]", answer)

    def _items(
        self, path: str, params: dict[str, Any] | None = None, limit: int | None = None
    ) -> Iterator[dict[str, Any]]:
        """The items of a collection, page after page, `limit` of them at most."""
        query: dict[str, Any] = {name: value for name, value in (params or {}).items() if value is not None}
        left = limit
        while left is None or left > 0:
            if left is not None:
                query["limit"] = min(left, 100)
            page = self._transport.json("GET", path, params=query)
            items = page["items"] if left is None else page["items"][:left]
            yield from items
            left = None if left is None else left - len(items)
            if not page.get("next_cursor"):
                return
            query["cursor"] = page["next_cursor"]


class Job:
    """A job as it was when last asked; `data` is the API's answer, `refresh()` asks again."""

    def __init__(self, client: Client, data: dict[str, Any]) -> None:
        self._client, self._transport = client, client._transport
        self.data = cast("JobData", data)

    def __repr__(self) -> str:
        return f"<Job {self.id} {self.data.get('kind')} {self.state}>"

    @property
    def id(self) -> str:
        return self.data["id"]

    @property
    def state(self) -> JobState:
        return JobState(self.data["state"])

    @property
    def is_final(self) -> bool:
        return self.state.is_final

    @property
    def progress(self) -> shapes.Progress | None:
        return self.data.get("progress")

    @property
    def result(self) -> dict[str, Any] | None:
        return self.data.get("result")

    @property
    def error(self) -> dict[str, Any] | None:
        return self.data.get("error")

    def refresh(self) -> Job:
        self.data = self._transport.json("GET", f"jobs/{self.id}")
        return self

    def why(self) -> shapes.WhyData:
        """Why the job waits, what it is doing, or how it ended: `sentence`, and `reasons` with code and fields."""
        return cast("shapes.WhyData", self._transport.json("GET", f"jobs/{self.id}/why"))

    # -- requests ---------------------------------------------------------------------------------

    def cancel(self) -> Job:
        return self._ask("cancel")

    def finish(self) -> Job:
        """Stop now and keep the best model as the result."""
        return self._ask("finish")

    def pause(self) -> Job:
        return self._ask("pause")

    def resume(self) -> Job:
        return self._ask("resume")

    def _ask(self, verb: str) -> Job:
        self._transport.ask(f"jobs/{self.id}/{verb}")
        return self.refresh()

    # -- following --------------------------------------------------------------------------------

    def events(
        self, after: int | None = None, *, patience: float = 300.0, on_drop: stream.OnDrop | None = None
    ) -> Iterator[Event]:
        """What happens to the job, from the beginning or after an event's id, until it is final.

        A dropped connection is taken up where it broke; nothing comes twice and nothing is missed. Raises
        `Unavailable` when the API cannot be reached for `patience` seconds.
        """
        return stream.follow(
            self._event_stream, lambda: self.refresh().is_final, after=after, patience=patience, on_drop=on_drop
        )

    @contextmanager
    def _event_stream(self, after: int | None) -> Iterator[Iterable[bytes]]:
        headers = {"accept": "text/event-stream"}
        if after is not None:
            headers["last-event-id"] = str(after)
        with self._transport.stream(f"jobs/{self.id}/events", headers=headers) as response:
            yield response.iter_bytes()

    def wait(self, timeout: float | None = None) -> Job:
        """Returns when the job is final; raises `TimeoutError` after `timeout` seconds. Look at `state` then."""
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = 0.05
        while not self.refresh().is_final:
            if deadline is not None and time.monotonic() + pause > deadline:
                raise TimeoutError(f"job {self.id} is still {self.state} after {timeout} seconds")
            time.sleep(pause)
            pause = min(pause * 1.5, 2.0)
        return self

    # -- what it leaves ---------------------------------------------------------------------------

    def metrics(
        self, name: str | None = None, *, after_step: int | None = None, max_points: int | None = None
    ) -> list[shapes.MetricPoint]:
        params = {"name": name, "after_step": after_step, "max_points": max_points}
        return cast("list[shapes.MetricPoint]", self._list("metrics", params))

    def attempts(self) -> list[shapes.AttemptData]:
        return cast("list[shapes.AttemptData]", self._list("attempts"))

    def checkpoints(self) -> list[shapes.CheckpointData]:
        return cast("list[shapes.CheckpointData]", self._list("checkpoints"))

    def logs(self) -> list[shapes.LogLine]:
        return cast("list[shapes.LogLine]", self._list("logs"))

    def artifacts(self) -> list[Artifact]:
        return [Artifact(self, data) for data in self._list("artifacts")]

    def artifact(self, path: str) -> bytes:
        """The content of one artifact, e.g. `"evaluation.json"`."""
        return self._artifact(path).read()

    def download(self, folder: str | Path, paths: Iterable[str] | None = None) -> list[Path]:
        """Writes artifacts (all, or those named) below `folder`; the files written."""
        chosen = self.artifacts() if paths is None else [self._artifact(path) for path in paths]
        return [artifact.download(folder) for artifact in chosen]

    def _artifact(self, path: str) -> Artifact:
        known = {artifact.path: artifact for artifact in self.artifacts()}
        if path not in known:
            there = ", ".join(known) or "none so far"
            raise NotFound(f"Job {self.id} has no artifact {path!r}; it has: {there}.")
        return known[path]

    def _list(self, what: str, params: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        return list(self._client._items(f"jobs/{self.id}/{what}", params))


class Artifact:
    """A file a job left. What is read is checked against its SHA-256."""

    def __init__(self, job: Job, data: dict[str, Any]) -> None:
        self._job, self.data = job, cast("shapes.ArtifactData", data)

    @property
    def path(self) -> str:
        return self.data["path"]

    @property
    def size_bytes(self) -> int:
        return self.data["size_bytes"]

    def read(self) -> bytes:
        return b"".join(self._chunks())

    def download(self, folder: str | Path) -> Path:
        """Writes the file below `folder` under its own path; a partial or damaged one is never left there."""
        root = Path(folder).resolve()
        target = (root / self.path).resolve()
        if not target.is_relative_to(root):
            raise DamagedDownload(f"The artifact path {self.path!r} leaves the folder it is downloaded to.")
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            with partial.open("wb") as file:
                for chunk in self._chunks():
                    file.write(chunk)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
        return target

    def _chunks(self) -> Iterator[bytes]:
        digest = hashlib.sha256()
        path = f"jobs/{self._job.id}/artifacts/{quote(self.path)}"
        try:
            with self._job._transport.stream(path) as response:
                for chunk in response.iter_bytes():
                    digest.update(chunk)
                    yield chunk
        except stream.StreamDropped as error:
            raise DamagedDownload(f"The connection broke while {self.path} was downloaded: {error}") from error
        if digest.hexdigest() != self.data["sha256"]:
            raise DamagedDownload(f"{self.path} does not match its SHA-256; download it again.")

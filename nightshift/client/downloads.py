"""What both kinds of job handle have in common: the facts as last asked, how a job can end badly, files made whole."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

from nightshift.client import types
from nightshift.errors import NightshiftError, NotFound
from nightshift.states import JobState


class DamagedDownload(NightshiftError):
    """What arrived does not match the artifact's SHA-256."""


class JobFailed(NightshiftError):
    """A job that was waited for did not succeed: `job_id`, `type` (such as `bad_data`), `message`, `retryable`."""

    def __init__(self, data: types.JobData) -> None:
        error = data.get("error") or {}
        self.data, self.job_id = data, data["id"]
        self.type: str = error.get("type") or data["state"]
        self.message: str = error.get("message") or f"the job was {data['state']}"
        self.retryable = bool(error.get("retryable"))
        super().__init__(f"Job {self.job_id} {data['state']}: {self.type}: {self.message}")


class JobCancelled(JobFailed):
    """Somebody asked for its end."""


class JobFacts:
    """A job as it was when last asked; `data` is the API's answer."""

    def __init__(self, data: Any) -> None:
        self.data = cast("types.JobData", data)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.data.get('kind')} {self.state}>"

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
    def progress(self) -> types.Progress | None:
        return self.data.get("progress")

    @property
    def result(self) -> dict[str, Any] | None:
        return self.data.get("result")

    @property
    def error(self) -> dict[str, Any] | None:
        return self.data.get("error")

    def raise_unless_succeeded(self) -> None:
        if self.state is JobState.CANCELLED:
            raise JobCancelled(self.data)
        if self.state is JobState.FAILED:
            raise JobFailed(self.data)


class ArtifactFacts:
    """A file a job left. What is read is checked against its SHA-256."""

    def __init__(self, data: types.ArtifactData) -> None:
        self.data = data

    @property
    def path(self) -> str:
        return self.data["path"]

    @property
    def size_bytes(self) -> int:
        return self.data["size_bytes"]


Found = TypeVar("Found", bound=ArtifactFacts)


def named(job_id: str, artifacts: Iterable[Found], path: str) -> Found:
    """The artifact of this path; raises NotFound that says what there is."""
    known = {artifact.path: artifact for artifact in artifacts}
    if path not in known:
        raise NotFound(f"Job {job_id} has no artifact {path!r}; it has: {', '.join(known) or 'none so far'}.")
    return known[path]


class HashVerifier:
    """Counts what is read of an artifact; `finish` raises DamagedDownload unless it was the whole of it, unharmed."""

    def __init__(self, data: types.ArtifactData) -> None:
        self._data, self._digest = data, hashlib.sha256()

    def feed(self, chunk: bytes) -> bytes:
        self._digest.update(chunk)
        return chunk

    def finish(self) -> None:
        if self._digest.hexdigest() != self._data["sha256"]:
            raise DamagedDownload(f"{self._data['path']} does not match its SHA-256; download it again.")

    def broken(self, error: Exception) -> DamagedDownload:
        return DamagedDownload(f"The connection broke while {self._data['path']} was downloaded: {error}")


def safe_join(folder: str | Path, path: str) -> Path:
    """The file a path names below a folder, which it must not leave."""
    root = Path(folder).resolve()
    target = (root / path).resolve()
    if not target.is_relative_to(root):
        raise DamagedDownload(f"The artifact path {path!r} leaves the folder it is downloaded to.")
    return target


@contextmanager
def atomic_write(target: Path) -> Iterator[BinaryIO]:
    """A file that takes its place when the block ends well: a partial or damaged one is never left there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with partial.open("wb") as file:
            yield file
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)

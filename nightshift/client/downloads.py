"""Parts that the blocking and the asynchronous job share: its fields, its errors, and checked downloads."""

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
    """A downloaded file is incomplete or does not match its SHA-256."""


class JobFailed(NightshiftError):
    """A job failed. It has `job_id`, `type` (such as `bad_data`), `message` and `retryable`."""

    def __init__(self, data: types.JobData) -> None:
        error = data.get("error") or {}
        self.data, self.job_id = data, data["id"]
        self.type: str = error.get("type") or data["state"]
        self.message: str = error.get("message") or f"the job was {data['state']}"
        self.retryable = bool(error.get("retryable"))
        super().__init__(f"Job {self.job_id} {data['state']}: {self.type}: {self.message}")


class JobCancelled(JobFailed):
    """A job was cancelled by request."""


class JobFacts:
    """A job. `data` is the API's last response about it."""

    def __init__(self, data: Any) -> None:
        self.data = cast("types.JobData", data)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.data.get('kind')} {self.state}>"

    @property
    def id(self) -> str:
        """The job's id: 16 hexadecimal digits."""
        return self.data["id"]

    @property
    def state(self) -> JobState:
        """The job's state."""
        return JobState(self.data["state"])

    @property
    def is_final(self) -> bool:
        """Whether the job has succeeded, failed or been cancelled."""
        return self.state.is_final

    @property
    def progress(self) -> types.Progress | None:
        """Step, epoch, percent and remaining time; None before the first step."""
        return self.data.get("progress")

    @property
    def result(self) -> dict[str, Any] | None:
        """The result of a succeeded job, with `metrics`; else None."""
        return self.data.get("result")

    @property
    def error(self) -> dict[str, Any] | None:
        """The error of a failed job (`type`, `message`, `retryable`); else None."""
        return self.data.get("error")

    def raise_unless_succeeded(self) -> None:
        """Raise `JobFailed` if the job failed and `JobCancelled` if it was cancelled."""
        if self.state is JobState.CANCELLED:
            raise JobCancelled(self.data)
        if self.state is JobState.FAILED:
            raise JobFailed(self.data)


class ArtifactFacts:
    """A file that a job produced. Its content is checked against its SHA-256."""

    def __init__(self, data: types.ArtifactData) -> None:
        self.data = data

    @property
    def path(self) -> str:
        """The artifact's path within the job, such as `evaluation.json`."""
        return self.data["path"]

    @property
    def size_bytes(self) -> int:
        """The size in bytes."""
        return self.data["size_bytes"]


Found = TypeVar("Found", bound=ArtifactFacts)


def named(job_id: str, artifacts: Iterable[Found], path: str) -> Found:
    """Return the artifact with this path. Raises `NotFound` that lists the paths there are."""
    known = {artifact.path: artifact for artifact in artifacts}
    if path not in known:
        raise NotFound(f"Job {job_id} has no artifact {path!r}; it has: {', '.join(known) or 'none so far'}.")
    return known[path]


class HashVerifier:
    """Check of an artifact's SHA-256 while it is read."""

    def __init__(self, data: types.ArtifactData) -> None:
        self._data, self._digest = data, hashlib.sha256()

    def feed(self, chunk: bytes) -> bytes:
        """Add a chunk to the hash and return it."""
        self._digest.update(chunk)
        return chunk

    def finish(self) -> None:
        """Raise `DamagedDownload` if the chunks do not match the artifact's SHA-256."""
        if self._digest.hexdigest() != self._data["sha256"]:
            raise DamagedDownload(f"{self._data['path']} does not match its SHA-256; download it again.")

    def broken(self, error: Exception) -> DamagedDownload:
        """Return the error of a connection that broke."""
        return DamagedDownload(f"The connection broke while {self._data['path']} was downloaded: {error}")


def safe_join(folder: str | Path, path: str) -> Path:
    """Return the file of a path below a folder. Raises `DamagedDownload` for a path outside the folder."""
    root = Path(folder).resolve()
    target = (root / path).resolve()
    if not target.is_relative_to(root):
        raise DamagedDownload(f"The artifact path {path!r} leaves the folder it is downloaded to.")
    return target


@contextmanager
def atomic_write(target: Path) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces `target` when the block ends without an error."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with partial.open("wb") as file:
            yield file
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)

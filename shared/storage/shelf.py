"""The folders of data sets, for garbage collection: their age, and their removal in one step."""

from __future__ import annotations

import shutil
import time
import uuid
from pathlib import Path
from typing import Protocol

from shared.storage.s3_client import Bucket

_HASH = 64
#: Prefix of folders that are renamed before they are deleted.
_GONE = ".gone-"


class Shelf(Protocol):
    """The data set folders of a storage."""

    def old(self, grace_seconds: float) -> list[str]:
        """Return the content hashes of folders last written more than `grace_seconds` ago."""
        ...

    def take(self, sha256: str) -> None:
        """Make a folder unreachable in one step, so that no process opens part of it."""
        ...

    def clear(self) -> int:
        """Delete the taken folders, also those of a process that died; return their number."""
        ...


class FolderShelf:
    """Data set folders on a disk, taken by a rename."""

    def __init__(self, datasets_root: Path) -> None:
        self._root = datasets_root

    def old(self, grace_seconds: float) -> list[str]:
        return [path.name for path in self._children() if len(path.name) == _HASH and _age(path) > grace_seconds]

    def take(self, sha256: str) -> None:
        (self._root / sha256).rename(self._root / f"{_GONE}{sha256}-{uuid.uuid4().hex}")

    def clear(self) -> int:
        gone = [path for path in self._children() if path.name.startswith(_GONE)]
        for path in gone:
            shutil.rmtree(path, ignore_errors=True)
        return len(gone)

    def _children(self) -> list[Path]:
        return list(self._root.iterdir()) if self._root.is_dir() else []


def _age(path: Path) -> float:
    """Return the seconds since an entry of the folder was created; derived files beside the data count."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


class BucketShelf:
    """Data set folders in a bucket, where objects cannot be renamed in one step.

    `take` therefore deletes all objects of a folder, under the lock of its content. A registration of that content
    checks under the same lock that all objects exist.
    """

    def __init__(self, bucket: Bucket) -> None:
        self._bucket, self._taken = bucket, 0

    def old(self, grace_seconds: float) -> list[str]:
        """Return old folders, also incomplete ones of processes that died."""
        newest: dict[str, float] = {}
        for item in self._bucket.files("datasets", below=True):
            sha256 = item.key.split("/")[1]
            newest[sha256] = max(newest.get(sha256, 0.0), item.modified)
        if not newest:
            return []
        now = self._bucket.now()
        return [sha256 for sha256, at in newest.items() if len(sha256) == _HASH and now - at > grace_seconds]

    def take(self, sha256: str) -> None:
        for item in self._bucket.files(f"datasets/{sha256}", below=True):
            self._bucket.delete(item.key)
        self._taken += 1

    def clear(self) -> int:
        taken, self._taken = self._taken, 0
        return taken

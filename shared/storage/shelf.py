"""The folders of data sets as garbage collection sees them: how old each is, and one taken away in a single step."""

from __future__ import annotations

import shutil
import time
import uuid
from pathlib import Path
from typing import Protocol

from shared.storage.s3_client import Bucket

_HASH = 64
#: What taken folders are called until they are gone.
_GONE = ".gone-"


class Shelf(Protocol):
    def old(self, grace_seconds: float) -> list[str]:
        """Content hashes of the folders that were made, or made again, longer ago."""
        ...

    def take(self, sha256: str) -> None:
        """Out of the way in one step, so that nobody opens half of it."""
        ...

    def clear(self) -> int:
        """Remove what was taken, also by somebody who died then; how many."""
        ...


class FolderShelf:
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
    """Seconds since something in it was made; caches beside the data count."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


class BucketShelf:
    """Objects cannot be moved out of the way in one step. So all of a folder is deleted where `take` is called, under
    the lock of its content, and whoever registers that content looks under the same lock whether all of it is there."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket, self._taken = bucket, 0

    def old(self, grace_seconds: float) -> list[str]:
        """Also what was put half by somebody who died."""
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

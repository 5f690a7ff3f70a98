"""Cleanup of local files that attempts leave and the store does not have: they are not needed after the attempt."""

from __future__ import annotations

import shutil
from pathlib import Path

from shared.folders import remove_folder
from shared.storage.cache import STAGING, Cache, CacheLease, age

#: Age from which a data set that is not in the store is removed (seconds); until then it may be being uploaded.
GRACE_SECONDS = 3600.0


class ScratchFolder(CacheLease):
    """A job's folder while an attempt of this host works in it. Closing removes leftovers."""

    def __init__(self, cache: Cache, key: str) -> None:
        self._cache, self._key = cache, key
        self._lock = cache.lock_shared(key)
        super().__init__(cache.root / key)

    def close(self) -> None:
        """Release the folder and remove leftovers."""
        self._lock.close()
        sweep_job(self._cache, self._key)


def sweep(cache: Cache) -> None:
    """Remove leftovers of processes that died, in folders that are not in use."""
    for job in _children(cache.root / "jobs"):
        sweep_job(cache, f"jobs/{job.name}")
    stored = {entry.key for entry in cache.entries()}
    for path in _children(cache.root / "datasets"):
        key = f"datasets/{path.name.removeprefix(STAGING)}"
        begun = path.name.startswith(STAGING)
        if begun or (not path.name.startswith(".") and key not in stored and age(path) > GRACE_SECONDS):
            with cache.try_exclusive(key) as free:
                if free:
                    remove_folder(path)


def sweep_job(cache: Cache, key: str) -> None:
    """Remove leftovers in a job's folder, unless it is in use."""
    with cache.try_exclusive(key) as free:
        if free:
            _clean(cache.root, cache.root / key, {entry.key for entry in cache.entries()})
            cache.forget(key)


def _clean(root: Path, folder: Path, stored: set[str]) -> None:
    for path in _children(folder):
        key = path.relative_to(root).as_posix()
        if key in stored:
            continue
        if any(other.startswith(f"{key}/") for other in stored):
            _clean(root, path, stored)
        elif path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _children(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []

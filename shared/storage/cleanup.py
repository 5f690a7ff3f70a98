"""What attempts leave in the workshop of a host that the store does not have: nobody needs it once they are over."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from shared.storage.cache import ASIDE, Cache, CacheLease

#: A data set that was built and is not in the store is left alone for so long (seconds): it may be on its way there.
GRACE_SECONDS = 3600.0


class ScratchFolder(CacheLease):
    """A job's folder while an attempt of this host works in it. Closing removes what is left over."""

    def __init__(self, cache: Cache, key: str) -> None:
        self._cache, self._key = cache, key
        self._lock = cache.busy(key)
        super().__init__(cache.root / key)

    def close(self) -> None:
        self._lock.close()
        sweep_job(self._cache, self._key)


def sweep(cache: Cache) -> None:
    """What processes that died left, where nobody works now."""
    for job in _children(cache.root / "jobs"):
        sweep_job(cache, f"jobs/{job.name}")
    stored = {entry.key for entry in cache.entries()}
    for path in _children(cache.root / "datasets"):
        key = f"datasets/{path.name.removeprefix(ASIDE)}"
        begun = path.name.startswith(ASIDE)
        if begun or (not path.name.startswith(".") and key not in stored and _age(path) > GRACE_SECONDS):
            with cache.alone(key) as free:
                if free:
                    shutil.rmtree(path, ignore_errors=True)


def sweep_job(cache: Cache, key: str) -> None:
    """Unless somebody works there."""
    with cache.alone(key) as free:
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


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0

"""Storage of data sets, checkpoints and artifacts: a folder (`local`), or an object store (`s3`) with a cache per host.

`storage_of(settings)` returns the one that is configured; other code does not distinguish them.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from shared.errors import StorageUnavailable
from shared.events import emit
from shared.settings import Settings
from shared.storage.local import LocalStorage
from shared.storage.s3 import S3Storage
from shared.storage.s3_client import Bucket

__all__ = ["LocalStorage", "refuse_unusable", "storage_of"]


def storage_of(settings: Settings) -> LocalStorage:
    """Return the storage of these settings, one per location and process. It does not connect yet."""
    return _storage(
        settings.storage_url, settings.storage_endpoint_url, settings.storage_root, settings.storage_cache_bytes
    )


def refuse_unusable(settings: Settings) -> None:
    """Check the storage when a process starts. Raises ConfigurationError with the remedy.

    An object store that does not answer is only logged: it is retried when it is needed.
    """
    try:
        storage_of(settings).check_access()
    except StorageUnavailable as error:
        emit("storage.unavailable", error=str(error))


@lru_cache(maxsize=16)
def _storage(url: str, endpoint_url: str, root: Path, cache_bytes: int) -> LocalStorage:
    if url.startswith("s3://"):
        return S3Storage(root, Bucket(url, endpoint_url), cache_bytes)
    return LocalStorage(root)

"""Where data sets, checkpoints and artifacts lie for good: a folder (`folder`), or an object store (`objects`) with a
cache on every host. Nobody else asks which: `storage_of(settings)` is the one or the other.
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
    """One per place and process. Connects to nothing yet."""
    return _storage(
        settings.storage_url, settings.storage_endpoint_url, settings.storage_root, settings.storage_cache_bytes
    )


def refuse_unusable(settings: Settings) -> None:
    """Before a process starts to work. Raises ConfigurationError that says what to do; a store that is only away now is
    waited for when it is needed."""
    try:
        storage_of(settings).prove()
    except StorageUnavailable as error:
        emit("storage.unavailable", error=str(error))


@lru_cache(maxsize=16)
def _storage(url: str, endpoint_url: str, root: Path, cache_bytes: int) -> LocalStorage:
    if url.startswith("s3://"):
        return S3Storage(root, Bucket(url, endpoint_url), cache_bytes)
    return LocalStorage(root)

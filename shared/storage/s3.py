"""Storage in an object store, `s3://`, with a folder of this host as its working copy and cache.

Writing: first locally (temporary name, fsync, hash, rename), then to the store, then the SQL row, so a row never names
an object that is not stored. Reading: a missing folder is downloaded under a temporary name, checked against the hash
in SQL or in its name, and renamed; then it is used like any local folder.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from nightshift.errors import NightshiftError, NotFound
from shared.datasets.store import FILES_FOLDER, META, Stored, content, hash_of, seal
from shared.errors import CorruptCheckpoint, NotStored
from shared.job_files import checkpoint_files
from shared.job_files.checkpoint_record import CheckpointRecord
from shared.job_files.layout import job_dir
from shared.storage import cleanup
from shared.storage.cache import Cache, CacheLease
from shared.storage.local import HASH, Check, LocalStorage
from shared.storage.s3_client import Bucket, CancelCheck, Object, never_cancelled
from shared.storage.stored_file import Reader, reader_of_object
from shared.storage.uploader import BackgroundUploader, Uploader

#: Folders of a job that are uploaded separately; all others in its folder belong to its family.
_UPLOADED_SEPARATELY = ("checkpoints", "attempts")


class S3Storage(LocalStorage):
    """Files in a bucket, cached below `root`."""

    def __init__(self, root: Path, bucket: Bucket, cache_bytes: int) -> None:
        super().__init__(root)
        self.bucket, self.cache = bucket, Cache(root, cache_bytes)
        self._swept, self._taken = False, 0

    # -- reading ----------------------------------------------------------------------------------

    def hold(self, key: str, check: Check, cancel_check: CancelCheck = never_cancelled) -> CacheLease:
        return self.cache.hold(
            key, partial(self._fetch, key, check, cancel_check), partial(_passes, check), cancel_check
        )

    def hold_dataset(self, sha256: str, cancel_check: CancelCheck = never_cancelled) -> CacheLease:
        """Return the folder of a data set version. A cached one is not hashed again: it may be large."""
        key = f"datasets/{sha256}"
        return self.cache.hold(
            key, partial(self._fetch, key, partial(_is_version, sha256), cancel_check), _is_whole, cancel_check
        )

    def _stored_files(self, key: str) -> dict[str, Object]:
        """Return the objects of a folder by their name below it, without what workers keep beside a data set."""
        if key.startswith("datasets/"):
            found = [*self.bucket.files(key), *self.bucket.files(f"{key}/{FILES_FOLDER}", below=True)]
        else:
            found = self.bucket.files(key, below=True)
        return {item.key.removeprefix(f"{key}/"): item for item in found}

    def _fetch(self, key: str, check: Check, cancel_check: CancelCheck, staging: Path) -> None:
        found = self._stored_files(key)
        if not found:
            raise NotStored(key, "does not exist")
        self.cache.trim(room=sum(item.size for item in found.values()))
        try:
            for name, item in found.items():
                (staging / name).parent.mkdir(parents=True, exist_ok=True)
                self.bucket.get(item, staging / name, cancel_check)
        except FileNotFoundError as error:
            raise NotStored(key, "was deleted while it was read") from error
        try:
            check(staging)
        except CorruptCheckpoint as error:
            raise NotStored(key, f"is damaged: {error}") from error

    def has_dataset(self, sha256: str) -> bool:
        return any(_name(item) == META for item in self.bucket.files(f"datasets/{sha256}"))

    def reader(self, key: str) -> Reader:
        try:
            if ".." in key.split("/"):
                raise FileNotFoundError(key)
            return reader_of_object(self.bucket, self.bucket.head(key))
        except FileNotFoundError:
            raise NotFound("The file of this artifact is no longer in the storage.") from None

    # -- writing ----------------------------------------------------------------------------------

    def keep_dataset(self, stored: Stored) -> Stored:
        key = f"datasets/{stored.sha256}"
        with self.cache.lock_shared(key):
            local = {name: path.stat().st_size for name, path in content(stored.folder).items()}
            remote = self._sizes(key)
            # META is uploaded last. If everything is stored already, it is uploaded again: that renews the age that
            # garbage collection sees.
            for name in [META] if local == remote else sorted(local, key=lambda name: (name == META, name)):
                self.bucket.put(stored.folder / name, f"{key}/{name}")
            self.cache.mark(key)
        return _Kept(stored.sha256, stored.folder, stored.meta, lambda: self._sizes(key) == local)

    def _sizes(self, key: str) -> dict[str, int]:
        return {name: item.size for name, item in self._stored_files(key).items()}

    def uploader(self, job_id: str, arrived: Callable[[], None]) -> Uploader:
        return BackgroundUploader(
            lambda checkpoint, cancel_check: self._keep_checkpoint(job_id, checkpoint, cancel_check),
            lambda checkpoint: self.cache.drop(f"jobs/{job_id}/{checkpoint.path}"),
            arrived,
        )

    def _keep_checkpoint(self, job_id: str, checkpoint: CheckpointRecord, cancel_check: CancelCheck) -> None:
        """Upload the family's files first, so that an attempt that resumes from the checkpoint finds them too."""
        key = f"jobs/{job_id}/{checkpoint.path}"
        checkpoint_files.verify(self.root / key, checkpoint.sha256)
        self._keep_beside(job_id, cancel_check)
        for name, path in checkpoint_files.files_below(self.root / key).items():
            self.bucket.put(path, f"{key}/{name}", cancel_check)
        self.cache.mark(key)
        self.cache.trim()

    def keep_files(self, files: Mapping[str, str], cancel_check: CancelCheck = never_cancelled) -> None:
        for key, sha256 in files.items():
            if self.bucket.put(self.root / key, key, cancel_check) != sha256:
                raise NotStored(key, "would not be the file that was announced: its hash differs")
        for folder in {key.rpartition("/")[0] for key in files}:
            if folder.endswith("/model"):  # other jobs of this host may start from it
                self.cache.mark(folder)
        self.cache.trim()

    def _keep_beside(self, job_id: str, cancel_check: CancelCheck) -> None:
        folder = job_dir(self.root, job_id)
        # Not the other folders: what a runner is writing there is renamed while they are read.
        folders = [one for one in folder.iterdir() if one.is_dir() and one.name not in _UPLOADED_SEPARATELY]
        own = [path for one in folders for path in one.rglob("*") if path.is_file() and _is_familys(path)]
        if own:
            stored = {item.key: item.size for item in self._beside(job_id)}
            for path in own:
                key = path.relative_to(self.root).as_posix()
                if stored.get(key) != path.stat().st_size:
                    self.bucket.put(path, key, cancel_check)

    def fetch_beside(self, job_id: str, cancel_check: CancelCheck = never_cancelled) -> None:
        for item in self._beside(job_id):
            path = self.root / item.key
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                staging = path.with_name(f".tmp-{path.name}")
                self.bucket.get(item, staging, cancel_check)
                staging.rename(path)

    def _beside(self, job_id: str) -> list[Object]:
        key = f"jobs/{job_id}"
        names = [name for name in self.bucket.folders(key) if name not in _UPLOADED_SEPARATELY]
        return [item for name in names for item in self.bucket.files(f"{key}/{name}", below=True)]

    def run_in_background(self, work: Callable[[], None]) -> None:
        threading.Thread(target=copy_context().run, args=(work,), name="storage-fetch", daemon=True).start()

    def work_folder(self, job_id: str) -> CacheLease:
        if not self._swept:
            self._swept = True
            cleanup.sweep(self.cache)
        return cleanup.ScratchFolder(self.cache, f"jobs/{job_id}")

    # -- listing and removing ---------------------------------------------------------------------

    def children(self, key: str) -> list[str]:
        return [*self.bucket.folders(key), *(_name(item) for item in self.bucket.files(key))]

    def remove(self, key: str) -> bool:
        """Remove it from the store and from this host; a cached copy on another host is evicted later."""
        if not (key.startswith("jobs/") and key.count("/") >= 3 and ".." not in key.split("/")):
            return False
        stored = self.bucket.files(key, below=True)
        for item in stored:
            self.bucket.delete(item.key)
        self.cache.drop(key)
        return super().remove(key) or bool(stored)

    def remove_job(self, job_id: str) -> bool:
        for item in self.bucket.files(f"jobs/{job_id}", below=True):
            self.bucket.delete(item.key)
        return super().remove_job(job_id)

    def old_datasets(self, grace_seconds: float) -> list[str]:
        newest: dict[str, float] = {}
        for item in self.bucket.files("datasets", below=True):
            sha256 = item.key.split("/")[1]
            newest[sha256] = max(newest.get(sha256, 0.0), item.modified)
        now = self.bucket.now() if newest else 0.0
        return [sha256 for sha256, at in newest.items() if len(sha256) == HASH and now - at > grace_seconds]

    def take_dataset(self, sha256: str) -> None:
        """Delete all objects, under the lock of their content: objects cannot be renamed in one step.

        A registration of that content checks under the same lock that all objects exist.
        """
        for item in self.bucket.files(f"datasets/{sha256}", below=True):
            self.bucket.delete(item.key)
        self._taken += 1

    def clear_datasets(self) -> int:
        taken, self._taken = self._taken, 0
        return taken

    @property
    def location(self) -> str:
        return f"{self.bucket.url}, cache {self.root}"

    def check_access(self, *, thoroughly: bool = False) -> None:
        self.bucket.check_access(thoroughly=thoroughly)


@dataclass(frozen=True)
class _Kept(Stored):
    """A data set version in the store."""

    check: Callable[[], bool]

    def is_there(self) -> bool:
        return self.check()


def _name(item: Object) -> str:
    return item.key.rpartition("/")[2]


def _is_familys(path: Path) -> bool:
    return not path.name.startswith(".") and path.suffix != ".tmp"


def _is_whole(folder: Path) -> bool:
    return (folder / META).exists()


def _passes(check: Check, folder: Path) -> bool:
    try:
        check(folder)
    except NightshiftError:
        return False
    return True


def _is_version(sha256: str, folder: Path) -> None:
    if (found := hash_of(folder)) != sha256:
        raise NotStored(f"datasets/{sha256}", f"is damaged: its hash is {found[:12]}…")
    seal(folder)

"""The storage of an object store, `s3://`: the store is the truth, a folder of this host its workshop and cache.

Writing: locally first, as everywhere (aside, synced, hashed, renamed), then to the store, then the row: a row never
names what the store does not have. Reading: what is not here is brought, aside, checked against the hash that SQL or
the name says, renamed; then it is used like any local file.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from nightshift.errors import NightshiftError, NotFound
from shared.datasets.store import META, Stored, hash_of
from shared.errors import CorruptCheckpoint, NotStored
from shared.job_files import checkpoint_files
from shared.job_files.checkpoint_record import CheckpointRecord
from shared.job_files.layout import job_dir
from shared.storage import cleanup
from shared.storage.cache import Cache, CacheLease
from shared.storage.local import Check, LocalStorage
from shared.storage.s3_client import Bucket, CancelCheck, Object, never_cancelled
from shared.storage.shelf import BucketShelf, Shelf
from shared.storage.stored_file import ObjectReader, Reader
from shared.storage.uploader import BackgroundUploader, Uploader

#: Folders of a job that are carried by themselves; whatever else lies in its folder belongs to its family.
_OWN_WAY = ("checkpoints", "attempts")


class S3Storage(LocalStorage):
    def __init__(self, root: Path, bucket: Bucket, cache_bytes: int) -> None:
        super().__init__(root)
        self.bucket, self.cache = bucket, Cache(root, cache_bytes)
        self._swept = False

    # -- bringing ---------------------------------------------------------------------------------

    def hold(self, key: str, check: Check, cancel_check: CancelCheck = never_cancelled) -> CacheLease:
        return self.cache.hold(
            key, partial(self._fetch, key, check, cancel_check), partial(_passes, check), cancel_check
        )

    def hold_dataset(self, sha256: str, cancel_check: CancelCheck = never_cancelled) -> CacheLease:
        """What was brought once is not hashed again: it may be large, and is as immutable here as there."""
        key = f"datasets/{sha256}"
        return self.cache.hold(
            key, partial(self._fetch, key, partial(_is_version, sha256), cancel_check), _is_whole, cancel_check
        )

    def _fetch(self, key: str, check: Check, cancel_check: CancelCheck, aside: Path) -> None:
        found = self.bucket.files(key)
        if not found:
            raise NotStored(key, "is not there")
        self.cache.trim(room=sum(item.size for item in found))
        try:
            for item in found:
                self.bucket.get(item, aside / _name(item), cancel_check)
        except FileNotFoundError as error:
            raise NotStored(key, "went away while it was read") from error
        try:
            check(aside)
        except CorruptCheckpoint as error:
            raise NotStored(key, f"is damaged: {error}") from error

    def has_dataset(self, sha256: str) -> bool:
        return any(_name(item) == META for item in self.bucket.files(f"datasets/{sha256}"))

    def reader(self, key: str) -> Reader:
        try:
            if ".." in key.split("/"):
                raise FileNotFoundError(key)
            return ObjectReader(self.bucket, self.bucket.look(key))
        except FileNotFoundError:
            raise NotFound("The file of this artifact is no longer in the storage.") from None

    # -- carrying ---------------------------------------------------------------------------------

    def keep_dataset(self, stored: Stored) -> Stored:
        key = f"datasets/{stored.sha256}"
        with self.cache.busy(key):
            ours, there = _sizes(stored.folder), self._sizes(key)
            # The last object to be put; when all are there already it is put again, which makes them young again.
            for name in [META] if ours == there else sorted(ours, key=lambda name: (name == META, name)):
                self.bucket.put(stored.folder / name, f"{key}/{name}")
            self.cache.mark(key)
        return _Kept(stored.sha256, stored.folder, stored.meta, lambda: self._sizes(key) == ours)

    def _sizes(self, key: str) -> dict[str, int]:
        return {_name(item): item.size for item in self.bucket.files(key)}

    def uploader(self, job_id: str, arrived: Callable[[], None]) -> Uploader:
        return BackgroundUploader(
            lambda checkpoint, cancel_check: self._keep_checkpoint(job_id, checkpoint, cancel_check),
            lambda checkpoint: self.cache.drop(f"jobs/{job_id}/{checkpoint.path}"),
            arrived,
        )

    def _keep_checkpoint(self, job_id: str, checkpoint: CheckpointRecord, cancel_check: CancelCheck) -> None:
        """What the family keeps beside it first: a run that goes on from a checkpoint finds that too."""
        key = f"jobs/{job_id}/{checkpoint.path}"
        checkpoint_files.verify(self.root / key, checkpoint.sha256)
        self._keep_beside(job_id, cancel_check)
        for path in sorted((self.root / key).iterdir()):
            self.bucket.put(path, f"{key}/{path.name}", cancel_check)
        self.cache.mark(key)
        self.cache.trim()

    def keep_files(self, files: Mapping[str, str], cancel_check: CancelCheck = never_cancelled) -> None:
        for key, sha256 in files.items():
            if self.bucket.put(self.root / key, key, cancel_check) != sha256:
                raise NotStored(key, "would not be the file that was announced: its hash is another")
        for folder in {key.rpartition("/")[0] for key in files}:
            if folder.endswith("/model"):  # what other jobs may start from here
                self.cache.mark(folder)
        self.cache.trim()

    def _keep_beside(self, job_id: str, cancel_check: CancelCheck) -> None:
        folder = job_dir(self.root, job_id)
        own = [path for path in folder.glob("*/**/*") if path.is_file() and _is_familys(path.relative_to(folder))]
        if own:
            there = {item.key: item.size for item in self._beside(job_id)}
            for path in own:
                key = path.relative_to(self.root).as_posix()
                if there.get(key) != path.stat().st_size:
                    self.bucket.put(path, key, cancel_check)

    def fetch_beside(self, job_id: str, cancel_check: CancelCheck = never_cancelled) -> None:
        for item in self._beside(job_id):
            path = self.root / item.key
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                aside = path.with_name(f".tmp-{path.name}")
                self.bucket.get(item, aside, cancel_check)
                aside.rename(path)

    def _beside(self, job_id: str) -> list[Object]:
        key = f"jobs/{job_id}"
        names = [name for name in self.bucket.folders(key) if name not in _OWN_WAY]
        return [item for name in names for item in self.bucket.files(f"{key}/{name}", below=True)]

    def apart(self, work: Callable[[], None]) -> None:
        threading.Thread(target=copy_context().run, args=(work,), name="bring", daemon=True).start()

    def at_work(self, job_id: str) -> CacheLease:
        if not self._swept:
            self._swept = True
            cleanup.sweep(self.cache)
        return cleanup.ScratchFolder(self.cache, f"jobs/{job_id}")

    # -- order ------------------------------------------------------------------------------------

    def children(self, key: str) -> list[str]:
        return [*self.bucket.folders(key), *(_name(item) for item in self.bucket.files(key))]

    def remove(self, key: str) -> bool:
        """There and here; a copy on another host goes when room is needed there."""
        if not (key.startswith("jobs/") and key.count("/") >= 3 and ".." not in key.split("/")):
            return False
        there = self.bucket.files(key, below=True)
        for item in there:
            self.bucket.delete(item.key)
        self.cache.drop(key)
        return super().remove(key) or bool(there)

    def remove_job(self, job_id: str) -> bool:
        for item in self.bucket.files(f"jobs/{job_id}", below=True):
            self.bucket.delete(item.key)
        return super().remove_job(job_id)

    def shelf(self) -> Shelf:
        return BucketShelf(self.bucket)

    @property
    def place(self) -> str:
        return f"{self.bucket.url}, cache {self.root}"

    def prove(self, *, thoroughly: bool = False) -> None:
        self.bucket.prove(thoroughly=thoroughly)


@dataclass(frozen=True)
class _Kept(Stored):
    """A version that is in the store."""

    check: Callable[[], bool]

    def is_there(self) -> bool:
        return self.check()


def _name(item: Object) -> str:
    return item.key.rpartition("/")[2]


def _sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()}


def _is_familys(path: Path) -> bool:
    return path.parts[0] not in _OWN_WAY and not path.name.startswith(".") and path.suffix != ".tmp"


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

"""The storage of one folder, `file://`: whoever may write there sees what everybody wrote. Nothing is brought or
carried.

Its methods are what an object store needs to hear (see `objects`); here what they ask for is so already.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from shared.datasets.store import META, Stored
from shared.job_files.artifact_files import stored_file
from shared.job_files.layout import dataset_dir, job_dir
from shared.storage.cache import CacheLease
from shared.storage.s3_client import CancelCheck, never_cancelled
from shared.storage.shelf import FolderShelf, Shelf
from shared.storage.stored_file import FileReader, Reader
from shared.storage.uploader import NoopUploader, Uploader

#: Raises where a folder is not what was stored.
Check = Callable[[Path], None]


class LocalStorage:
    """`root`: where this host reads and writes. Keys are paths below it, with `/`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    # -- bringing ---------------------------------------------------------------------------------

    def hold(self, key: str, check: Check, cancel_check: CancelCheck = never_cancelled) -> CacheLease:
        """The folder `key`, here for as long as it is held. Raises NotStored, StorageUnavailable."""
        return CacheLease(self.root / key)

    def hold_dataset(self, sha256: str, cancel_check: CancelCheck = never_cancelled) -> CacheLease:
        """The folder of a data set's version. Raises NotStored, StorageUnavailable."""
        return CacheLease(dataset_dir(self.root, sha256))

    def has_dataset(self, sha256: str) -> bool:
        """Raises StorageUnavailable."""
        return (dataset_dir(self.root, sha256) / META).exists()

    def reader(self, key: str) -> Reader:
        """For whoever downloads a file. Raises NotFound, StorageUnavailable."""
        return FileReader.of(stored_file(self.root, key))

    # -- carrying ---------------------------------------------------------------------------------

    def keep_dataset(self, stored: Stored) -> Stored:
        """A version that was just built is in the storage when this returns. Raises StorageUnavailable."""
        return stored

    def uploader(self, job_id: str, arrived: Callable[[], None]) -> Uploader:
        """Takes the job's checkpoints to the storage; calls `arrived` from any thread."""
        return NoopUploader()

    def keep_files(self, files: Mapping[str, str], cancel_check: CancelCheck = never_cancelled) -> None:
        """Files of an attempt, key to SHA-256. Raises StorageUnavailable; NotStored where one is not what was
        announced."""

    def fetch_beside(self, job_id: str, cancel_check: CancelCheck = never_cancelled) -> None:
        """What families keep in a job's folder beside its checkpoints is here."""

    def apart(self, work: Callable[[], None]) -> None:
        """Do what may have to wait for the storage, not on the caller's time."""
        work()

    def at_work(self, job_id: str) -> CacheLease:
        """An attempt of this host works in the job's folder; on closing, what nobody needs here any more goes."""
        return CacheLease(self.root / "jobs" / job_id)

    # -- order ------------------------------------------------------------------------------------

    def children(self, key: str) -> list[str]:
        """Names of what lies in a folder."""
        folder = self.root / key
        return [path.name for path in folder.iterdir()] if folder.is_dir() else []

    def remove(self, key: str) -> bool:
        """Remove a folder or file inside a job's own folder; whether there was one."""
        jobs_dir, inside = (self.root / "jobs").resolve(), (self.root / key).resolve()
        if not inside.is_relative_to(jobs_dir) or len(inside.relative_to(jobs_dir).parts) < 3 or not inside.exists():
            return False
        shutil.rmtree(self.root / key, ignore_errors=True)
        return True

    def remove_job(self, job_id: str) -> bool:
        """Remove all that a job left; whether it is gone."""
        folder = job_dir(self.root, job_id)
        shutil.rmtree(folder, ignore_errors=True)
        return not folder.exists()

    def shelf(self) -> Shelf:
        """The data sets, for garbage collection."""
        return FolderShelf(self.root / "datasets")

    @property
    def place(self) -> str:
        """For people."""
        return str(self.root)

    def prove(self, *, thoroughly: bool = False) -> None:
        """Raises ConfigurationError where it cannot work, StorageUnavailable where it does not answer. `thoroughly`:
        also writes, reads, lists and deletes there."""

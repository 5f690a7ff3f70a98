"""Storage in one folder that all hosts share, `file://`: nothing is downloaded or uploaded.

Its methods are the interface that an object store needs (see `s3`); here most of them have nothing to do.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

from shared.datasets.store import META, Stored
from shared.folders import remove_folder
from shared.job_files.artifact_files import stored_file
from shared.job_files.layout import dataset_dir, job_dir
from shared.storage.cache import CacheLease, age
from shared.storage.s3_client import CancelCheck, never_cancelled
from shared.storage.stored_file import Reader, reader_of_file
from shared.storage.uploader import Uploader

#: Characters of a content hash, and the prefix of data set folders that are renamed before they are deleted.
HASH, _GONE = 64, ".gone-"
#: Raises if a folder is not what was stored.
Check = Callable[[Path], None]


class LocalStorage:
    """Files below the folder `root`. Keys are paths below it, with `/`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    # -- reading ----------------------------------------------------------------------------------

    def hold(self, key: str, check: Check, cancel_check: CancelCheck = never_cancelled) -> CacheLease:
        """Return the folder `key`, kept on this host while held. Raises NotStored, StorageUnavailable."""
        return CacheLease(self.root / key)

    def hold_dataset(self, sha256: str, cancel_check: CancelCheck = never_cancelled) -> CacheLease:
        """Return the folder of a data set version. Raises NotStored, StorageUnavailable."""
        return CacheLease(dataset_dir(self.root, sha256))

    def has_dataset(self, sha256: str) -> bool:
        """Return whether the data set version is stored. Raises StorageUnavailable."""
        return (dataset_dir(self.root, sha256) / META).exists()

    def reader(self, key: str) -> Reader:
        """Return a reader of one file, for a download. Raises NotFound, StorageUnavailable."""
        return reader_of_file(stored_file(self.root, key))

    # -- writing ----------------------------------------------------------------------------------

    def keep_dataset(self, stored: Stored) -> Stored:
        """Store a data set version that was just built. Raises StorageUnavailable."""
        return stored

    def uploader(self, job_id: str, arrived: Callable[[], None]) -> Uploader:
        """Return the uploader of the job's checkpoints; it calls `arrived` from any thread."""
        return Uploader()

    def keep_files(self, files: Mapping[str, str], cancel_check: CancelCheck = never_cancelled) -> None:
        """Store files of an attempt, {key: SHA-256}. Raises StorageUnavailable; NotStored for a wrong hash."""

    def fetch_beside(self, job_id: str, cancel_check: CancelCheck = never_cancelled) -> None:
        """Fetch the files that families keep in a job's folder beside its checkpoints."""

    def run_in_background(self, work: Callable[[], None]) -> None:
        """Do work that may have to wait for the storage, without blocking the caller."""
        work()

    def work_folder(self, job_id: str) -> CacheLease:
        """Hold the job's folder for an attempt of this host; closing removes files that are no longer needed."""
        return CacheLease(self.root / "jobs" / job_id)

    # -- listing and removing ---------------------------------------------------------------------

    def children(self, key: str) -> list[str]:
        """Return the names in a folder."""
        folder = self.root / key
        return [path.name for path in folder.iterdir()] if folder.is_dir() else []

    def remove(self, key: str) -> bool:
        """Remove a folder or file inside a job's folder; return whether it existed."""
        jobs_dir, inside = (self.root / "jobs").resolve(), (self.root / key).resolve()
        if not inside.is_relative_to(jobs_dir) or len(inside.relative_to(jobs_dir).parts) < 3 or not inside.exists():
            return False
        shutil.rmtree(self.root / key, ignore_errors=True)
        return True

    def remove_job(self, job_id: str) -> bool:
        """Remove all files of a job; return whether they are gone."""
        folder = job_dir(self.root, job_id)
        shutil.rmtree(folder, ignore_errors=True)
        return not folder.exists()

    def old_datasets(self, grace_seconds: float) -> list[str]:
        """Return the content hashes of data sets last written more than `grace_seconds` ago, also incomplete ones.

        Derived files beside the data count.
        """
        folders = [self.root / "datasets" / name for name in self.children("datasets")]
        return [path.name for path in folders if len(path.name) == HASH and age(path) > grace_seconds]

    def take_dataset(self, sha256: str) -> None:
        """Make a data set unreachable in one step, so that no process opens part of it."""
        folder = dataset_dir(self.root, sha256)
        folder.rename(folder.with_name(f"{_GONE}{sha256}-{uuid.uuid4().hex}"))

    def clear_datasets(self) -> int:
        """Delete the taken data sets, also those of a process that died; return their number."""
        gone = [name for name in self.children("datasets") if name.startswith(_GONE)]
        for name in gone:
            remove_folder(self.root / "datasets" / name)
        return len(gone)

    @property
    def location(self) -> str:
        """Return the location, to show to users."""
        return str(self.root)

    def check_access(self, *, thoroughly: bool = False) -> None:
        """Raise ConfigurationError if the storage cannot be used, StorageUnavailable if it does not answer.

        `thoroughly`: also write, read, list and delete an object.
        """

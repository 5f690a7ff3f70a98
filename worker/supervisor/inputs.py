"""Inputs of an attempt: fetched before its runner starts, and kept on this host until it ends.

With local storage everything is already in place, and nothing here takes any time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select

from shared.db.schema import artifacts
from shared.errors import BadData, CorruptCheckpoint, NotStored
from shared.events import emit
from shared.job_files import checkpoint_files
from shared.job_files.checkpoint_record import CheckpointRecord
from shared.jobs.checkpoint_retention import needs_all_checkpoints
from shared.jobs.transitions import Claimed
from shared.storage import LocalStorage
from shared.storage.s3_client import CancelCheck
from worker.runners.messages import Champion
from worker.supervisor.db_retry import DatabaseRetry


class InputFetcher:
    """Fetches an attempt's inputs and holds leases on them."""

    def __init__(
        self, storage: LocalStorage, claimed: Claimed, database: DatabaseRetry, check_wanted: CancelCheck
    ) -> None:
        """Create a fetcher. `check_wanted` is called between chunks and raises to abort a transfer."""
        self._storage, self._claimed, self._database, self._check_wanted = storage, claimed, database, check_wanted
        self._leases = ExitStack()

    def fetch(self, pinned: Mapping[str, Any], shards: Mapping[str, Sequence[CheckpointRecord]]) -> None:
        """Fetch data sets, the parent's model, files of earlier attempts, the checkpoint to resume from, shards' parts.

        May be called again after StorageUnavailable. Raises BadData for files that are missing in the storage.
        """
        job_id = self._claimed.lease.job_id
        self._leases.close()
        self._leases.enter_context(self._storage.work_folder(job_id))
        try:
            for sha256 in {pinned.get("dataset_sha256"), pinned.get("evaluate_sha256")} - {None}:
                self._leases.enter_context(self._storage.hold_dataset(str(sha256), self._check_wanted))
            if parent := pinned.get("parent"):
                self._hold_model(str(parent["folder"]))
        except NotStored as error:
            raise BadData(str(error)) from error
        self._storage.fetch_beside(job_id, self._check_wanted)
        self._fetch_checkpoints(job_id, self._claimed.checkpoints)
        for shard_id, parts in shards.items():
            self._fetch_checkpoints(shard_id, parts)

    def _fetch_checkpoints(self, job_id: str, rows: Sequence[CheckpointRecord]) -> None:
        """Fetch the newest checkpoint that passes its hash check, or all of a batch inference.

        The runner treats missing ones like damaged ones.
        """
        for row in rows:
            try:
                check = partial(checkpoint_files.verify, sha256=row.sha256)
                self._leases.enter_context(self._storage.hold(f"jobs/{job_id}/{row.path}", check, self._check_wanted))
            except NotStored as error:
                emit("checkpoint.not_stored", job_id=job_id, step=row.step, error=str(error))
                continue
            if not needs_all_checkpoints(self._claimed.kind):
                return

    def fetch_champion(self, champion: Champion) -> Champion:
        """Return the champion with its model fetched, or without a model if its files are missing.

        Raises StorageUnavailable.
        """
        if champion.model_dir is None:
            return champion
        try:
            self._hold_model(Path(champion.model_dir).relative_to(self._storage.root).as_posix())
        except NotStored:
            return champion.model_copy(update={"model_dir": None})
        return champion

    def _hold_model(self, folder: str) -> None:
        check = partial(_verify_model, lambda: self._database.read(partial(_hashes, folder)))
        self._leases.enter_context(self._storage.hold(folder, check, self._check_wanted))

    def close(self) -> None:
        """Release the leases."""
        self._leases.close()


def _hashes(folder: str, conn: Connection) -> dict[str, str]:
    """Return the SHA-256 of a model's files by name, as its job listed them."""
    rows = conn.execute(
        select(artifacts.c.stored_as, artifacts.c.sha256).where(
            artifacts.c.stored_as >= f"{folder}/", artifacts.c.stored_as < f"{folder}0"
        )
    )
    return {row.stored_as.removeprefix(f"{folder}/"): row.sha256 for row in rows}


def _verify_model(listed: Callable[[], Mapping[str, str]], folder: Path) -> None:
    """Raise CorruptCheckpoint unless the folder holds the listed files."""
    for name, sha256 in listed().items():
        try:
            with (folder / name).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise CorruptCheckpoint(f"{folder}/{name}", str(error)) from error
        if found != sha256:
            raise CorruptCheckpoint(f"{folder}/{name}", f"its hash is {found[:12]}…, not {sha256[:12]}…")

"""What an attempt needs of the storage: brought to this host before its runner starts, and held here until it ends.

Where the storage is a folder it is all here already, and nothing below takes any time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select

from shared.db.schema import artifacts
from shared.errors import BadData, CorruptCheckpoint, NotStored
from shared.events import emit
from shared.job_files import checkpoint_files
from shared.jobs.checkpoint_retention import needs_all_checkpoints
from shared.jobs.transitions import Claimed
from shared.storage import LocalStorage
from shared.storage.s3_client import Going
from worker.runners.messages import Champion
from worker.supervisor.db_retry import DatabaseRetry


class InputFetcher:
    def __init__(self, storage: LocalStorage, claimed: Claimed, patience: DatabaseRetry, going: Going) -> None:
        """`going` is called between pieces, and raises to break off."""
        self._storage, self._claimed, self._patience, self._going = storage, claimed, patience, going
        self._held = ExitStack()

    def fetch(self, pinned: Mapping[str, Any]) -> None:
        """Data sets, the parent's model, what the job left before, the checkpoint to go on from. May be called again
        after StorageUnavailable. Raises BadData for what the storage should have and has not."""
        job_id = self._claimed.lease.job_id
        self._held.close()
        self._held.enter_context(self._storage.at_work(job_id))
        try:
            for sha256 in {pinned.get("dataset_sha256"), pinned.get("evaluate_sha256")} - {None}:
                self._held.enter_context(self._storage.hold_dataset(str(sha256), self._going))
            if parent := pinned.get("parent"):
                self._hold_model(str(parent["folder"]))
        except NotStored as error:
            raise BadData(str(error)) from error
        self._storage.fetch_beside(job_id, self._going)
        self._fetch_checkpoints(job_id)

    def _fetch_checkpoints(self, job_id: str) -> None:
        """The newest that is what it was; the runner finds those before it missing, as it would find them damaged."""
        for row in self._claimed.checkpoints:
            try:
                check = partial(checkpoint_files.verify, sha256=row.sha256)
                self._held.enter_context(self._storage.hold(f"jobs/{job_id}/{row.path}", check, self._going))
            except NotStored as error:
                emit("checkpoint.not_stored", job_id=job_id, step=row.step, error=str(error))
                continue
            if not needs_all_checkpoints(self._claimed.kind):
                return

    def fetch_champion(self, champion: Champion) -> Champion:
        """With its model here; without one where its files are gone. Raises StorageUnavailable."""
        if champion.model_dir is None:
            return champion
        try:
            self._hold_model(Path(champion.model_dir).relative_to(self._storage.root).as_posix())
        except NotStored:
            return champion.model_copy(update={"model_dir": None})
        return champion

    def _hold_model(self, folder: str) -> None:
        check = partial(_is_model, lambda: self._patience.read(partial(_hashes, folder)))
        self._held.enter_context(self._storage.hold(folder, check, self._going))

    def close(self) -> None:
        self._held.close()


def _hashes(folder: str, conn: Connection) -> dict[str, str]:
    """File name -> SHA-256 of a model's files, as its job listed them."""
    rows = conn.execute(
        select(artifacts.c.stored_as, artifacts.c.sha256).where(
            artifacts.c.stored_as >= f"{folder}/", artifacts.c.stored_as < f"{folder}0"
        )
    )
    return {row.stored_as.removeprefix(f"{folder}/"): row.sha256 for row in rows}


def _is_model(listed: Callable[[], Mapping[str, str]], folder: Path) -> None:
    for name, sha256 in listed().items():
        try:
            with (folder / name).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise CorruptCheckpoint(f"{folder}/{name}", str(error)) from error
        if found != sha256:
            raise CorruptCheckpoint(f"{folder}/{name}", f"its hash is {found[:12]}…, not {sha256[:12]}…")

"""A checkpoint on disk: a folder of files that is complete or does not exist.

    checkpoints/<step>-<sha256>/    renamed into place when every byte is on the disk
    checkpoints/.tmp-<fence>-<id>/  being written; left behind by a crash, removed by the next attempt

Order: write a temporary folder → fsync each file → hash → rename → fsync the parent folder; only then is it reported.
The hash covers names, sizes and bytes of all files, in the order of their names. A name may be a path below the folder.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from shared.errors import CorruptCheckpoint
from shared.failpoints import failpoint
from shared.fsync import fsync_folder
from shared.job_files.checkpoint_record import CheckpointRecord

#: Folder of checkpoints below a job's folder.
FOLDER = "checkpoints"
_TMP = ".tmp-"
#: Bytes hashed and written at a time; both release the interpreter lock for training.
_PIECE = 4 << 20

#: Content of a file: buffers, in order.
Content = Iterable[bytes | memoryview]


def write(
    job_dir: Path, *, step: int, fence: int, files: Mapping[str, Content], epoch: int = 0, is_best: bool = False
) -> CheckpointRecord:
    """Write one checkpoint. Raises OSError (disk full, …) and leaves nothing then."""
    parent = job_dir / FOLDER
    parent.mkdir(parents=True, exist_ok=True)
    aside = parent / f"{_TMP}{fence}-{uuid.uuid4().hex}"
    try:
        aside.mkdir()
        digest = hashlib.sha256()
        size = sum(_write_file(aside, name, files[name], digest) for name in sorted(files))
        for folder in (aside, *_folders(aside)):
            fsync_folder(folder)
        sha256 = digest.hexdigest()
        failpoint("checkpoint.tmp_written")
        aside.rename(parent / f"{step}-{sha256}")
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    fsync_folder(parent)
    failpoint("checkpoint.renamed")
    return CheckpointRecord(
        id=uuid.uuid4().hex,
        path=f"{FOLDER}/{step}-{sha256}",
        step=step,
        epoch=epoch,
        sha256=sha256,
        size_bytes=size,
        is_best=is_best,
    )


def verify(folder: Path, sha256: str) -> None:
    """Raise CorruptCheckpoint unless the folder holds exactly what was written."""
    try:
        found = _hash_folder(folder)
    except OSError as error:
        raise CorruptCheckpoint(str(folder), str(error)) from error
    if found != sha256:
        raise CorruptCheckpoint(str(folder), f"its hash is {found[:12]}…, not {sha256[:12]}…")


def remove(job_dir: Path, path: str) -> None:
    """Remove a checkpoint whose row is already marked deleted; idempotent."""
    folder = (job_dir / path).resolve()
    if folder.parent != (job_dir / FOLDER).resolve():
        raise ValueError(f"{path!r} is not a checkpoint of {job_dir}")
    shutil.rmtree(folder, ignore_errors=True)


def sweep(job_dir: Path, *, fence: int) -> int:
    """Remove the unfinished checkpoints of earlier attempts (fences below `fence`); return their number."""
    swept = 0
    for aside in (job_dir / FOLDER).glob(f"{_TMP}*"):
        owner = aside.name.removeprefix(_TMP).split("-")[0]
        if owner.isdigit() and int(owner) < fence:
            shutil.rmtree(aside, ignore_errors=True)
            swept += 1
    return swept


def files_below(folder: Path) -> dict[str, Path]:
    """Return the files in a folder and its subfolders by their paths below it, in the order that is hashed."""
    found = ((path.relative_to(folder).as_posix(), path) for path in folder.rglob("*") if not path.is_dir())
    return dict(sorted(found))


def _folders(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_dir()]


def _write_file(folder: Path, name: str, content: Content, digest: Any) -> int:
    pieces = [piece for part in content for piece in _pieces(part)]
    size = sum(len(piece) for piece in pieces)
    digest.update(f"{name}\0{size}\0".encode())
    failpoint("checkpoint.writing")
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for piece in pieces:
            digest.update(piece)
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    return size


def _pieces(part: bytes | memoryview) -> Iterable[memoryview]:
    view = memoryview(part).cast("B") if len(part) else memoryview(b"")
    return (view[at : at + _PIECE] for at in range(0, len(view), _PIECE))


def _hash_folder(folder: Path) -> str:
    digest = hashlib.sha256()
    for name, path in files_below(folder).items():
        digest.update(f"{name}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
    return digest.hexdigest()

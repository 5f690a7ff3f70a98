"""Checkpoints of programs: the files, arrays and facts that a program saves, and `program.json` beside them."""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file

from nightshift.families.learner import Array
from shared.errors import CorruptCheckpoint
from shared.job_files import checkpoint_files
from shared.job_files.checkpoint_record import CheckpointRecord
from worker.programs import checks
from worker.training.checkpoints import safetensors

FORMAT = 1
FACTS, ARRAYS = "program.json", "arrays.safetensors"


@dataclass(frozen=True)
class SavedProgram:
    """A checkpoint on disk (`nightshift.programs.Checkpoint`)."""

    point: CheckpointRecord
    folder: Path
    facts: Mapping[str, Any]

    @property
    def step(self) -> int:
        """The step that it was saved at."""
        return self.point.step

    def arrays(self) -> dict[str, Array]:
        """Return the arrays that were saved, by name."""
        path = self.folder / ARRAYS
        return dict(load_file(path)) if path.exists() else {}


def contents(
    fence: int, files: Mapping[str, Path | bytes], arrays: Mapping[str, Array], facts: Mapping[str, Any]
) -> dict[str, checkpoint_files.Content]:
    """Return the files of a checkpoint, those of folders too. `fence` makes their hash unique per attempt.

    Raises ValueError for a bad name, and for a link to a folder below a folder.
    """
    for name in files:
        if checks.file_name(name) in (FACTS, ARRAYS):
            raise ValueError(
                f"{name} is written by `save` itself; a file of a checkpoint needs a plain name of its own"
            )
    document = {"format": FORMAT, "fence": fence, "facts": dict(facts)}
    found: dict[str, checkpoint_files.Content] = {FACTS: [json.dumps(document, sort_keys=True).encode()]}
    for name, content in files.items():
        found |= _contents(name, content)
    return found | ({ARRAYS: safetensors(arrays)} if arrays else {})


def _contents(name: str, content: Path | bytes) -> dict[str, checkpoint_files.Content]:
    """Return a file, or the files of a folder with their paths."""
    if isinstance(content, bytes):
        return {name: [content]}
    if not content.is_dir():
        return {name: _mapped(content)}
    for path in content.rglob("*"):
        if path.is_symlink() and path.is_dir():
            raise ValueError(f"a checkpoint keeps no links to folders: {path}")
    return {f"{name}/{below}": _mapped(path) for below, path in checkpoint_files.files_below(content).items()}


def _mapped(path: Path) -> Iterable[bytes | memoryview]:
    """Return the bytes of a file, mapped into memory."""
    with path.open("rb") as file:
        return [memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))] if path.stat().st_size else [b""]


def restore(job_dir: Path, points: Iterable[CheckpointRecord]) -> tuple[SavedProgram | None, list[str]]:
    """Return the first of `points` (newest first) that passes its hash check, and the ids of damaged ones."""
    damaged: list[str] = []
    for point in points:
        try:
            checkpoint_files.verify(job_dir / point.path, point.sha256)
            return _read(job_dir / point.path, point), damaged
        except CorruptCheckpoint:
            damaged.append(point.id)
    return None, damaged


def _read(folder: Path, point: CheckpointRecord) -> SavedProgram:
    document = json.loads((folder / FACTS).read_text())
    if document["format"] != FORMAT:
        raise CorruptCheckpoint(point.path, f"its format is {document['format']}, this version reads {FORMAT}")
    return SavedProgram(point, folder, document["facts"])

"""Artifacts of an attempt: written, synced to disk, hashed, then reported."""

from __future__ import annotations

import hashlib
import json
import mimetypes
import os
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors.numpy import save_file

from nightshift.families.learner import Array
from nightshift.versions import OURS, installed_of
from worker.runners.messages import ArtifactSaved, Assignment
from worker.training.reporter import Reporter

#: Format version of `config.json`. Readers refuse unknown versions.
MODEL_FORMAT = 1
_TYPES = {
    ".safetensors": "application/octet-stream",
    ".onnx": "application/octet-stream",
    ".jsonl": "application/jsonl",
    ".parquet": "application/vnd.apache.parquet",
}


def folder(assignment: Assignment) -> Path:
    """Return the attempt's artifact folder, creating it."""
    path = Path(assignment.work_dir) / "artifacts"
    path.mkdir(parents=True, exist_ok=True)
    return path


def announce(paths: Iterable[Path], root: Path, reporter: Reporter) -> None:
    """Sync and hash finished files below `root`, and report each."""
    for path in paths:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        guessed = _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        name, size = path.relative_to(root).as_posix(), path.stat().st_size
        reporter.artifact(ArtifactSaved(path=name, sha256=sha256, size_bytes=size, media_type=guessed))


def write_json(path: Path, document: Any) -> Path:
    """Write a document as JSON and return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, ensure_ascii=False, indent=1, allow_nan=False))
    return path


def write_model(root: Path, weights: Mapping[str, Array], model: Any, facts: Mapping[str, Any]) -> list[Path]:
    """Write `model/model.safetensors` (canonical, float32) and `model/config.json`.

    They are enough to rebuild the model in either framework.
    """
    config = {
        "format": MODEL_FORMAT,
        "family": model.family,
        "framework": model.framework,
        "model": model.model_dump(mode="json"),
        **facts,
        "versions": versions(model.framework),
    }
    paths = [root / "model" / "model.safetensors", write_json(root / "model" / "config.json", config)]
    save_file(dict(weights), paths[0])
    return paths


def versions(framework: str) -> dict[str, str]:
    """Return the versions of Python, Nightshift, numpy and the framework."""
    return {"python": platform.python_version()} | installed_of((OURS, "numpy", framework))

"""A checkpoint that is complete on disk, as the runner reports it, SQL lists it and a resumed attempt gets it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from shared.job_files.layout import Below


class CheckpointRecord(BaseModel):
    """A complete checkpoint."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    path: Below  # relative to the job's folder
    step: int
    epoch: int = 0  # 0 for a batch inference
    sha256: str
    size_bytes: int
    is_best: bool = False

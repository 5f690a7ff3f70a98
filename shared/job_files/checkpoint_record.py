"""A checkpoint that is complete on the disk: the one value that the runner tells of, the database lists and a resumed
attempt begins with."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from shared.job_files.layout import Below


class CheckpointRecord(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    path: Below  # relative to the job's folder
    step: int
    epoch: int = 0  # 0: of a batch inference
    sha256: str
    size_bytes: int
    is_best: bool = False

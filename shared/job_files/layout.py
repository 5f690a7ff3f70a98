"""Where files lie below the storage root. Named by ids only, never by what users typed.

datasets/<sha256>/                        one data set version, immutable
jobs/<job_id>/checkpoints/<step>-<sha>/   complete checkpoints
jobs/<job_id>/attempts/<fence>/           what one attempt writes: artifacts/ and scratch
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator


def _inside(path: str) -> str:
    if path.startswith("/") or ".." in path.split("/") or "\0" in path or not path:
        raise ValueError("must be a path below the folder it is relative to")
    return path


#: Joined to folders of ours, and some are removed: they must not lead out.
Below = Annotated[str, AfterValidator(_inside)]


def dataset_dir(root: Path, sha256: str) -> Path:
    return root / "datasets" / sha256


def job_dir(root: Path, job_id: str) -> Path:
    return root / "jobs" / job_id


def attempt_dir(root: Path, job_id: str, fence: int) -> Path:
    return job_dir(root, job_id) / "attempts" / str(fence)

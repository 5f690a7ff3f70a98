"""Layout of the storage root. Names are ids only, never user input.

datasets/<sha256>/                        one data set version, immutable
jobs/<job_id>/checkpoints/<step>-<sha>/   complete checkpoints
jobs/<job_id>/attempts/<fence>/           files of one attempt: artifacts/ and scratch
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator


def _inside(path: str) -> str:
    if path.startswith("/") or ".." in path.split("/") or "\0" in path or not path:
        raise ValueError("must be a path below the folder it is relative to")
    return path


#: A relative path that stays inside its folder. Such paths are joined to our folders, and some are removed.
Below = Annotated[str, AfterValidator(_inside)]


def dataset_dir(root: Path, sha256: str) -> Path:
    """Return the folder of a data set version."""
    return root / "datasets" / sha256


def job_dir(root: Path, job_id: str) -> Path:
    """Return the folder of a job."""
    return root / "jobs" / job_id


def attempt_dir(root: Path, job_id: str, fence: int) -> Path:
    """Return the folder of an attempt."""
    return job_dir(root, job_id) / "attempts" / str(fence)

"""A back-up of a stack at work, as docs/howto/backup.md has it, put back on PostgreSQL: the job goes on to the same result."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from api.client.sdk import Job
from tests.support.house import ROOT
from tests.support.up import Up, eventually, has_checkpoint, up

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

QUICK = {
    "NIGHTSHIFT_PRELOAD": "false",
    "NIGHTSHIFT_FRAMEWORKS": "torch",
    "NIGHTSHIFT_TEST_KINDS": "tests.support.probe",
    "PYTHONPATH": str(ROOT),
}
TAGS = {"probe": "train", "steps": "20", "checkpoint": "4", "hold_at": "10"}
SPEC: dict[str, Any] = {"kind": "train", "model": {"family": "cnn"}, "dataset": "digits", "tags": TAGS}


def migrate(source: Path, target_url: str, *options: str) -> None:
    argv = [sys.executable, "-m", "api.client.cli", "migrate", "--from", str(source), *options]
    env = {**os.environ, "NIGHTSHIFT_DATABASE_URL": target_url}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def finish(stack: Up, job: Job) -> str:
    """Let the held job go on; the hash of its result."""
    (stack.data_dir / "storage" / "jobs" / job.id / "go").touch()
    assert job.wait(240).state == "succeeded", job.error
    (result,) = [artifact for artifact in job.artifacts() if artifact.path == "chain.txt"]
    return str(result.data["sha256"])


def test_a_backup_of_a_running_stack_goes_on_elsewhere(tmp_path: Path, postgres_url: str) -> None:
    data, kept = tmp_path / "nightshift-data", tmp_path / "backup"
    kept.mkdir()
    with up(data, **QUICK) as stack:
        job = stack.client.submit(SPEC)
        eventually(lambda: has_checkpoint(job) and (job.progress or {}).get("step") == 10)
        migrate(data, f"sqlite:///{kept / 'nightshift.db'}", "--while-running")
        shutil.copytree(data / "storage", kept / "storage")
        shutil.copy(data / "api_key", kept)
        untouched = finish(stack, job)
        assert stack.stop() == 0
    migrate(kept, postgres_url, "--while-running")
    with up(kept, **QUICK, NIGHTSHIFT_DATABASE_URL=postgres_url) as again:
        same = again.client.job(job.id)
        assert finish(again, same) == untouched
        attempts = sorted(same.attempts(), key=lambda one: one["attempt"])
        assert [one["outcome"] for one in attempts] == ["lost", "succeeded"]
        assert attempts[1]["resumed_step"] == 8
        assert again.stop() == 0

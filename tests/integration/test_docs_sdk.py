"""Every block of docs/sdk.md runs, in order, against the real API; a thread plays the worker."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine

from shared.db.engine import write
from shared.jobs import transitions
from shared.jobs.transitions import ArtifactRecord, Lease
from shared.jobs.transitions.values import LogRow, MetricRow
from tests.support.factories import make_claimer
from tests.support.paths import ROOT
from tests.support.served import ServedApi, served_api
from worker.maintenance import sweeper

PAGE = ROOT / "docs" / "sdk.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)
FILES = {"curves.png": b"png", "evaluation.json": b"{}"}


def run(served: ServedApi, lease: Lease) -> None:
    """What a short training leaves behind."""
    folder = served.settings.storage_root / lease.job_id
    folder.mkdir(parents=True)
    artifacts = []
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        artifacts.append(
            ArtifactRecord(name, f"{lease.job_id}/{name}", digest, len(content), "application/octet-stream")
        )
    points = [MetricRow("loss", step, 0, 1 / step) for step in range(1, 200)]
    with write(served.engine) as conn:
        transitions.record(
            conn, lease, progress={"step": 200, "total_steps": 200}, metrics=points, logs=[LogRow("info", "hi")]
        )
        result = {"metrics": {"test_accuracy": 0.98}}
        assert transitions.succeed(conn, lease, result=result, artifacts=artifacts, register=None)


@contextmanager
def working(served: ServedApi) -> Iterator[None]:
    """Takes each job that comes and succeeds, until the block ends."""
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(0.05):
            with write(served.engine) as conn:
                claimed = transitions.claim(conn, make_claimer(), 30.0)
            if claimed:
                run(served, claimed.lease)
            sweeper.run_once(served.engine, served.settings)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_the_pages_examples_run(
    sqlite_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(BLOCKS) > 5
    with served_api(sqlite_engine, tmp_path) as served, working(served):
        monkeypatch.setenv("NIGHTSHIFT_API_URL", served.url)
        monkeypatch.setenv("NIGHTSHIFT_API_KEY", served.key)
        names: dict[str, object] = {}
        for number, block in enumerate(BLOCKS):
            exec(compile(block, f"docs/sdk.md, block {number + 1}", "exec"), names)
        names["client"].close()  # type: ignore[attr-defined]
    assert "[0.98, 0.98]" in capsys.readouterr().out
    assert (tmp_path / "out" / "curves.png").read_bytes() == b"png"

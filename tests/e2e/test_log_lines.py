"""Where the log is JSON, every line of every process is: from the first word to the last, whoever wrote it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.house import ROOT
from tests.support.up import eventually, up

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

QUICK = {
    "NIGHTSHIFT_PRELOAD": "false",
    "NIGHTSHIFT_FRAMEWORKS": "torch",
    "NIGHTSHIFT_TEST_KINDS": "tests.support.probe",
}
PROBE: dict[str, Any] = {"kind": "train", "model": {"family": "cnn"}, "dataset": "digits"}


def test_from_start_to_stop(tmp_path: Path) -> None:
    settings = QUICK | {"NIGHTSHIFT_LOG_FORMAT": "json", "PYTHONPATH": str(ROOT)}
    with up(tmp_path / "data", **settings) as stack:
        job = stack.client.submit(PROBE | {"tags": {"probe": "say"}})
        assert job.wait(600).state == "succeeded"
        before = stack.part("api.flower_pages.server")
        before.kill()
        eventually(lambda: [part for part in stack.parts("api.flower_pages.server") if part != before])
        assert stack.stop() == 0
    told = {log.stem: lines(log.read_text()) for log in (tmp_path / "data" / "logs").iterdir()}
    told["up"] = lines(stack.words)
    assert set(told) == {"up", "redis", "api", "worker-cpu0", "beat", "flower"}
    for part, said in told.items():
        assert {line["process"] for line in said} == {part.removesuffix("-cpu0")}
        assert all(line["level"] in LEVELS and line["at"].endswith("Z") and line["event"] for line in said)
    assert any("flower ended (SIGKILL)" in line["event"] for line in told["up"])
    assert "bye" in told["redis"][-1]["event"]
    assert any(line["event"] == "worker: Warm shutdown (MainProcess)" for line in told["worker-cpu0"])
    about = [line for line in told["worker-cpu0"] if line["event"].startswith(("attempt.", "job."))]
    assert {(line["job_id"], line["attempt"]) for line in about} == {(job.id, 1)}


LEVELS = {"debug", "info", "warning", "error", "critical"}


def lines(text: str) -> list[dict[str, Any]]:
    assert text, "it said nothing"
    return [json.loads(line) for line in text.splitlines()]

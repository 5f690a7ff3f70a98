"""`python -m api.server` as a process: the port it prints, and how it leaves."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from shared.db.engine import make_engine, write
from shared.fleet import keys
from tests.support import warm
from tests.support.factories import OWNER, submit_job
from tests.support.serving import api_process, events
from tests.support.stack import CAP


@pytest.fixture
def server(sqlite_url: str, tmp_path: Path) -> Iterator[tuple[warm.WarmProcess, str]]:
    with api_process(sqlite_url, tmp_path) as started:
        yield started


def test_it_prints_its_port_serves_and_leaves_on_sigterm(server: tuple[warm.WarmProcess, str], sqlite_url: str) -> None:
    engine = make_engine(sqlite_url)
    with write(engine) as conn:
        _, key = keys.create(conn, "test", OWNER)
    job_id = submit_job(engine).job_id
    process, url = server
    seen: list[dict[str, Any]] = []
    first = threading.Event()

    def follow() -> None:
        headers = {"Authorization": f"Bearer {key}"}
        with httpx.stream("GET", f"{url}/v1/jobs/{job_id}/events", headers=headers, timeout=CAP) as response:
            for event in events(response):
                seen.append(event)
                first.set()

    following = threading.Thread(target=follow)
    following.start()
    assert first.wait(CAP)
    ready = httpx.get(f"{url}/readyz", timeout=CAP).json()
    assert (ready["status"], ready["parts"]["broker"]) == ("degraded", "does not answer")

    process.send_signal(signal.SIGTERM)
    assert process.wait(CAP) == 0  # although a stream was open
    following.join(CAP)
    assert not following.is_alive()
    assert [event["data"]["state"] for event in seen if "data" in event] == ["queued"]
    engine.dispose()


def test_a_port_that_is_taken_is_said_and_not_a_traceback(server: tuple[Any, str], tmp_path: Path) -> None:
    port = server[1].rpartition(":")[2]
    variables = {"NIGHTSHIFT_DATA_DIR": str(tmp_path), "NIGHTSHIFT_API_PORT": port}
    second = warm.run("api.server", environment=os.environ | variables)
    assert second.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in second.stderr
    assert "Traceback" not in second.stderr

"""What a process says outside its log: plain to people, JSON where the log is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from api.launcher import redis_server
from tests.support import warm
from tests.support.paths import ROOT

BEGIN = "from shared.logging import configure_logging\nfrom shared.settings import Settings\n"


def run(code: str, *arguments: str, log_format: str = "json", **settings: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("NIGHTSHIFT_")}
    env |= {"PYTHONPATH": str(ROOT), "NIGHTSHIFT_LOG_FORMAT": log_format, **settings}
    argv = [sys.executable, *(["-c", code] if code else []), *arguments]
    return subprocess.run(argv, env=env, capture_output=True, text=True, check=False)


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_every_way_to_speak_and_to_die_is_json() -> None:
    code = f"""{BEGIN}
configure_logging(Settings(), "beat")
from celery.apps import worker
from tests.support import warm
from shared.console import print_error, print_line
from worker.celery_app.tasks import silence_celery
silence_celery()
worker.safe_say("worker: Warm shutdown (MainProcess)", None)
print_line("here I am")
print_error("not well")
class Sticky:
    def __del__(self):
        raise KeyError("gone")
del (sticky := [Sticky()])[0]
raise ValueError("line one\\nline two")
"""
    died = run(code)
    assert died.returncode == 1
    said, complained = lines(died.stdout), lines(died.stderr)
    assert [line["event"] for line in said] == ["worker: Warm shutdown (MainProcess)", "here I am"]
    assert [line["level"] for line in complained] == ["error", "error", "critical"]
    assert "KeyError: 'gone'" in complained[1]["exception"]
    assert complained[2]["event"] == "died of ValueError"
    assert complained[2]["exception"].endswith("ValueError: line one\nline two\n")
    assert {line["process"] for line in said + complained} == {"beat"}


def test_people_get_text() -> None:
    code = f'{BEGIN}configure_logging(Settings(), "beat")\n'
    code += 'from shared.console import print_line\nprint_line("here I am")\n1 / 0'
    died = run(code, log_format="console")
    assert died.stdout == "here I am\n"
    assert died.stderr.endswith("ZeroDivisionError: division by zero\n")


@pytest.mark.parametrize("module", ["api.server", "worker.main", "worker.beat", "shared.db.migrate"])
def test_settings_that_cannot_be_read_are_a_line_and_no_traceback(module: str) -> None:
    refused = warm.run(module, environment={"NIGHTSHIFT_LOG_FORMAT": "json", "NIGHTSHIFT_LEASE_SECONDS": "soon"})
    assert refused.returncode == 1
    (line,) = lines(refused.stderr)
    assert "NIGHTSHIFT_LEASE_SECONDS" in line["event"]


@pytest.mark.parametrize(
    ("line", "level", "text"),
    [
        ("22856:M 22 Nov 2026 20:45:57.138 # Valkey is now ready to exit, bye bye...", "warning",
            "Valkey is now ready to exit, bye bye..."),
        ("22856:C 01 Jan 2027 00:00:00.001 * Ready to accept connections tcp", "info",
            "Ready to accept connections tcp"),
        ('*** FATAL CONFIG FILE ERROR (Redis 7.0) ***: "oops"', "info",
            '*** FATAL CONFIG FILE ERROR (Redis 7.0) ***: "oops"'),
    ],
)  # fmt: skip
def test_lines_of_redis_take_our_shape(line: str, level: str, text: str) -> None:
    told = json.loads(redis_server.as_json(line))
    assert (told["process"], told["level"], told["event"]) == ("redis", level, text)
    assert told["at"].endswith("Z")

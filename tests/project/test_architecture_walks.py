"""The walks in docs/architecture.md: the files exist, and real calls pass them in that order."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from sqlalchemy import Engine, event

from shared.datasets import registry
from tests.support.api import TRAIN, running_api

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/architecture.md"


@dataclass(frozen=True)
class Walk:
    """A numbered list of files, and the files or folders that any of them may use."""

    files: list[str]
    used_by_all: tuple[str, ...]

    def skips(self, file: str) -> bool:
        return file.startswith(self.used_by_all)


def walk(title: str) -> Walk:
    section = PAGE.read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]
    steps, _, helpers = section.partition("\nUsed by all: ")
    return Walk(re.findall(r"(?m)^[0-9]+\. `([^`]+)`", steps), tuple(re.findall(r"`([^`]+)`", helpers)))


TITLES = re.findall(r"(?m)^## (A .*, from .*)$", PAGE.read_text())


@pytest.mark.parametrize("title", TITLES)
def test_a_walk_is_short_and_its_files_exist(title: str) -> None:
    found = walk(title)
    assert 1 < len(found.files) <= 8
    for path in [*found.files, *found.used_by_all]:
        assert (ROOT / path).exists(), path


@dataclass
class Trace:
    """Calls between files of the project, from the first call of a file on; each thread by itself."""

    walk: Walk
    calls: list[tuple[str, str]] = field(default_factory=list)
    thread: int | None = None
    is_over: bool = False

    def __call__(self, frame: FrameType, what: str, _argument: Any) -> None:
        here = _file(frame)
        if what != "call" or self.is_over or here is None or self.walk.skips(here):
            return
        if self.thread is None and here == self.walk.files[0]:
            self.thread = threading.get_ident()
        if self.thread == threading.get_ident():
            self.calls.append((self._caller(frame), here))

    def _caller(self, frame: FrameType) -> str:
        """The nearest file above that is no helper."""
        above = frame.f_back
        while above is not None:
            file = _file(above)
            if file is not None and not self.walk.skips(file):
                return file
            above = above.f_back
        return ""

    def end(self, _connection: Any) -> None:
        self.is_over = self.is_over or self.thread == threading.get_ident()

    def entered(self) -> list[str]:
        """Each file that another one called, in order."""
        return [here for caller, here in self.calls if caller != here]


def _file(frame: FrameType) -> str | None:
    name = frame.f_code.co_filename
    for package in ("api", "shared", "worker"):
        if name.startswith(str(ROOT / package)):
            return str(Path(name).relative_to(ROOT))
    return None


@contextmanager
def traced(found: Walk) -> Iterator[Trace]:
    """Follow calls in threads that start inside."""
    trace = Trace(found)
    threading.setprofile(trace)
    try:
        yield trace
    finally:
        threading.setprofile(None)  # type: ignore[arg-type]
        trace.is_over = True


@pytest.mark.skipif(sys.getprofile() is not None, reason="another profiler runs")
def test_a_submission_goes_one_way(sqlite_engine: Engine, tmp_path: Path) -> None:
    found = walk("A submission, from route to COMMIT")
    with traced(found) as trace, running_api(sqlite_engine, tmp_path) as api:
        version = registry.ensure_builtin(api.engine, api.settings, "digits")
        event.listen(api.engine, "commit", trace.end)
        names = {"dataset": f"digits@{version.version}", "register_as": "digits", "promote": _promote(version.version)}
        answer = api.post("/v1/jobs", json={**TRAIN, **names}, headers={"Idempotency-Key": "once"})
        event.remove(api.engine, "commit", trace.end)
    assert answer.status_code == 202, answer.text
    assert trace.is_over
    entered = trace.entered()
    assert list(dict.fromkeys(entered)) == found.files
    assert entered == sorted(entered, key=found.files.index), "a file that was left is entered again"


def _promote(version: int) -> dict[str, Any]:
    return {"metric": "test_accuracy", "evaluate_on": f"digits@{version}"}

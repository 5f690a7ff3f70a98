"""The threads of a run: as set, all cores, or as many as are idle."""

from __future__ import annotations

import os
from typing import Any

import psutil
import pytest
from pydantic import ValidationError

from shared.settings import Settings
from worker.hardware import idle_cores
from worker.hardware.idle_cores import threads_of_run

CORES = {0, 2, 3, 5}


@pytest.fixture(autouse=True)
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: CORES, raising=False)


def busy(monkeypatch: pytest.MonkeyPatch, percent: dict[int, float]) -> None:
    monkeypatch.setattr(psutil, "cpu_percent", lambda seconds, percpu: [percent.get(core, 100.0) for core in range(8)])


@pytest.mark.parametrize(("given", "threads"), [(None, 4), (3, 3), (9, 9)])
def test_threads_that_do_not_depend_on_the_load(monkeypatch: pytest.MonkeyPatch, given: Any, threads: int) -> None:
    monkeypatch.setattr(psutil, "cpu_percent", lambda *_, **__: pytest.fail("it was measured"))
    assert threads_of_run(Settings(torch_threads=given)) == threads


@pytest.mark.parametrize(
    ("percent", "threads"),
    [
        (dict.fromkeys(CORES, 0.0), 4),
        ({0: 3.0, 2: 8.0, 3: 99.0, 5: 0.0}, 3),
        ({0: 100.0, 2: 100.0, 3: 100.0, 5: 100.0, 1: 0.0, 7: 0.0}, 1),  # cores of others count for nothing
        ({0: 50.0, 2: 50.0, 3: 50.0, 5: 50.0}, 2),
    ],
)
def test_auto_takes_the_idle_cores(monkeypatch: pytest.MonkeyPatch, percent: dict[int, float], threads: int) -> None:
    busy(monkeypatch, percent)
    assert threads_of_run(Settings(torch_threads="auto")) == threads


def test_a_real_look_finds_no_more_than_there_are() -> None:
    assert -0.1 <= idle_cores.idle_cores() <= len(CORES)


@pytest.mark.parametrize("given", ["0", "many", "-1"])
def test_other_values_are_refused(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("NIGHTSHIFT_TORCH_THREADS", given)
    with pytest.raises(ValidationError, match="torch_threads"):
        Settings()


@pytest.mark.parametrize(("given", "read"), [("auto", "auto"), ("2", 2)])
def test_both_forms_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch, given: str, read: Any) -> None:
    monkeypatch.setenv("NIGHTSHIFT_TORCH_THREADS", given)
    assert Settings().torch_threads == read

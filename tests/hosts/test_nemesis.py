"""What the nemesis of hosts takes for a fault of the host that it stopped."""

from __future__ import annotations

import pytest

from tests.hosts.nemesis import wrong_end


@pytest.mark.parametrize("code", [0, 143])
def test_a_host_that_ends_as_asked_is_right(code: int) -> None:
    assert wrong_end("worker1", code, 3.0) is None


def test_a_last_resort_comes_late_and_to_workers_alone() -> None:
    assert wrong_end("worker1", 1, 58.0) is None
    assert wrong_end("worker1", 1, 3.0) == "worker1 stopped with 1 after 3 s"
    assert wrong_end("database", 1, 58.0) == "database stopped with 1 after 58 s"


def test_a_host_that_had_to_be_killed_is_wrong() -> None:
    assert wrong_end("worker2", 137, 75.0) == "worker2 stopped with 137 after 75 s"

"""What a device computes is fetched after the next has begun."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from worker.training.backends.batches import one_late


@pytest.mark.parametrize(
    ("count", "order"),
    [
        (0, []),
        (1, ["begin 0", "fetch 0"]),
        (3, ["begin 0", "begin 1", "fetch 0", "begin 2", "fetch 1", "fetch 2"]),
    ],
)
def test_one_is_fetched_once_the_next_has_begun(count: int, order: list[str]) -> None:
    events = list[str]()

    def begun() -> Iterator[int]:
        for number in range(count):
            events.append(f"begin {number}")
            yield number

    for number in one_late(begun()):
        events.append(f"fetch {number}")
    assert events == order

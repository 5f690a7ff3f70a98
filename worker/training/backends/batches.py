"""The order in which batches are begun and fetched, so that a device computes while its results are read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def one_late(begun: Iterable[T]) -> Iterator[T]:
    """Yield each value after the next one has begun, and the last one at the end."""
    waiting: list[T] = []
    for value in begun:
        yield from waiting
        waiting = [value]
    yield from waiting

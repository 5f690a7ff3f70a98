"""The stages of batch inference before its files are written: reading in a thread ahead, computing in this one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import Any

import pyarrow as pa

from worker.kinds.prediction_files import BadRow, Source, StagedSource

#: Makes the table of a chunk that is computed, in any thread.
MakeTable = Callable[[], tuple[pa.Table, list[BadRow]]]

#: Seconds after which a thread leaves the interpreter to one that waits for it. Python's own, 5 ms, is longer than the
#: network needs for some rows: its threads would wait for those that read and write.
_SWITCH_SECONDS = 0.0005


class Stages:
    """Computes chunks in their order, and reads the next one meanwhile if the source has stages."""

    def __init__(self, source: Source, chunks: Sequence[tuple[int, int]]) -> None:
        self.chunks, self._source = chunks, source
        self._unread = iter(chunks)
        self._reader = ThreadPoolExecutor(1, "inference-reader")
        self._next: Future[Any] | None = None
        self._switch_seconds = sys.getswitchinterval()

    def __enter__(self) -> Stages:
        sys.setswitchinterval(_SWITCH_SECONDS)
        self._read_ahead()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reader.shutdown(wait=True, cancel_futures=True)
        sys.setswitchinterval(self._switch_seconds)

    def compute(self, start: int, stop: int) -> MakeTable:
        """Compute the next chunk. Raises the errors of reading it, too."""
        if not isinstance(self._source, StagedSource) or self._next is None:
            found = self._source.rows(start, stop)
            return lambda: found
        read = self._next.result()
        self._read_ahead()
        return partial(self._source.table, read, self._source.predict(read))

    def _read_ahead(self) -> None:
        chunk = next(self._unread, None)
        if chunk is not None and isinstance(self._source, StagedSource):
            self._next = self._reader.submit(self._source.read, *chunk)

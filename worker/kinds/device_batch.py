"""The rows that a GPU computes at a time in batch inference: as many as fit, and fewer where memory runs out.

It stands between a family's source and the stages, so that it holds for every family and task: another size is the
same source opened again. Chunks do not depend on it.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from nightshift.families.learner import Array
from shared.specs.jobs import AUTO_BATCH, Inference
from worker.kinds.prediction_files import BadRow, Source, StagedSource
from worker.references import function
from worker.runners.failures import is_device_out_of_memory

#: Share of the free memory that a batch may take. Too low: small batches. Too high: later rows, which may be longer,
#: run out of memory, and the batch is halved.
SHARE = 0.8

_MEMORIES = {
    "torch": "worker.training.backends.torch_memory:TorchMemory",
    "tensorflow": "worker.training.backends.tensorflow_memory:TensorflowMemory",
}


class Log(Protocol):
    """Writes a line of the job's log."""

    def __call__(self, line: str, level: str = "info", /) -> None: ...


class DeviceMemory(Protocol):
    """The memory of a device, as the framework that computes there knows it."""

    def begin(self) -> None:
        """Begin to measure."""
        ...

    def taken(self) -> int:
        """Return the most bytes in use at a time since `begin`, beyond those in use then."""
        ...

    def free(self) -> int:
        """Return the bytes that the framework can still take."""
        ...

    def give_back(self) -> None:
        """Free what the framework keeps and does not use."""
        ...


def memory_of(framework: str) -> DeviceMemory:
    """Return the memory of this process's GPU."""
    memory: DeviceMemory = function(_MEMORIES[framework])()
    return memory


def largest(taken: int, free: int, most: int) -> int:
    """Return the rows of the largest batch that should fit: a multiple of `AUTO_BATCH` rows, which took `taken` bytes.

    It is no larger than `most`, the rows of a chunk, and no smaller than `AUTO_BATCH`.
    """
    return AUTO_BATCH * max(1, min(most // AUTO_BATCH, int(SHARE * free) // taken))


@dataclass(frozen=True)
class _Chunk:
    """Rows `start` … `stop - 1`, and what the source has read of them if it has stages."""

    start: int
    stop: int
    content: Any = None

    @property
    def rows(self) -> int:
        return self.stop - self.start


class FittedSource(StagedSource):
    """A source whose batches fit into the memory of a device.

    `opened` opens the source for a number of rows at a time. The chunks that one has read are given to its successor.
    """

    def __init__(self, opened: Callable[[int], Source], inference: Inference, memory: DeviceMemory, log: Log) -> None:
        self._opened, self._memory, self._log = opened, memory, log
        self._grows = inference.batch_size == "auto"
        self._use(inference.batch_rows)
        self.total: int = self._source.total
        self.schema: pa.Schema = self._source.schema

    def _use(self, rows: int) -> None:
        self._rows, self._source = rows, self._opened(rows)

    def read(self, start: int, stop: int) -> _Chunk:
        source = self._source
        return _Chunk(start, stop, source.read(start, stop) if isinstance(source, StagedSource) else None)

    def predict(self, read: _Chunk) -> Any:
        """Return the outputs for a chunk. The first chunk of more than one batch shows how many rows fit."""
        if not self._grows or read.rows <= self._rows:
            return self._fitted(read)
        self._memory.begin()
        found = self._fitted(read)
        if self._grows and (taken := self._memory.taken()) > 0:
            self._grow(taken, read.rows)
        return found

    def table(self, read: _Chunk, found: Any) -> tuple[pa.Table, list[BadRow]]:
        source = self._source
        made: tuple[pa.Table, list[BadRow]] = (
            source.table(read.content, found) if isinstance(source, StagedSource) else found
        )
        return made

    def shown(self) -> Mapping[str, Array]:
        return self._source.shown()

    def _fitted(self, read: _Chunk) -> Any:
        """Return the outputs, computed in halved batches for as long as memory runs out."""
        while True:
            rows = min(self._rows, read.rows)
            try:
                return self._computed(read)
            except Exception as error:
                if rows == 1 or not is_device_out_of_memory(error):
                    raise
            # Only here: in the handler, the error's frames hold the memory of the batch.
            self._halve(rows)

    def _computed(self, read: _Chunk) -> Any:
        source = self._source
        return source.predict(read.content) if isinstance(source, StagedSource) else source.rows(read.start, read.stop)

    def _grow(self, taken: int, most: int) -> None:
        self._grows = False
        rows = largest(taken, self._memory.free(), most)
        self._log(f"{AUTO_BATCH} rows take {taken / 2**20:,.0f} MiB of the device: computes {rows:,} rows at a time")
        if rows > self._rows:
            self._use(rows)

    def _halve(self, rows: int) -> None:
        self._grows = False
        gc.collect()
        self._memory.give_back()
        self._log(f"the device is out of memory with {rows:,} rows: computes {rows // 2:,} rows at a time", "warning")
        self._use(rows // 2)

"""Computes an ONNX network with ONNX Runtime on the CPU. `onnxruntime` is imported in the process of a job only."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from nightshift.families.learner import Array
from shared.fleet.cores import available_cores

#: Severity of the library's own messages from which they are written: errors.
_ERRORS = 3
#: Most rows that a thread computes at a time. Too low: calls cost more than they compute. Too high: the outputs of a
#: layer leave the cache before the next layer reads them, and at the end of a chunk threads wait for the last one.
_ROWS = 32


class OnnxNetwork:
    """A network with one input, whose first axis are rows, and one output."""

    def __init__(self, content: bytes, threads: int | None) -> None:
        """Load a network. Raises ImportError without `onnxruntime`, and errors of its own for what it cannot load.

        Each thread computes rows of its own. Threads that share each operation on the same rows wait for each other
        after it, also for one whose core reads or writes meanwhile.
        """
        import onnxruntime

        onnxruntime.set_default_logger_severity(_ERRORS)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session: Any = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        (self._input,), (self._output,) = self._session.get_inputs(), self._session.get_outputs()
        self._dtype = _DTYPES[self._input.type]
        self._threads = threads or available_cores()
        self._others = ThreadPoolExecutor(max(1, self._threads - 1), "onnx-network")

    def predict(self, inputs: Array, batch_size: int) -> Array:
        """Return the outputs of all rows. No more than a batch of them, or one for each thread, is computed at once."""
        rows = self._rows_at_a_time(min(batch_size, len(inputs)))
        starts = range(0, len(inputs), rows)
        found, undone = dict[int, Array](), iter(starts)

        def compute() -> None:
            for at in undone:
                found[at] = self._computed(inputs[at : at + rows])

        others = [self._others.submit(compute) for _ in starts[1 : self._threads]]
        compute()
        for other in others:
            other.result()
        return np.concatenate([found[at] for at in starts]) if found else self._nothing()

    def _rows_at_a_time(self, batch: int) -> int:
        each = max(1, -(-batch // self._threads))
        return each if self._has_dense_layers_only() else min(each, _ROWS)

    def _has_dense_layers_only(self) -> bool:
        """Return whether the input is a vector of numbers, of which a row costs less than a call."""
        return len(self._input.shape) == 2 and self._dtype is np.float32

    def _computed(self, inputs: Array) -> Array:
        read = getattr(inputs, "network_input", None)  # of arrays that a family packs for its learner
        plain = np.ascontiguousarray(inputs if read is None else read(), self._dtype)
        found: Array = self._session.run(None, {self._input.name: plain})[0]
        return found

    def _nothing(self) -> Array:
        return np.empty((0, *(size if isinstance(size, int) else 0 for size in self._output.shape[1:])), np.float32)


_DTYPES: dict[str, Any] = {
    "tensor(uint8)": np.uint8, "tensor(int32)": np.int32, "tensor(int64)": np.int64, "tensor(float)": np.float32,
    "tensor(double)": np.float64, "tensor(bool)": np.bool_,
}  # fmt: skip

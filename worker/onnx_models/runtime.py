"""Computes an ONNX network with ONNX Runtime on the CPU. `onnxruntime` is imported in the process of a job only."""

from __future__ import annotations

from typing import Any

import numpy as np

from nightshift.families.learner import Array

#: Severity of the library's own messages from which they are written: errors.
_ERRORS = 3


class OnnxNetwork:
    """A network with one input, whose first axis are rows, and one output."""

    def __init__(self, content: bytes, threads: int | None) -> None:
        """Load a network. Raises ImportError without `onnxruntime`, and errors of its own for what it cannot load."""
        import onnxruntime

        onnxruntime.set_default_logger_severity(_ERRORS)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads or 0, 1
        # Threads that spin while they wait take the processor from the threads that read and write.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session: Any = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        (self._input,), (self._output,) = self._session.get_inputs(), self._session.get_outputs()
        self._dtype = _DTYPES[self._input.type]

    def predict(self, inputs: Array, batch_size: int) -> Array:
        """Return the outputs of all rows, computed in batches."""
        parts = [self._batch(inputs[at : at + batch_size]) for at in range(0, len(inputs), batch_size)]
        return np.concatenate(parts) if parts else self._nothing()

    def _batch(self, inputs: Array) -> Array:
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

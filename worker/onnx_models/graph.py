"""Builds a network of ONNX operators from named weights; `onnx` is imported when the first one is built."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nightshift.families.learner import Array
from worker.training.numerics.norms import NORM_EPS

#: Versions of the operators and of the file. Too low: an operator is missing. Too high: older runtimes read no file.
OPSET, IR_VERSION = 17, 8


class Graph:
    """A network with one input and one output, whose rows are the first axis of both."""

    def __init__(self, name: str, dtype: npt.DTypeLike, shape: Sequence[int | str]) -> None:
        """Begin with the input: its name, type, and the shape of a row; text stands for any size."""
        from onnx import helper

        self.input = name
        self._onnx: Any = helper
        self._inputs = [helper.make_tensor_value_info(name, _element(dtype), ["rows", *shape])]
        self._nodes: list[Any] = []
        self._weights: dict[str, Any] = {}

    def add(self, operator: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Add an operator; return the name of its output, or a tuple of names if it has several."""
        place = len(self._nodes)
        names = tuple(f"{operator}_{place}" if outputs == 1 else f"{operator}_{place}_{i}" for i in range(outputs))
        self._nodes.append(self._onnx.make_node(operator, list(inputs), list(names), names[0], **attributes))
        return names[0] if outputs == 1 else names

    def constant(self, name: str, values: Any, dtype: npt.DTypeLike = np.float32) -> str:
        """Add an array under a name, once, and return the name."""
        from onnx import numpy_helper

        if name not in self._weights:
            array = np.ascontiguousarray(np.asarray(values, dtype)).reshape(np.shape(values))
            self._weights[name] = numpy_helper.from_array(array, name)
        return name

    def cast(self, x: str, dtype: npt.DTypeLike) -> str:
        """Add a conversion."""
        return str(self.add("Cast", x, to=_element(dtype)))

    def shaped(self, x: str, shape: Sequence[int]) -> str:
        """Add a reshape; -1 stands for the size that is left, 0 for the one that the input has."""
        return str(self.add("Reshape", x, self.constant("shape_" + "_".join(map(str, shape)), shape, np.int64)))

    def linear(self, x: str, name: str, weights: Mapping[str, Array]) -> str:
        """Add a dense layer [rows, in] -> [rows, out] with the weights `name.weight` [out, in] and `name.bias`."""
        parts = [self.constant(f"{name}.{part}", weights[f"{name}.{part}"]) for part in ("weight", "bias")]
        return str(self.add("Gemm", x, *parts, transB=1))

    def normalized(self, x: str, weights: Mapping[str, Array], name: str, shape: Sequence[int]) -> str:
        """Add a layer normalization over all numbers of an example of this shape, whose first axis is scaled."""
        one, zero = self.constant("norm_scale", [1.0]), self.constant("norm_bias", [0.0])
        flat = self.shaped(x, [-1, 1, math.prod(shape)])
        x = self.shaped(self.add("InstanceNormalization", flat, one, zero, epsilon=NORM_EPS), [-1, *shape])
        each = (-1, *[1] * (len(shape) - 1))
        scale, bias = (
            self.constant(f"{name}.{part}", weights[f"{name}.{part}"].reshape(each)) for part in ("weight", "bias")
        )
        return str(self.add("Add", self.add("Mul", x, scale), bias))

    def finish(self, output: str, shape: Sequence[int | str], properties: Mapping[str, str]) -> bytes:
        """Return the file: the same bytes for the same network. `shape`: of a row of the output, which is float32."""
        import onnx

        self._nodes.append(self._onnx.make_node("Identity", [output], ["outputs"], "outputs"))
        outputs = [self._onnx.make_tensor_value_info("outputs", _element(np.float32), ["rows", *shape])]
        graph = self._onnx.make_graph(self._nodes, "network", self._inputs, outputs)
        opset = [self._onnx.make_opsetid("", OPSET)]
        model = self._onnx.make_model(graph, opset_imports=opset, ir_version=IR_VERSION, producer_name="nightshift")
        self._onnx.set_model_props(model, dict(properties))
        for name in list(self._weights):  # one at a time: each step before would copy them all
            model.graph.initializer.append(self._weights.pop(name))
        content = bytes(model.SerializeToString(deterministic=True))
        onnx.checker.check_model(content)
        return content


def _element(dtype: npt.DTypeLike) -> int:
    from onnx import helper

    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def probabilities(graph: Graph, logits: str, *, sigmoid: bool) -> str:
    """Add what makes probabilities [rows, classes] of logits; one logit is that of the second of two classes."""
    if not sigmoid:
        return str(graph.add("Softmax", logits, axis=-1))
    second = graph.add("Sigmoid", logits)
    first = graph.add("Sub", graph.constant("one", 1.0), second)
    return str(graph.add("Concat", first, second, axis=1))

"""What steps do on a GPU, looked at without one.

The tensors of torch's meta device have no values: a step that would wait for the value of one raises. cuDNN is played
by torch's own layers, and by what TensorFlow's operation is documented to compute.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import pytest

from nightshift.families.optimizers import Optimizer
from nightshift.families.training import Training
from nightshift.testing.cases import Case
from nightshift.testing.fixtures import held_out
from tests.conformance.test_recurrent_layers import FULL, RAGGED, UNITS, WAYS, by_tensorflow, by_torch
from tests.support.frameworks import THREADS
from tests.support.training import CASES
from worker.training.numerics.recurrent import GATES, Cell

torch = pytest.importorskip("torch")
tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")
tensorflow_support, torch_recurrent, torch_support = (
    pytest.importorskip(f"worker.training.backends.{name}")
    for name in ("tensorflow_support", "torch_recurrent", "torch_support")
)

OPTIMIZERS = get_args(Optimizer)
CELLS: list[Cell] = ["simple_rnn", "lstm", "gru"]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    tensorflow_support.use_threads(THREADS)
    torch_support.use_threads(THREADS)


# -- no step waits --------------------------------------------------------------------------------


@pytest.fixture
def no_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let learners be built on a device whose tensors have no values."""
    meta = torch.device("meta")

    def send(array: Any, device: Any) -> Any:
        return torch.from_numpy(np.array(array)).to(device)

    monkeypatch.setattr(torch_support, "torch_device", lambda device: meta)
    monkeypatch.setattr(torch_support, "native_bfloat16", lambda device: True)
    monkeypatch.setattr(torch_support, "send", send)
    monkeypatch.setattr(torch_support, "_select", lambda tensor, rows, device: tensor.index_select(0, rows.to(device)))
    monkeypatch.setattr(
        torch_support,
        "move_to_device",
        lambda arrays, device: {name: send(array, device) for name, array in arrays.items()},
    )
    # What torch refuses to do there.
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    fused = sys.modules["torch.optim.optimizer"]
    monkeypatch.setattr(fused, "_get_fused_kernels_supported_devices", lambda: ["meta"])


@pytest.mark.parametrize("optimizer", [name for name in OPTIMIZERS if name != "sgd"])  # fused, and not on this device
@pytest.mark.parametrize("case", [case for case in CASES.values() if case.framework == "torch"], ids=str)
def test_no_step_in_torch_reads_a_value_from_the_device(
    case: Case,
    optimizer: str,
    data_sets: Callable[[Case], Path],
    no_values: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    splits = case.load_splits(data_sets(case))
    learner = case.build(splits, optimizer=optimizer, learning_rate=0.01, grad_clip=1.0, precision="auto")
    with monkeypatch.context() as patch:  # a new model may be filled in by the data, once
        patch.setattr(torch_support, "to_numpy", lambda tensor: np.zeros(tensor.shape, np.float32))
        patch.setattr(torch_support, "assign", lambda tensor, name, arrays: None)
        learner.set_data(splits.train)
    for step in range(2):
        learner.train_step(np.arange(6), step)
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):  # so a read would have been seen
        learner.read_metrics()


PREDICTING = [case for case in CASES.values() if case.framework == "torch" and case.family != "gru_lm"]


@pytest.mark.parametrize("case", PREDICTING, ids=str)
def test_predicting_in_torch_reads_a_batch_once_the_next_has_begun(
    case: Case, data_sets: Callable[[Case], Path], no_values: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits, events = case.load_splits(data_sets(case)), list[str]()

    def fetch(tensor: Any) -> Callable[[], Any]:
        events.append("begin")
        return lambda: events.append("read") or np.zeros(tensor.shape, np.float32)

    monkeypatch.setattr(torch_support, "fetch", fetch)
    learner = case.build(splits)
    learner.device_kind = "gpu"
    if hasattr(learner, "generate"):
        learner.generate(20, 3, 8)
    else:
        learner.predict(next(iter(held_out(splits).values()))[:20], 8)
    assert events == ["begin", "begin", "read", "begin", "read", "read"]


def test_an_array_with_gaps_is_pinned_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []

    def pin(tensor: Any) -> Any:
        seen.append(tensor.is_contiguous())
        return SimpleNamespace(to=lambda device, non_blocking: tensor)

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    sent = torch_support.send(np.arange(12).reshape(3, 4)[:, 1:], torch.device("cuda"))
    assert seen == [True]
    assert sent.tolist() == [[1, 2, 3], [5, 6, 7], [9, 10, 11]]


# -- a loss that is not finite --------------------------------------------------------------------

#: Gradients of five steps; the losses of the third and of all after it are not finite.
LOSSES = (1.0, 2.0, float("nan"), float("inf"), 1.0)


def _gradients(bad: float) -> list[Any]:
    draw = np.random.default_rng(5)
    found = [draw.standard_normal((4, 3)).astype("f") for _ in LOSSES]
    return [one if np.isfinite(loss) else one * bad for one, loss in zip(found, LOSSES, strict=True)]


def _training(optimizer: str) -> Training:
    more = {"momentum": 0.9} if optimizer == "sgd" else {}
    return Training(optimizer=optimizer, learning_rate=0.1, weight_decay=0.1, grad_clip=0.5, **more)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("from_the_first", [False, True], ids=["later", "from the first step"])
def test_torch_skips_the_step_on_a_device_as_on_a_cpu(
    optimizer: str, from_the_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = _in_torch(optimizer, from_the_first)
    monkeypatch.setattr(torch_support, "on_host", lambda tensor: False)
    found = _in_torch(optimizer, from_the_first)
    assert found.keys() >= wanted.keys()
    for name, array in found.items():
        if name == "step":  # counted on the host, and read by no optimizer that is not fused
            continue
        if name == "momentum_buffer" and from_the_first:  # torch has not filled it; no step follows a bad loss
            continue
        np.testing.assert_array_equal(array, wanted.get(name, np.zeros_like(array)), err_msg=name)


def _in_torch(optimizer: str, from_the_first: bool) -> dict[str, Any]:
    """Return the weight and its slots after the steps."""
    weight = torch.nn.Parameter(torch.ones(4, 3))
    made = torch_support.make_optimizer(_training(optimizer), {"w": weight})
    guard = torch_support.FiniteLossGuard(made, torch.device("cpu"))
    for loss, gradient in list(zip(LOSSES, _gradients(np.nan), strict=True))[2 if from_the_first else 0 :]:
        weight.grad = torch.from_numpy(gradient)
        guard.step(torch.tensor(loss))
    slots = {name: slot.numpy() for name, slot in made.state.get(weight, {}).items() if slot is not None}
    return {"weight": weight.detach().numpy(), **slots}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("from_the_first", [False, True], ids=["later", "from the first step"])
def test_tensorflow_skips_the_step_without_a_condition_as_with_one(optimizer: str, from_the_first: bool) -> None:
    wanted, found = (_in_tensorflow(optimizer, from_the_first, way) for way in (True, False))
    assert wanted.keys() == found.keys()
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def _in_tensorflow(optimizer: str, from_the_first: bool, conditional: bool) -> dict[str, Any]:
    weight = tf.Variable(tf.ones((4, 3)))
    made = tensorflow_support.Optimizer(_training(optimizer), {"w": weight})
    guard = tensorflow_support.FiniteLossGuard()

    @tf.function(autograph=False)
    def step(loss: Any, gradient: Any) -> None:
        ok, rate = guard.ok(loss), tf.constant(0.1)
        if not conditional:
            made.step([gradient], rate, ok)
            return
        tf.cond(ok, lambda: [made.step([gradient], rate), tf.constant(True)][1], lambda: tf.constant(False))

    for loss, gradient in list(zip(LOSSES, _gradients(np.nan), strict=True))[2 if from_the_first else 0 :]:
        step(tf.constant(loss), tf.constant(gradient))
    return {"weight": weight.numpy(), **made.state()}


def test_a_step_of_tensorflow_on_a_gpu_has_no_condition(
    data_sets: Callable[[Case], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES["text_classifier-tensorflow"]
    splits = case.load_splits(data_sets(case))
    assert "If" in _operations(case.build(splits))
    monkeypatch.setattr(tensorflow_support, "on_host", lambda device: False)
    monkeypatch.setattr(tf.raw_ops, "CudnnRNNV3", _some_layer)
    assert "If" not in _operations(case.build(splits))


def _some_layer(*, input: Any, input_h: Any, params: Any, **_: Any) -> Any:
    return (input[..., :1] + input_h + tf.reduce_sum(params),)


@pytest.fixture
def without_determinism() -> Iterator[None]:
    """Let TensorFlow choose operations as on a GPU; on a CPU other tests have asked for deterministic ones."""
    from tensorflow.python.util import _pywrap_determinism as determinism

    before = determinism.is_enabled()
    determinism.enable(False)
    yield
    determinism.enable(before)


@pytest.mark.usefixtures("without_determinism")
@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
@pytest.mark.parametrize("case", [case for case in CASES.values() if case.framework == "tensorflow"], ids=str)
def test_tensorflow_computes_a_step_where_its_data_lies(
    case: Case, precision: str, data_sets: Callable[[Case], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorflow.python.framework import kernels

    if not any(one.device_type == "GPU" for one in kernels.get_registered_kernels_for_op("MatMul").kernel):
        pytest.skip("this build of TensorFlow has no GPU kernels")
    monkeypatch.setattr(tensorflow_support, "tensorflow_device", lambda device: "/gpu:0")
    monkeypatch.setattr(tensorflow_support, "native_bfloat16", lambda device: True)
    augment = {"augment": ["erase"]} if case.family == "cnn" else {}
    learner = case.build(case.load_splits(data_sets(case)), precision=precision, grad_clip=1.0, **augment)
    train = learner._train if hasattr(learner._train, "graph") else learner._train.get_concrete_function()
    assert _on_the_host(train.graph.as_graph_def()) == set()


#: What TensorFlow computes from integers on the host, though it has kernels of a GPU for these operations.
_OF_THE_HOST = {("Max", "int32"), ("GreaterEqual", "int32"), ("Unpack", "int64")}


def _on_the_host(graph: Any) -> set[tuple[str, str]]:
    """Return the operations of a graph that bring data from the GPU to the host, with their types."""
    found = set()
    for node in [*graph.node, *(node for function in graph.library.function for node in function.node_def)]:
        types = {name: one.type for name, one in node.attr.items() if one.type}
        kind = tf.as_dtype(types["T"]).name if "T" in types else ""
        narrowed = node.op == "Cast" and (types["SrcT"], types["DstT"]) == (tf.int64, tf.int32)  # of lengths
        if narrowed or (node.op, kind) in _OF_THE_HOST or not _has_gpu_kernel(node.op, types):
            found.add((node.op, kind))
    return found


def _has_gpu_kernel(operation: str, types: dict[str, int]) -> bool:
    from tensorflow.python.framework import kernels

    known = kernels.get_registered_kernels_for_op(operation).kernel
    if not known:  # of a function, or of the graph itself
        return True
    return any(
        all(types.get(one.name) in (None, *one.allowed_values.list.type) for one in kernel.constraint)
        for kernel in known
        if kernel.device_type in ("GPU", "DEFAULT")
    )


def _operations(learner: Any) -> set[str]:
    """Return the kinds of the operations of the graph of a training step."""
    return {operation.type for operation in learner._train.get_concrete_function().graph.get_operations()}


# -- recurrent layers by cuDNN --------------------------------------------------------------------


def cudnn(
    *, input: Any, input_h: Any, input_c: Any, params: Any, sequence_lengths: Any, rnn_mode: str, time_major: bool
) -> Any:  # fmt: skip
    """Compute one layer as cuDNN does, from its parameters: the gates' matrices by input and state, then biases."""
    assert time_major
    gates = GATES[{"rnn_tanh": "simple_rnn"}.get(rnn_mode, rnn_mode)]  # type: ignore[call-overload]
    width, h = input.shape[-1], input_h.shape[-1]
    w, r, b, c = tf.split(params, [gates * h * width, gates * h * h, gates * h, gates * h])
    w, r = (tf.split(tf.reshape(one, [gates * h, -1]), gates) for one in (w, r))
    b, c = tf.split(b, gates), tf.split(c, gates)

    def read(i: int, x: Any) -> Any:
        return tf.matmul(x, w[i], transpose_b=True) + b[i]

    def kept(i: int, state: Any) -> Any:
        return tf.matmul(state, r[i], transpose_b=True) + c[i]

    state, cell, outputs = input_h[0], tf.zeros_like(input_h[0]), []
    for x in tf.unstack(input, input.shape[0]):
        sums = [read(i, x) + kept(i, state) for i in range(gates)]
        if rnn_mode == "rnn_tanh":
            state = tf.tanh(sums[0])
        elif rnn_mode == "lstm":
            cell = tf.sigmoid(sums[1]) * cell + tf.sigmoid(sums[0]) * tf.tanh(sums[2])
            state = tf.sigmoid(sums[3]) * tf.tanh(cell)
        else:
            z = tf.sigmoid(sums[1])
            state = (1 - z) * tf.tanh(read(2, x) + tf.sigmoid(sums[0]) * kept(2, state)) + z * state
        outputs.append(state)
    return (tf.stack(outputs),)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("lengths", [RAGGED, FULL], ids=["ragged", "full"])
@WAYS
def test_tensorflow_gives_cudnn_what_it_needs(
    cell: Cell, lengths: list[int], reverse: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = by_tensorflow(cell, "tanh", lengths, reverse)
    monkeypatch.setattr(tf.raw_ops, "CudnnRNNV3", cudnn)
    for found, one in zip(by_tensorflow(cell, "tanh", lengths, reverse, device="/gpu:0"), wanted, strict=True):
        np.testing.assert_allclose(found, one, rtol=1e-4, atol=1e-5)


def test_the_parameters_of_cudnn_are_those_of_keras(monkeypatch: pytest.MonkeyPatch) -> None:
    from worker.training.backends.tensorflow_recurrent import gru

    seen: list[Any] = []

    def record(*, params: Any, input_h: Any, **_: Any) -> Any:
        seen.append(params.numpy())
        return [tf.zeros((7, 2, UNITS)), input_h, None, None, None]

    monkeypatch.setattr(tf.raw_ops, "CudnnRNNV3", record)
    draw = np.random.default_rng(3)
    ours = [draw.standard_normal(shape).astype("f") for shape in ((12, 5), (12, UNITS), (12,), (12,))]
    x, state = tf.zeros((7, 2, 5)), tf.zeros((2, UNITS))
    gru(x, state, ours, computed=tf.float32, device="/gpu:0")
    kernel, recurrent, *biases = (np.concatenate([w[4:8], w[:4], w[8:]]) for w in ours)  # its order is z, r, n
    of_keras = sys.modules["keras.src.backend.tensorflow.rnn"]
    of_keras._cudnn_gru(x, state, kernel.T, recurrent.T, np.stack(biases), None, True, False, True)
    np.testing.assert_array_equal(seen[0], seen[1])


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_tensorflow_has_kernels_of_cudnn_and_their_gradients(precision: str) -> None:
    from tensorflow.python.framework import kernels, ops

    for name in ("CudnnRNNV3", "CudnnRNNBackpropV3"):
        of_gpu = [one for one in kernels.get_registered_kernels_for_op(name).kernel if one.device_type == "GPU"]
        if not of_gpu:
            pytest.skip("this build of TensorFlow has no GPU kernels")
        types = {kind for one in of_gpu for limit in one.constraint for kind in limit.allowed_values.list.type}
        assert tf.as_dtype(precision).as_datatype_enum in types
    assert ops._gradient_registry.lookup("CudnnRNNV3") is not None


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("lengths", [RAGGED, FULL], ids=["ragged", "full"])
@WAYS
def test_torch_gives_cudnn_weights_in_one_piece(
    cell: Cell, lengths: list[int], reverse: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, seen = by_torch(cell, "tanh", lengths, reverse), []
    side_by_side = torch_recurrent._side_by_side

    def watched(weights: Any) -> Any:
        seen.append(side_by_side(weights))
        return seen[-1]

    monkeypatch.setattr(torch_support, "on_host", lambda tensor: False)
    monkeypatch.setattr(torch_recurrent, "_side_by_side", watched)
    for found, one in zip(by_torch(cell, "tanh", lengths, reverse), wanted, strict=True):
        np.testing.assert_allclose(found, one, rtol=1e-4, atol=1e-5)
    (weights,) = seen
    ends = [weight.data_ptr() + weight.nbytes for weight in weights]
    assert [weight.data_ptr() for weight in weights[1:]] == ends[:-1], "each begins where the one before it ends"


def test_a_snapshot_of_a_weight_is_a_copy_in_canonical_layout() -> None:
    weight = torch.arange(24.0).view(1, 2, 3, 4).contiguous(memory_format=torch.channels_last)
    found = torch_support.to_numpy(weight)
    weight.zero_()
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found.ravel(), np.arange(24))

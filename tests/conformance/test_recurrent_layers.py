"""The recurrent layers of both frameworks are those of torch and of Keras, also in batches with padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from worker.training.numerics.data_order import generator
from worker.training.numerics.recurrent import (
    GATES,
    Activation,
    Cell,
    RightPadded,
    initial,
    longest_first,
    parts,
    shapes,
)

pytest.importorskip("torch")
pytest.importorskip("tensorflow")

INPUTS, UNITS, TIME = 5, 4, 7
RAGGED, FULL = [7, 7, 4, 2, 1], [7, 7, 7]
CELLS: list[tuple[Cell, Activation]] = [
    (cell, act) for cell in ("simple_rnn", "lstm", "gru") for act in ("tanh", "relu")
]  # type: ignore[misc]
#: Those that torch has a layer of.
OF_TORCH = [one for one in CELLS if one[1] == "tanh" or one[0] == "simple_rnn"]
LENGTHS = pytest.mark.parametrize("lengths", [RAGGED, FULL], ids=["ragged", "full"])
EACH = pytest.mark.parametrize(("cell", "activation"), CELLS, ids=[f"{cell}-{act}" for cell, act in CELLS])
WAYS = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Use as many threads as the other modules of this folder: TensorFlow accepts them before its first operation."""
    from worker.training.backends import tensorflow_support, torch_support

    tensorflow_support.use_threads(1)
    torch_support.use_threads(1)


def drawn(cell: Cell, lengths: Sequence[int]) -> tuple[Any, list[Any], Any, Any]:
    """Return x, weights, and what to multiply outputs and last states by for one number with a gradient."""
    draw = np.random.default_rng(1)
    x = draw.standard_normal((TIME, len(lengths), INPUTS)).astype("f")
    own = shapes(cell, INPUTS, [UNITS], bidirectional=False)
    weights = [0.7 * draw.standard_normal(own[f"rnn0.{part}"]).astype("f") for part in parts(cell)]
    factors = draw.standard_normal((TIME, len(lengths), UNITS)).astype("f")
    return x, weights, factors, draw.standard_normal((len(lengths), UNITS)).astype("f")


def by_torch(
    cell: Cell, activation: Activation, lengths: Sequence[int], reverse: bool, precision: str = "float32"
) -> list[Any]:
    """Return outputs, last states, and the gradients by x and each weight."""
    import torch

    from worker.training.backends.torch_recurrent import Padded, recurrent

    x, weights, factors, of_last = drawn(cell, lengths)
    values = [torch.from_numpy(one).requires_grad_() for one in (x, *weights)]
    batch = Padded.of(RightPadded(np.array(lengths), TIME), torch.device("cpu"))
    x_in, *w_in = (one.to(getattr(torch, precision)) for one in values)
    outputs, last = recurrent(x_in, batch, w_in, cell=cell, activation=activation, reverse=reverse)
    outputs, last = outputs.float(), last.float()
    loss = (outputs * torch.from_numpy(factors)).sum() + (last * torch.from_numpy(of_last)).sum()
    return [one.detach().numpy() for one in (outputs, last, *torch.autograd.grad(loss, values))]


def by_tensorflow(
    cell: Cell,
    activation: Activation,
    lengths: Sequence[int],
    reverse: bool,
    precision: str = "float32",
    device: str = "/cpu:0",
) -> list[Any]:
    import tensorflow as tf

    from worker.training.backends.tensorflow_recurrent import recurrent

    x, weights, factors, of_last = drawn(cell, lengths)

    @tf.function(autograph=False)
    def graph(values: Any, lengths: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(values)
            how = {"cell": cell, "activation": activation, "reverse": reverse}
            outputs, last = recurrent(
                values[0], lengths, values[1:], computed=tf.as_dtype(precision), device=device, **how
            )
            loss = tf.reduce_sum(outputs * factors) + tf.reduce_sum(last * of_last)
        return [outputs, last, *tape.gradient(loss, values)]

    values = [tf.constant(one) for one in (x, *weights)]
    return [one.numpy() for one in graph(values, tf.constant(lengths, tf.int64))]


def torch_packed(cell: Cell, activation: Activation, lengths: Sequence[int], reverse: bool) -> list[Any]:
    """Return the same of torch's own layer on a packed sequence; `reverse` is half of a bidirectional layer."""
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    x, weights, factors, of_last = drawn(cell, lengths)
    more = {"nonlinearity": activation} if cell == "simple_rnn" else {}
    kind = {"simple_rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[cell]
    layer = kind(INPUTS, UNITS, bidirectional=reverse, **more)
    own = list(layer.parameters())[-4:]
    with torch.no_grad():
        for parameter, array in zip(own, [*weights, np.zeros_like(weights[2])][:4], strict=True):
            parameter.copy_(torch.from_numpy(array))
    read = torch.from_numpy(x).requires_grad_()
    packed, state = layer(pack_padded_sequence(read, torch.tensor(lengths)))
    outputs = pad_packed_sequence(packed, total_length=TIME)[0][..., -UNITS:]
    last = (state[0] if cell == "lstm" else state)[-1]
    loss = (outputs * torch.from_numpy(factors)).sum() + (last * torch.from_numpy(of_last)).sum()
    gradients = torch.autograd.grad(loss, [read, *own[: len(weights)]])
    return [one.detach().numpy() for one in (outputs, last, *gradients)]


def keras_masked(cell: Cell, activation: Activation, lengths: Sequence[int], reverse: bool) -> tuple[Any, Any]:
    """Return outputs and last states of the layer of Keras with a mask."""
    import keras

    x, weights, _, _ = drawn(cell, lengths)
    kinds = {"simple_rnn": keras.layers.SimpleRNN, "lstm": keras.layers.LSTM, "gru": keras.layers.GRU}
    layer = kinds[cell](
        UNITS,
        activation=activation,
        return_sequences=True,
        return_state=True,
        go_backwards=reverse,
        zero_output_for_mask=True,
    )
    layer.build((len(lengths), TIME, INPUTS))
    if cell == "gru":  # the gates in the order z, r, n
        weights = [np.concatenate([w[UNITS : 2 * UNITS], w[:UNITS], w[2 * UNITS :]]) for w in weights]
        layer.set_weights([weights[0].T, weights[1].T, np.stack(weights[2:])])
    else:
        layer.set_weights([weights[0].T, weights[1].T, weights[2]])
    mask = np.arange(TIME) < np.array(lengths)[:, None]
    outputs, last, *_ = layer(x.transpose(1, 0, 2), mask=mask)
    outputs = np.asarray(outputs)[:, ::-1] if reverse else np.asarray(outputs)
    return outputs.transpose(1, 0, 2), np.asarray(last)


@EACH
@LENGTHS
@WAYS
def test_both_frameworks_compute_one_layer(
    cell: Cell, activation: Activation, lengths: list[int], reverse: bool
) -> None:
    ours, theirs = (run(cell, activation, lengths, reverse) for run in (by_torch, by_tensorflow))
    for found, wanted in zip(theirs, ours, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@EACH
@LENGTHS
@WAYS
@pytest.mark.parametrize("run", [by_torch, by_tensorflow])
def test_products_in_bfloat16_are_near_those_of_float32(
    run: Any, cell: Cell, activation: Activation, lengths: list[int], reverse: bool
) -> None:
    exact, rounded = (run(cell, activation, lengths, reverse, precision) for precision in ("float32", "bfloat16"))
    assert any((found != wanted).any() for found, wanted in zip(rounded, exact, strict=True))
    for found, wanted in zip(rounded, exact, strict=True):  # single values jump where a relu begins
        assert np.linalg.norm(found - wanted) < 0.1 * np.linalg.norm(wanted)


@pytest.mark.parametrize(("cell", "activation"), OF_TORCH, ids=[f"{cell}-{act}" for cell, act in OF_TORCH])
@LENGTHS
@WAYS
def test_outputs_and_gradients_are_those_of_torch(
    cell: Cell, activation: Activation, lengths: list[int], reverse: bool
) -> None:
    ours, theirs = by_torch(cell, activation, lengths, reverse), torch_packed(cell, activation, lengths, reverse)
    for found, wanted in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@EACH
@LENGTHS
@WAYS
def test_outputs_are_those_of_keras(cell: Cell, activation: Activation, lengths: list[int], reverse: bool) -> None:
    outputs, last = keras_masked(cell, activation, lengths, reverse)
    for run in (by_torch, by_tensorflow):
        found, state, *_ = run(cell, activation, lengths, reverse)
        np.testing.assert_allclose(found, outputs, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(state, last, rtol=1e-4, atol=1e-5)


@EACH
@LENGTHS
def test_gradients_of_the_recurrence_in_torch_are_autograds(
    cell: Cell, activation: Activation, lengths: list[int]
) -> None:
    import torch

    from worker.training.backends import torch_cells

    function = {"simple_rnn": torch_cells.SimpleRnn, "lstm": torch_cells.Lstm, "gru": torch_cells.Gru}[cell]
    x, weights, _, _ = drawn(cell, lengths)
    values = [torch.from_numpy(one).double().requires_grad_() for one in (x, *weights)]
    state, sizes = torch.zeros(len(lengths), UNITS, dtype=torch.float64), RightPadded(np.array(lengths), TIME).sizes
    assert torch.autograd.gradcheck(
        lambda x, *w: function.apply(x, state, *w, sizes, activation == "relu"), values, atol=1e-4
    )


@EACH
def test_repeated_steps_give_the_same_bits(cell: Cell, activation: Activation) -> None:
    for run in (by_torch, by_tensorflow):
        first, second = (run(cell, activation, RAGGED, True) for _ in range(2))
        for one, other in zip(first, second, strict=True):
            np.testing.assert_array_equal(one, other)


@EACH
@WAYS
def test_what_stands_at_padding_does_not_matter(cell: Cell, activation: Activation, reverse: bool) -> None:
    """The values there, however large, and the gradient that comes back to the outputs there."""
    import torch

    from worker.training.backends.torch_recurrent import Padded, recurrent

    x, weights, factors, _ = drawn(cell, RAGGED)
    here = RightPadded(np.array(RAGGED), TIME).mask[..., None]
    batch = Padded.of(RightPadded(np.array(RAGGED), TIME), torch.device("cpu"))
    found = []
    for at_padding in (0.0, 1e6):
        values = [
            torch.from_numpy(one).requires_grad_() for one in (np.where(here, x, at_padding).astype("f"), *weights)
        ]
        outputs, _ = recurrent(values[0], batch, values[1:], cell=cell, activation=activation, reverse=reverse)
        loss = (outputs * torch.from_numpy(np.where(here, factors, at_padding).astype("f"))).sum()
        found.append([outputs.detach(), *torch.autograd.grad(loss, values)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)
    assert not found[0][0][~torch.from_numpy(here[..., 0])].any()


@pytest.mark.parametrize("cell", ["simple_rnn", "lstm", "gru"])
def test_layers_begin_as_those_of_keras(cell: Cell) -> None:
    """Columns of the recurrence are orthonormal, inputs within Glorot's limit over all gates, biases 0 but one."""
    draw, units = generator(0, "init", 0), 40
    own = {
        name: initial(draw, cell, name, shape)
        for name, shape in shapes(cell, 30, [units, units], bidirectional=True).items()
    }
    assert own.keys() == {f"rnn{i}.{way}{part}" for i in (0, 1) for way in ("", "reverse.") for part in parts(cell)}
    recurrence = own["rnn1.reverse.weight_hh"]
    np.testing.assert_allclose(recurrence.T @ recurrence, np.eye(units), atol=1e-5)
    limit = (6 / (2 * units + GATES[cell] * units)) ** 0.5
    assert own["rnn1.weight_ih"].shape == (GATES[cell] * units, 2 * units)
    assert 0.98 * limit < np.abs(own["rnn1.weight_ih"]).max() <= limit
    forget = slice(units, 2 * units) if cell == "lstm" else slice(0)
    wanted = np.zeros(GATES[cell] * units)
    wanted[forget] = 1
    np.testing.assert_array_equal(own["rnn0.bias_ih"], wanted)


def test_rows_that_are_not_sorted_or_empty_are_refused() -> None:
    lengths = np.array([2, 5, 1, 5])
    order = longest_first(lengths)
    assert order.tolist() == [1, 3, 0, 2]
    assert RightPadded(lengths[order], 5).sizes == [4, 3, 2, 2, 2]
    for wrong in ([2, 5], [3, 0], [6, 1], []):
        with pytest.raises(ValueError, match="must be"):
            RightPadded(np.array(wrong, np.int64), 5)

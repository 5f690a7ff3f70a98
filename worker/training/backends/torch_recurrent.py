"""Recurrent layers in torch: `worker.training.numerics.recurrent` says what they compute.

On a GPU, tanh cells are cuDNN's; on a CPU, tanh LSTMs are torch's own, which oneDNN computes. All others have
hand-written gradients (`torch_cells`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from worker.training.backends import torch_support as support
from worker.training.backends.torch_cells import Gru, Lstm, SimpleRnn
from worker.training.numerics.recurrent import Activation, Cell, RightPadded


@dataclass(frozen=True)
class Padded:
    """A right-padded batch [time, batch] on a device."""

    #: Rows with a token at each step.
    sizes: list[int]
    #: Places of the rows reversed, and where there is padding [time, batch, 1]; None in a batch without padding.
    reversal: Tensor | None
    padding: Tensor | None
    #: The place of each row's last token.
    last: Tensor

    @classmethod
    def of(cls, batch: RightPadded, device: torch.device) -> Padded:
        """Copy what the layers need of a batch to the device, without a sync."""
        last = support.send(batch.last, device)
        if batch.full:
            return cls(batch.sizes, None, None, last)
        padding = support.send(~batch.mask[..., None], device)
        return cls(batch.sizes, support.send(batch.reversal, device), padding, last)


def recurrent(
    x: Tensor,
    batch: Padded,
    weights: Sequence[Tensor],
    *,
    cell: Cell,
    activation: Activation = "tanh",
    reverse: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return the outputs [time, batch, h] of one direction, 0 at padding, and each row's state after its last token.

    x is [time, batch, in]; weights are those of `parts(cell)`; all have one dtype. States begin at 0. With `reverse`
    each row is read from its last token to its first, and the state [batch, h] is the one after its first token.
    """
    outputs = _run(_reversed(x, batch) if reverse else x, batch, weights, cell, activation)
    last = outputs.flatten(0, 1).index_select(0, batch.last) if batch.padding is not None else outputs[-1]
    return _reversed(outputs, batch) if reverse else outputs, last


def gains_from_bfloat16(device: torch.device, cell: Cell, activation: Activation) -> bool:
    """Return whether a layer is faster in bfloat16 on a device that computes in it natively.

    On a CPU not where the steps are many small operations and hardly a product: those of `simple_rnn` and relu cells
    took 1.3 to 1.7 times as long.
    """
    return device.type != "cpu" or (activation == "tanh" and cell != "simple_rnn")


def _run(x: Tensor, batch: Padded, weights: Sequence[Tensor], cell: Cell, activation: Activation) -> Tensor:
    if activation == "tanh" and (cell == "lstm" or not support.on_host(x)):
        outputs = _own_layer(x, weights, cell)
        return outputs if batch.padding is None else outputs.masked_fill(batch.padding, 0)
    start, relu = x.new_zeros(x.shape[1], weights[1].shape[1]), activation == "relu"
    function: Any = {"simple_rnn": SimpleRnn, "lstm": Lstm, "gru": Gru}[cell]
    return cast("Tensor", function.apply(x, start, *weights, batch.sizes, relu))


def _own_layer(x: Tensor, weights: Sequence[Tensor], cell: Cell) -> Tensor:
    """Return the outputs of torch's own layer, also at padding: there a tanh cell has finite values."""
    both = list(weights) if cell == "gru" else [*weights, torch.zeros_like(weights[2])]
    start = x.new_zeros(1, x.shape[1], weights[1].shape[1])
    return _layer(cell, x, (start, start) if cell == "lstm" else start, both)


def _layer(cell: Cell, x: Tensor, states: Any, weights: Sequence[Tensor]) -> Tensor:
    function: Any = {"simple_rnn": torch._VF.rnn_tanh, "lstm": torch._VF.lstm, "gru": torch._VF.gru}[cell]
    if support.on_host(x):
        return cast("Tensor", function(x, states, list(weights), True, 1, 0.0, True, False, False)[0])
    training = torch.is_grad_enabled()  # else cuDNN keeps nothing for a backward pass
    return cast("Tensor", function(x, states, _side_by_side(weights), True, 1, 0.0, training, False, False)[0])


def _side_by_side(weights: Sequence[Tensor]) -> list[Tensor]:
    """Return the weights of a layer as parts of one piece of memory, in the order of cuDNN.

    Otherwise torch copies them to one at each call, and says so in a warning.
    """
    memory = torch.cat([weight.flatten() for weight in weights])
    parts = torch.split(memory, [weight.numel() for weight in weights])
    return [part.view_as(weight) for part, weight in zip(parts, weights, strict=True)]


def gru(inputs: Tensor, state: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Return outputs [time, batch, h] of a tanh GRU for inputs without padding and a first state [batch, h].

    All have one dtype. Uses cuDNN on a GPU. No gradient flows into `state`.
    """
    if not support.on_host(inputs):
        return _layer("gru", inputs, state[None], weights)
    sizes = [inputs.shape[1]] * len(inputs)
    return cast("Tensor", Gru.apply(inputs, state, *weights, sizes, False))  # type: ignore[no-untyped-call]


def _reversed(x: Tensor, batch: Padded) -> Tensor:
    if batch.reversal is None:
        return x.flip(0)
    return cast("Tensor", _Reversed.apply(x, batch.reversal))  # type: ignore[no-untyped-call]


class _Reversed(torch.autograd.Function):
    """Each row's tokens in reverse: the gradient is a selection too, where autograd would add to zeros."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, reversal: Tensor) -> Tensor:
        ctx.save_for_backward(reversal)
        return x.flatten(0, 1).index_select(0, reversal).view_as(x)

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor, None]:
        (reversal,) = ctx.saved_tensors
        return d_out.flatten(0, 1).index_select(0, reversal).view_as(d_out), None

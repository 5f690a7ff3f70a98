"""Recurrences in torch with hand-written gradients, one autograd function for each cell.

Their backward pass has a few small operations per time step, and the weights' gradients are one product over all steps;
autograd's has over a dozen and one product each. `worker.training.numerics.recurrent` has the equations.

Each takes x [time, batch, in], a first state [batch, h], the cell's weights, the number of rows that have a token at
each step, and whether the activation is relu; it returns outputs [time, batch, h], 0 at padding. No gradient flows into
the first state.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

#: Gradients by x, the state (none), the weights, and the two settings (none).
Gradients = tuple[Tensor | None, ...]


class SimpleRnn(torch.autograd.Function):
    """The recurrence of Elman (1990)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, state: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, sizes: list[int], relu: bool
    ) -> Tensor:
        read, h = _product(x, w_ih, b_ih), w_hh.shape[1]
        states = _states(x, state, h, sizes)
        w_t = w_hh.t()
        for a, before, after in zip(
            _active(read, sizes), _active(states[:-1], sizes), _active(states[1:], sizes), strict=True
        ):
            _activate(torch.addmm(a, before, w_t, out=after), relu)
        ctx.save_for_backward(x, w_ih, w_hh, states)
        ctx.sizes, ctx.relu = sizes, relu
        return states[1:]

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> Gradients:
        x, w_ih, w_hh, states = ctx.saved_tensors
        sizes: list[int] = ctx.sizes
        slopes = _slope(states[1:], ctx.relu)
        d_state, d_read = d_out.clone(), _empty(x, sizes, w_hh.shape[1])
        carried, reads, factors = (_active(part, sizes) for part in (d_state, d_read, slopes))
        for t in range(len(sizes) - 1, -1, -1):
            torch.mul(carried[t], factors[t], out=reads[t])
            if t:
                d_state[t - 1, : sizes[t]].addmm_(reads[t], w_hh)
        flat = d_read.flatten(0, 1)
        d_w_hh = flat.t() @ states[:-1].flatten(0, 1)
        return _d_x(ctx, flat, x, w_ih), None, flat.t() @ x.flatten(0, 1), d_w_hh, column_sums(flat), None, None


class Lstm(torch.autograd.Function):
    """LSTM (Hochreiter & Schmidhuber 1997). Inside, gates are in the order g, i, f, o."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, state: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, sizes: list[int], relu: bool
    ) -> Tensor:
        h = w_hh.shape[1]
        w_ih, w_hh, b_ih = (_g_first(part, h) for part in (w_ih, w_hh, b_ih))
        read, gates, states = _product(x, w_ih, b_ih), _empty(x, sizes, 4 * h), _states(x, state, h, sizes)
        # In bfloat16, the sum over all tokens needs the digits of float32.
        cells = x.new_zeros(len(x) + 1, x.shape[1], h, dtype=torch.promote_types(x.dtype, torch.float32))
        shown = _empty(x, sizes, h)
        w_t = w_hh.t()
        per_step = (read, gates, shown, cells[:-1], cells[1:], states[:-1], states[1:])
        for a, g, s, c, new_c, before, after in zip(*(_active(part, sizes) for part in per_step), strict=True):
            torch.addmm(a, before, w_t, out=g)
            _activate(g[:, :h], relu)
            g[:, h:].sigmoid_()
            torch.mul(c, g[:, 2 * h : 3 * h], out=new_c).addcmul_(g[:, h : 2 * h], g[:, :h])
            torch.mul(_activated(new_c, relu, s), g[:, 3 * h :], out=after)
        ctx.save_for_backward(x, w_ih, w_hh, gates, shown, cells, states)
        ctx.sizes, ctx.relu = sizes, relu
        return states[1:]

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> Gradients:
        x, w_ih, w_hh, gates, shown, cells, states = ctx.saved_tensors
        sizes: list[int] = ctx.sizes
        h, f = w_hh.shape[1], gates[..., 2 * w_hh.shape[1] : 3 * w_hh.shape[1]]
        by_cell, by_state, to_cell = _lstm_slopes(gates, shown, cells, ctx.relu)
        d_state, d_gates = d_out.clone(), _empty(x, sizes, 4 * h)
        d_cell = torch.zeros_like(cells[0])
        parts = [_active(part, sizes) for part in (d_state, d_gates, by_cell, by_state, to_cell, f)]
        for t in range(len(sizes) - 1, -1, -1):
            d, gate, of_cell, of_state, into_cell, kept = (part[t] for part in parts)
            c = d_cell[: sizes[t]].addcmul_(d, into_cell)
            torch.mul(c[:, None], of_cell, out=gate[:, : 3 * h].view(-1, 3, h))
            torch.mul(d, of_state, out=gate[:, 3 * h :])
            c.mul_(kept)
            if t:
                d_state[t - 1, : sizes[t]].addmm_(gate, w_hh)
        flat = d_gates.flatten(0, 1)
        grads = (flat.t() @ x.flatten(0, 1), flat.t() @ states[:-1].flatten(0, 1), column_sums(flat))
        return _d_x(ctx, flat, x, w_ih), None, *(_g_third(part, h) for part in grads), None, None


def _lstm_slopes(gates: Tensor, shown: Tensor, cells: Tensor, relu: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return the derivatives that the backward loop needs, for all time steps at once.

    They are those of the new cell by g, i, f before their activations [t, b, 3, h], of the new state by o before its
    sigmoid, and of the new state by the new cell, both [t, b, h].
    """
    time, batch, width = gates.shape
    g, i, f, o = torch.split(gates, width // 4, -1)
    by_cell = gates.new_empty(time, batch, 3, width // 4)
    torch.mul(_slope(g, relu), i, out=by_cell[:, :, 0])
    torch.mul((1 - i).mul_(i), g, out=by_cell[:, :, 1])
    torch.mul((1 - f).mul_(f), cells[:-1].to(f.dtype), out=by_cell[:, :, 2])
    return by_cell, (1 - o).mul_(o).mul_(shown), _slope(shown, relu).mul_(o)


def _g_first(part: Tensor, h: int) -> Tensor:
    """Convert rows in the order i, f, g, o to g, i, f, o, in which both loops find what they need side by side."""
    return torch.cat([part[2 * h : 3 * h], part[: 2 * h], part[3 * h :]])


def _g_third(part: Tensor, h: int) -> Tensor:
    return torch.cat([part[h : 3 * h], part[:h], part[3 * h :]])


class Gru(torch.autograd.Function):
    """GRU (Cho et al. 2014) in the "reset after" form."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        state: Tensor,
        w_ih: Tensor,
        w_hh: Tensor,
        b_ih: Tensor,
        b_hh: Tensor,
        sizes: list[int],
        relu: bool,
    ) -> Tensor:
        h = w_hh.shape[1]
        read, kept = _product(x, w_ih, b_ih), _empty(x, sizes, 3 * h)
        rz, n, states = _empty(x, sizes, 2 * h), _empty(x, sizes, h), _states(x, state, h, sizes)
        w_t = w_hh.t()
        per_step = (read, kept, rz, n, states[:-1], states[1:])
        for a, k, g, c, before, after in zip(*(_active(part, sizes) for part in per_step), strict=True):
            torch.addmm(b_hh, before, w_t, out=k)
            torch.add(a[:, : 2 * h], k[:, : 2 * h], out=g).sigmoid_()
            _activate(torch.addcmul(a[:, 2 * h :], g[:, :h], k[:, 2 * h :], out=c), relu)
            torch.lerp(c, before, g[:, h:], out=after)
        ctx.save_for_backward(x, w_ih, w_hh, kept, rz, n, states)
        ctx.sizes, ctx.relu = sizes, relu
        return states[1:]

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> Gradients:
        x, w_ih, w_hh, kept, rz, n, states = ctx.saved_tensors
        sizes: list[int] = ctx.sizes
        h = w_hh.shape[1]
        d_n, gates = _gru_slopes(kept, rz, n, states, ctx.relu)
        d_kept = _empty(x, sizes, 3 * h)  # by the recurrent product
        d_state = d_out.clone()
        parts = [_active(part, sizes) for part in (d_state, gates, d_kept, rz[..., h:])]
        for t in range(len(sizes) - 1, -1, -1):
            d, slopes, by_kept, z = (part[t] for part in parts)
            torch.mul(d[:, None], slopes, out=by_kept.view(-1, 3, h))
            if t:
                d_state[t - 1, : sizes[t]].addcmul_(d, z).addmm_(by_kept, w_hh)
        flat = d_kept.flatten(0, 1)
        d_w_hh, d_b_hh = flat.t() @ states[:-1].flatten(0, 1), column_sums(flat)
        read = _active(d_kept[..., 2 * h :], sizes)  # from here on: by the input's product
        for part, d, slope in zip(read, parts[0], _active(d_n, sizes), strict=True):
            torch.mul(d, slope, out=part)
        d_w_ih, d_b_ih = flat.t() @ x.flatten(0, 1), column_sums(flat)
        return _d_x(ctx, flat, x, w_ih), None, d_w_ih, d_w_hh, d_b_ih, d_b_hh, None, None


def _gru_slopes(kept: Tensor, rz: Tensor, n: Tensor, states: Tensor, relu: bool) -> tuple[Tensor, Tensor]:
    """Return the derivatives that the backward loop needs, for all time steps at once.

    They are those of the new state by n before its activation [t, b, h], and by the recurrent product's r, z, n parts
    [t, b, 3, h].
    """
    time, batch, h = n.shape
    r, z = rz[..., :h], rz[..., h:]
    gates = n.new_empty(time, batch, 3, h)
    d_n = _slope(n, relu).mul_(1 - z)
    torch.mul(d_n, r, out=gates[:, :, 2])
    torch.mul(gates[:, :, 2] * (1 - r), kept[..., 2 * h :], out=gates[:, :, 0])
    torch.mul((states[:-1] - n).mul_(z), 1 - z, out=gates[:, :, 1])
    return d_n, gates


# -- shared by all --------------------------------------------------------------------------------


def _active(x: Tensor, sizes: list[int]) -> list[Tensor]:
    """Return the rows of each step that have a token."""
    if sizes[-1] == x.shape[1]:
        return list(x.unbind(0))
    return [part[:n] for part, n in zip(x.unbind(0), sizes, strict=True)]


def _empty(x: Tensor, sizes: list[int], width: int) -> Tensor:
    """Return memory for [time, batch, width] that the loops fill; at padding it is 0."""
    make = x.new_empty if sizes[-1] == x.shape[1] else x.new_zeros
    return make(x.shape[0], x.shape[1], width)


def _states(x: Tensor, first: Tensor, h: int, sizes: list[int]) -> Tensor:
    """Return memory for the state before the first step and after each step, [time + 1, batch, h]."""
    full = sizes[-1] == x.shape[1]
    states = (x.new_empty if full else x.new_zeros)(x.shape[0] + 1, x.shape[1], h)
    states[0] = first
    return states


def _product(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    time, batch, _ = x.shape
    return torch.addmm(bias, x.flatten(0, 1), weight.t()).view(time, batch, -1)


def _d_x(ctx: Any, flat: Tensor, x: Tensor, w_ih: Tensor) -> Tensor | None:
    return (flat @ w_ih).view_as(x) if ctx.needs_input_grad[0] else None


def _activate(x: Tensor, relu: bool) -> Tensor:
    """Apply the activation in place."""
    return x.relu_() if relu else x.tanh_()


def _activated(x: Tensor, relu: bool, out: Tensor) -> Tensor:
    return torch.clamp_min(x.to(out.dtype), 0, out=out) if relu else torch.tanh(x, out=out)


def _slope(activated: Tensor, relu: bool) -> Tensor:
    """Return the derivative of the activation, from its result."""
    return (activated > 0).to(activated.dtype) if relu else 1 - activated * activated


def column_sums(flat: Tensor) -> Tensor:
    """Sum columns by a product with ones, which accumulates in float32 for every dtype.

    `sum` would first copy everything to float32.
    """
    return torch.mm(flat.new_ones(1, len(flat)), flat)[0]

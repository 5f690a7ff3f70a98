"""Recurrence and cross-entropy in torch with hand-written gradients.

`gru` is the same function as `torch.nn.GRU` (one layer). Its hand-written backward pass has three small operations per
time step, and the weights' gradients are one product over all steps; autograd's has over a dozen and one product each.

`chunked_cross_entropy` never holds the logits of all positions: with a vocabulary over 10,000 they would be by far the
largest tensor of the step, and on a CPU fetching them from memory would cost more than the products.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

#: Logits computed at once (numbers). Too low: weights are fetched too often. Too high: logits leave the cache.
CHUNK_LOGITS = 16_000_000


#: Numbers from 0 on are in the order of their bits, whose largest is found in half the time in bfloat16.
_BITS = {torch.bfloat16: torch.int16, torch.float32: torch.int32, torch.float64: torch.int64}


def gru(
    inputs: Tensor, state: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor, bias_hh: Tensor
) -> Tensor:
    """Return outputs [time, batch, h] for inputs [time, batch, in] and a first state [batch, h].

    All have one dtype. Uses cuDNN on a GPU. No gradient flows into `state`.
    """
    if inputs.is_cuda:
        weights = [weight_ih, weight_hh, bias_ih, bias_hh]
        outputs, _ = torch._VF.gru(inputs, state[None], weights, True, 1, 0.0, True, False, False)
        return outputs
    return cast("Tensor", _Gru.apply(inputs, state, weight_ih, weight_hh, bias_ih, bias_hh))  # type: ignore[no-untyped-call]


class _Gru(torch.autograd.Function):
    """GRU (Cho et al. 2014) in the form of `worker.families.gru_lm.weights`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, state: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
        time, batch, width = x.shape
        h = w_hh.shape[1]
        read = torch.addmm(b_ih, x.reshape(time * batch, width), w_ih.t()).view(time, batch, 3 * h)
        kept = torch.empty_like(read)
        rz, n = read.new_empty(time, batch, 2 * h), read.new_empty(time, batch, h)
        states = read.new_empty(time + 1, batch, h)
        states[0] = state
        w_t = w_hh.t()
        for a, k, g, c, before, after in zip(read, kept, rz, n, states[:-1], states[1:], strict=True):
            torch.addmm(b_hh, before, w_t, out=k)
            torch.add(a[:, : 2 * h], k[:, : 2 * h], out=g).sigmoid_()
            torch.addcmul(a[:, 2 * h :], g[:, :h], k[:, 2 * h :], out=c).tanh_()
            torch.lerp(c, before, g[:, h:], out=after)
        ctx.save_for_backward(x, w_ih, w_hh, kept, rz, n, states)
        return states[1:]

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
        x, w_ih, w_hh, kept, rz, n, states = ctx.saved_tensors
        time, batch, width = x.shape
        h = w_hh.shape[1]
        d_n, gates = _slopes(kept, rz, n, states)
        z = rz[..., h:]
        d_kept = torch.empty_like(gates)  # by the recurrent product
        d_state = torch.empty_like(n)
        d_state[-1] = d_out[-1]
        for t in range(time - 1, -1, -1):
            torch.mul(d_state[t][:, None], gates[t], out=d_kept[t])
            if t:
                carried = torch.addcmul(d_out[t - 1], d_state[t], z[t])
                torch.addmm(carried, d_kept[t].view(batch, 3 * h), w_hh, out=d_state[t - 1])
        flat = d_kept.view(time * batch, 3 * h)
        d_w_hh, d_b_hh = flat.t() @ states[:-1].reshape(time * batch, h), _column_sums(flat)
        d_kept[:, :, 2] = d_state * d_n  # from here on: by the input's product
        d_w_ih, d_b_ih = flat.t() @ x.reshape(time * batch, width), _column_sums(flat)
        d_x = (flat @ w_ih).view(time, batch, width) if ctx.needs_input_grad[0] else None
        return d_x, None, d_w_ih, d_w_hh, d_b_ih, d_b_hh


def _slopes(kept: Tensor, rz: Tensor, n: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
    """Return the derivatives that the backward loop needs, for all time steps at once.

    They are those of the new state by n before its tanh [t, b, h], and by the recurrent product's r, z, n parts [t, b,
    3, h].
    """
    time, batch, h = n.shape
    r, z = rz[..., :h], rz[..., h:]
    gates = n.new_empty(time, batch, 3, h)
    d_n = (1 - z).mul_(1 - n * n)
    torch.mul(d_n, r, out=gates[:, :, 2])
    torch.mul(gates[:, :, 2] * (1 - r), kept[..., 2 * h :], out=gates[:, :, 0])
    torch.mul((states[:-1] - n).mul_(z), 1 - z, out=gates[:, :, 1])
    return d_n, gates


def _column_sums(flat: Tensor) -> Tensor:
    """Sum columns by a product with ones, which accumulates in float32 for every dtype.

    `sum` would first copy everything to float32.
    """
    return torch.mm(flat.new_ones(1, len(flat)), flat)[0]


def chunked_cross_entropy(hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean of -log softmax(hidden @ weight.T + bias)[target], and how many targets were the most likely.

    The gradients are computed with the mean. hidden [n, h] has any float dtype, in which the products are computed;
    weight [v, h] and bias [v] are float32; targets int64 [n].
    """
    found = _ChunkedCrossEntropy.apply(hidden, weight, bias, targets)  # type: ignore[no-untyped-call]
    return cast("tuple[Tensor, Tensor]", found)


def chunks(n: int, vocabulary: int) -> list[slice]:
    """Return slices of n positions that have about CHUNK_LOGITS logits each."""
    size = max(1, CHUNK_LOGITS // vocabulary)
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        n, vocabulary = len(hidden), len(weight)
        w, b = weight.to(hidden.dtype), bias.to(hidden.dtype)
        loss, hits = torch.zeros((), device=hidden.device), torch.zeros((), dtype=torch.int64, device=hidden.device)
        d_hidden, d_weight, d_bias = torch.empty_like(hidden), torch.zeros_like(weight), torch.zeros_like(bias)
        slices = chunks(n, vocabulary)
        logits = hidden.new_empty(slices[0].stop, vocabulary)
        d_w = torch.empty_like(w)
        rows = torch.arange(slices[0].stop, device=hidden.device) * vocabulary
        bits = _BITS[hidden.dtype]
        for part in slices:
            x, size = hidden[part], part.stop - part.start
            p = torch.addmm(b, x, w.t(), out=logits[:size])
            torch.softmax(p, -1, out=p)
            flat, at = p.view(-1), rows[:size] + targets[part]
            hit = flat[at]
            hits += (hit.view(bits) >= p.view(bits).amax(1)).sum()
            loss -= hit.float().clamp_min(1e-38).log_().sum()
            flat[at] = hit - 1  # p is now the gradient of this chunk's summed loss by its logits
            torch.mm(p, w, out=d_hidden[part])
            d_weight += torch.mm(p.t(), x, out=d_w)
            d_bias += _column_sums(p)
        scale = 1 / n
        ctx.save_for_backward(d_hidden.mul_(scale), d_weight.mul_(scale), d_bias.mul_(scale))
        ctx.mark_non_differentiable(hits)
        return loss * scale, hits

    @staticmethod
    def backward(ctx: Any, d_loss: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        d_hidden, d_weight, d_bias = ctx.saved_tensors
        return d_hidden * d_loss.to(d_hidden.dtype), d_weight * d_loss, d_bias * d_loss, None

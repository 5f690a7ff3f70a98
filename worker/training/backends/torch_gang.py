"""A gang in torch: gradients, sums and decisions go through `torch.distributed`.

The gradient of a step is that of the mean over its rows: each rank's mean counts as much as the rank has rows.
Gradients and the loss travel in one message, so all ranks see the same loss and stop at the same step.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from nightshift.families.learner import Array
from worker.training.backends import torch_support as support
from worker.training.gang import Rows, slices, totals_of

T = TypeVar("T")


class TorchGang:
    """The ranks of the process group; decisions travel by gloo, so that they never wait for a GPU."""

    def __init__(self) -> None:
        self.rank, self.size, self.weight = dist.get_rank(), dist.get_world_size(), 1.0
        self._host = dist.new_group(backend="gloo") if dist.get_backend() != "gloo" else None

    def mine(self, rows: Rows) -> Rows:
        return slices(rows, self.size)[self.rank]

    def agree(self, value: T) -> T:
        box: list[Any] = [value]
        dist.broadcast_object_list(box, src=0, group=self._host)
        agreed: T = box[0]
        return agreed

    def average(self, weights: Iterable[Tensor], loss: Tensor) -> Tensor:
        """Replace the gradients of these weights by the gang's, and return the gang's loss."""
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        flat = torch.cat([loss.detach().float().reshape(1), *(gradient.reshape(-1) for gradient in gradients)])
        dist.all_reduce(flat.mul_(self.weight))
        mean, *parts = torch.split(flat, [1, *(gradient.numel() for gradient in gradients)])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view(gradient.shape))
        return mean.reshape(())

    def total(self, sums: Tensor) -> Tensor:
        """Return the sum of all ranks' sums."""
        whole = sums.clone()
        dist.all_reduce(whole)
        return whole

    def parts(self, sums: Tensor) -> dict[str, Array]:
        """Return all ranks' sums for a checkpoint."""
        every = [torch.empty_like(sums) for _ in range(self.size)]
        dist.all_gather(every, sums)
        return totals_of(support.to_numpy(torch.stack(every).sum(0)), [support.to_numpy(one) for one in every])


def parts(gang: Any, sums: Tensor) -> dict[str, Array]:
    """Return the sums of a learner for a checkpoint."""
    return gang.parts(sums) if isinstance(gang, TorchGang) else {"totals": support.to_numpy(sums)}

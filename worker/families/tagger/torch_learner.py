"""The tagger in torch: rows cut to the longest of a batch, recurrences that skip padding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nightshift.families.learner import Array, LearnerSetup
from worker.families.tagger.learner_base import Batch, TaggerLearner
from worker.families.tagger.weights import initial
from worker.training.backends import torch_support as support
from worker.training.backends.torch_base import TorchLearner
from worker.training.backends.torch_recurrent import Padded, recurrent
from worker.training.numerics.precision import choose
from worker.training.numerics.recurrent import directions, parts


class TorchTagger(TaggerLearner, TorchLearner):
    """A tagger in torch; the twin of `TensorflowTagger`."""

    def __init__(self, setup: LearnerSetup) -> None:
        super().__init__(setup)
        native = support.native_bfloat16(self.device)
        self.computed = torch.bfloat16 if choose(self.training.precision, native) == "bfloat16" else torch.float32
        self._begin(initial(self.model, self.vocabulary, len(self.names), self.training.seed))

    # -- the step ---------------------------------------------------------------------------------

    def train_step(self, rows: np.ndarray[Any, np.dtype[np.int64]], step: int) -> None:
        batch = self._batch(rows, step)
        masks = [support.send(mask, self.device) for mask in self._masks(step, len(rows))]
        logits = self._forward(batch, self.computed, masks)
        loss, correct, count = self._measured(logits, batch)
        self._descend(loss, step)
        means = torch.stack([loss.detach().double(), correct / count, self._count(1)])
        self.totals += means * len(rows)

    def _measured(self, logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor, int]:
        """Return the mean loss of the tokens, how many are correct, and how many there are."""
        tags = support.send(batch.tags.reshape(-1), self.device)
        loss = F.cross_entropy(logits, tags, ignore_index=-1)
        return loss, (logits.detach().argmax(1) == tags).sum().double(), int(batch.lengths.sum())

    # -- the network ------------------------------------------------------------------------------

    def _forward(self, batch: Batch, dtype: torch.dtype, masks: Sequence[Tensor] = ()) -> Tensor:
        """Return float32 logits [time * batch, tags]. `masks` are dropout's; none: evaluation."""
        padded, left = Padded.of(batch.padding, self.device), iter(masks)
        x = self._dropout(self._read(support.send(batch.tokens, self.device)).to(dtype), next(left, None))
        for i in range(len(self.model.units)):
            found = []
            for way, prefix in enumerate(directions(i, bidirectional=self.model.bidirectional)):
                weights = [self.tensors[prefix + part].to(dtype) for part in parts(self.model.cell)]
                found.append(recurrent(x, padded, weights, cell=self.model.cell, reverse=way == 1)[0])
            x = self._dropout(torch.cat(found, -1), next(left, None))
        weight, bias = (self.tensors[f"output.{part}"].to(dtype) for part in ("weight", "bias"))
        return F.linear(x.flatten(0, 1), weight, bias).float()

    def _read(self, tokens: Tensor) -> Tensor:
        """Return the embeddings of tokens [time, batch, features]: [time, batch, width]."""
        words = F.embedding((tokens[..., 0] - 1).clamp_min(0), self.tensors["embedding.weight"])
        if not self.model.affixes:
            return words
        return torch.cat([words, F.embedding(tokens[..., 1:], self.tensors["affixes.weight"]).flatten(2)], -1)

    def _dropout(self, x: Tensor, mask: Tensor | None) -> Tensor:
        return x if mask is None else x.masked_fill(mask, 0).mul(1 / (1 - self.model.dropout))

    # -- evaluation -------------------------------------------------------------------------------

    @torch.no_grad()
    def _judged(self, batch: Batch) -> tuple[Array, Array]:
        logits = self._forward(batch, self.computed)
        loss, correct, count = self._measured(logits, batch)
        sums = torch.stack([loss.double() * count, correct, self._count(count)])
        found = logits.argmax(1).view(batch.tags.shape)
        return found.t().cpu().numpy(), sums.cpu().numpy()

    @torch.no_grad()
    def _probabilities(self, batch: Batch) -> Callable[[], Array]:
        found = self._forward(batch, torch.float32).softmax(1).view(*batch.tags.shape, -1)
        return support.fetch(found.transpose(0, 1))


build = TorchTagger

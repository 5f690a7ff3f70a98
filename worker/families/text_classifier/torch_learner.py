"""The text classifier in torch: texts cut to the longest of a batch, recurrences that skip padding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nightshift.families.learner import Array, LearnerSetup
from worker.families.text_classifier.batches import Texts
from worker.families.text_classifier.learner_base import TextClassifierLearner
from worker.families.text_classifier.ngrams import SCALE
from worker.families.text_classifier.weights import initial
from worker.training.backends import torch_support as support
from worker.training.backends.torch_base import TorchLearner
from worker.training.backends.torch_recurrent import Padded, gains_from_bfloat16, recurrent
from worker.training.numerics.precision import choose
from worker.training.numerics.recurrent import directions, parts
from worker.training.words.encoder import NO_AFFIX


class TorchTextClassifier(TextClassifierLearner, TorchLearner):
    """A classifier of text in torch; the twin of `TensorflowTextClassifier`."""

    def __init__(self, setup: LearnerSetup) -> None:
        super().__init__(setup)
        model, precision = self.model, self.training.precision
        gains = gains_from_bfloat16(self.device, model.cell, model.activation)
        native = support.native_bfloat16(self.device) and gains
        self.computed = torch.bfloat16 if choose(precision, native) == "bfloat16" else torch.float32
        self._begin(initial(self.model, self.vocabulary, self.classes, self.training.seed))

    # -- the step ---------------------------------------------------------------------------------

    def train_step(self, rows: np.ndarray[Any, np.dtype[np.int64]], step: int) -> None:
        batch, labels = self._batch(rows, step)
        masks = [support.send(mask, self.device) for mask in self._masks(step, len(labels))]
        y = support.send(labels, self.device)
        logits = self._forward(batch, self.computed, masks)
        loss = self._loss(logits, y, self.model.label_smoothing)
        self._descend(loss, step)
        correct = self._correct(logits.detach(), y).double()
        self.totals += torch.stack([loss.detach().double() * len(y), correct, self._count(len(y))])

    # -- the network ------------------------------------------------------------------------------

    def _forward(self, batch: Texts, dtype: torch.dtype, masks: Sequence[Tensor] = ()) -> Tensor:
        """Return float32 logits. `masks` are dropout's; none: evaluation."""
        left = iter(masks)
        padded = Padded.of(batch.padding, self.device)
        x, last = self._recurrent(self._dropout(self._embedded(batch).to(dtype), left), padded, left)
        x = self._pool(x, last, batch, padded).float()
        for i in range(len(self.model.dense)):
            x = self._dropout(F.relu(self._linear(x, f"dense{i}")), left)
        logits = self._linear(x, "output")
        return logits + self._of_ngrams(batch, padded) if self.model.ngrams else logits

    def _of_ngrams(self, batch: Texts, padded: Padded) -> Tensor:
        """Return what the n-grams of each text add to its logits, [batch, logits]."""
        found = F.embedding(support.send(batch.ngrams, self.device), self.tensors["output.ngrams"]).sum(2)
        lengths = support.send(batch.lengths, self.device)[:, None]
        return _filled(found, padded, 0).sum(0) * (SCALE / lengths.float().sqrt())

    def _embedded(self, batch: Texts) -> Tensor:
        """Return the embeddings of the tokens [time, batch, width], each the sum of its word's and its affixes'."""
        words = F.embedding(support.send(batch.tokens, self.device), self.tensors["embedding.weight"])
        if not self.model.affixes:
            return words
        rows = support.send(batch.affixes, self.device)
        affixes = F.embedding(rows.clamp_min(0), self.tensors["affixes.weight"]).sum(2)
        return words + affixes.masked_fill(rows[..., :1] == NO_AFFIX, 0)

    def _recurrent(self, x: Tensor, padded: Padded, masks: Any) -> tuple[Tensor, Tensor | None]:
        """Return the outputs of the last recurrent layer (none: x) and the states after the last token."""
        last, model = None, self.model
        for i in range(len(model.units)):
            found = []
            for way, prefix in enumerate(directions(i, bidirectional=model.bidirectional)):
                weights = [self.tensors[prefix + part].to(x.dtype) for part in parts(model.cell)]
                found.append(
                    recurrent(x, padded, weights, cell=model.cell, activation=model.activation, reverse=way == 1)
                )
            outputs, states = zip(*found, strict=True)
            mask = next(masks, None)
            x, last = (self._drop(torch.cat(each, -1), mask) for each in (outputs, states))
        return x, last

    def _pool(self, x: Tensor, last: Tensor | None, batch: Texts, padded: Padded) -> Tensor:
        """Return one vector per text, [batch, width]."""
        match self.model.pooling:
            case "last":
                assert last is not None, "the spec refuses `last` without units"
                return last
            case "mean":
                lengths = support.send(batch.lengths, self.device)[:, None]
                return _filled(x, padded, 0).sum(0) / lengths
            case "max":
                return _filled(x, padded, -torch.inf).amax(0)
            case "attention":
                scores = self._linear(torch.tanh(self._linear(x, "attention")), "attention.context", bias=False)
                return (x * _filled(scores, padded, -torch.inf).softmax(0)).sum(0)

    def _linear(self, x: Tensor, name: str, *, bias: bool = True) -> Tensor:
        weight = self.tensors[f"{name}.weight" if bias else name].to(x.dtype)
        return F.linear(x, weight, self.tensors[f"{name}.bias"].to(x.dtype) if bias else None)

    def _dropout(self, x: Tensor, masks: Any) -> Tensor:
        return self._drop(x, next(masks, None))

    def _drop(self, x: Tensor, mask: Tensor | None) -> Tensor:
        return x if mask is None else x.masked_fill(mask, 0).mul(1 / (1 - self.model.dropout))

    def _loss(self, logits: Tensor, y: Tensor, smoothing: float = 0.0) -> Tensor:
        if self.model.output == "sigmoid":
            wanted = (1 - smoothing) * y.float() + smoothing / 2
            return F.binary_cross_entropy_with_logits(logits[:, 0], wanted)
        return F.cross_entropy(logits, y, label_smoothing=smoothing)

    def _correct(self, logits: Tensor, y: Tensor) -> Tensor:
        chosen = logits[:, 0] > 0 if self.model.output == "sigmoid" else logits.argmax(1)
        return (chosen == y).sum()

    # -- evaluation -------------------------------------------------------------------------------

    @torch.no_grad()
    def _totals_of(self, batch: Texts, y: Array) -> Tensor:
        labels = support.send(np.ascontiguousarray(y, np.int64), self.device)
        logits = self._forward(batch, self.computed)
        loss = self._loss(logits, labels).double() * len(labels)
        return torch.stack([loss, self._correct(logits, labels).double()])

    @torch.no_grad()
    def _probabilities(self, batch: Texts) -> Callable[[], Array]:
        logits = self._forward(batch, torch.float32)
        if self.model.output == "sigmoid":
            second = logits.sigmoid()
            return support.fetch(torch.cat([1 - second, second], 1))
        return support.fetch(logits.softmax(1))


def _filled(x: Tensor, padded: Padded, value: float) -> Tensor:
    """Return x [time, batch, width] with a value at padding."""
    return x if padded.padding is None else x.masked_fill(padded.padding, value)


build = TorchTextClassifier

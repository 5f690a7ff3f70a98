"""The GRU language model in torch: native bfloat16, hand-written recurrence and cross-entropy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nightshift.families.learner import Array, LearnerSetup
from worker.families.gru_lm.learner_base import GruLmLearner
from worker.families.gru_lm.torch_cross_entropy import chunked_cross_entropy, chunks
from worker.families.gru_lm.weights import initial
from worker.training.backends import torch_support as support
from worker.training.backends.torch_base import TorchLearner
from worker.training.backends.torch_recurrent import gru
from worker.training.numerics.data_order import rng_seed
from worker.training.numerics.dropout import dropout_mask
from worker.training.numerics.norms import NORM_EPS
from worker.training.numerics.perplexity import with_perplexity
from worker.training.numerics.precision import choose

#: The recurrent state between two pieces of text: one [batch, h] per layer.
State = list[Tensor]


class TorchGruLm(GruLmLearner, TorchLearner):
    """A GRU language model in torch; the twin of `TensorflowGruLm`."""

    def __init__(self, setup: LearnerSetup) -> None:
        super().__init__(setup)
        native = support.native_bfloat16(self.device)
        self.computed = torch.bfloat16 if choose(self.training.precision, native) == "bfloat16" else torch.float32
        self._begin(initial(self.model, self.vocabulary, self.training.seed))

    # -- the step ---------------------------------------------------------------------------------

    def train_step(self, rows: np.ndarray[Any, np.dtype[np.int64]], step: int) -> None:
        read, targets = map(self._tokens, self._read_and_predicted(rows, step))
        hidden, _ = self._hidden(read, None, self.computed, step)
        loss, hits = chunked_cross_entropy(hidden.flatten(0, 1), *self._output(), targets.flatten())
        self._descend(loss, step)
        n = targets.numel()
        self.totals += torch.stack([loss.detach().double() * n, hits.double(), self._count(n)])

    def _tokens(self, tokens: Array) -> Tensor:
        """Convert [batch, time] of any integer type to int64 [time, batch] on the device, without a sync."""
        return support.send(np.ascontiguousarray(tokens.T, np.int64), self.device)

    # -- the network ------------------------------------------------------------------------------

    def _hidden(
        self, tokens: Tensor, state: State | None, dtype: torch.dtype, step: int | None = None
    ) -> tuple[Tensor, State]:
        """Return [time, batch, h] after the last layer, and the state. `step` keys dropout; None: evaluation."""
        w = self.tensors
        x = F.embedding(tokens, w["embedding.weight"]).to(dtype)
        after: State = []
        for i, units in enumerate(self.model.units):
            before = x.new_zeros(tokens.shape[1], units) if state is None else state[i].to(dtype)
            parts = [w[f"gru{i}.{part}"].to(dtype) for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
            x = gru(x, before, parts)
            after.append(x[-1].detach())
            x = self._dropout(self._layer_norm(x, i), i, step)
        return x, after

    def _layer_norm(self, x: Tensor, i: int) -> Tensor:
        if self.model.normalization == "none":
            return x
        scale, bias = self.tensors[f"norm{i}.weight"], self.tensors[f"norm{i}.bias"]
        return F.layer_norm(x.float(), x.shape[-1:], scale, bias, NORM_EPS).to(x.dtype)

    def _dropout(self, x: Tensor, layer: int, step: int | None) -> Tensor:
        share, purpose = self.model.dropout, f"dropout{layer}"
        if step is None or not share:
            return x
        if not support.on_host(x):
            torch.manual_seed(rng_seed(self.training.seed, purpose, step))
            return F.dropout(x, share)
        mask = dropout_mask(self.training.seed, purpose, step, x.shape, share)
        return x.masked_fill(torch.from_numpy(mask), 0).mul(1 / (1 - share))

    def _output(self) -> tuple[Tensor, Tensor]:
        return self.tensors["output.weight"], self.tensors["output.bias"]

    # -- evaluation -------------------------------------------------------------------------------

    @torch.no_grad()
    def evaluate(self, split: Mapping[str, Array], batch_size: int) -> dict[str, float]:
        windows, totals = split["windows"], torch.zeros(2, dtype=torch.float64, device=self.device)
        for start in range(0, len(windows), batch_size):
            batch = windows[start : start + batch_size]
            hidden, _ = self._hidden(self._tokens(batch[:, :-1]), None, self.computed)
            likelihoods, hits = self._scores(hidden, self._tokens(batch[:, 1:]))
            totals += torch.stack([likelihoods.double().sum(), hits.double().sum()])
        total, correct = (totals / (len(windows) * (windows.shape[1] - 1))).tolist()
        return {**with_perplexity(-total), "accuracy": correct}

    @torch.no_grad()
    def follow(self, windows: Array, state: State | None) -> tuple[Array, State]:
        hidden, state = self._hidden(self._tokens(windows[:, :-1]), state, torch.float32)
        likelihoods, _ = self._scores(hidden, self._tokens(windows[:, 1:]))
        return support.to_numpy(likelihoods.t()), state

    @torch.no_grad()
    def read(self, tokens: Array, state: State | None) -> tuple[Array, State]:
        """Return logits [n, vocabulary] float32 of the token after `tokens` [n, t], and the new state."""
        hidden, state = self._hidden(self._tokens(tokens), state, torch.float32)
        return support.to_numpy(F.linear(hidden[-1], *self._output())), state

    def _scores(self, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return each target's log-likelihood (float32) and whether it was most likely, both [time, batch]."""
        flat, wanted = hidden.flatten(0, 1), targets.flatten()
        weight, bias = (part.to(hidden.dtype) for part in self._output())
        likelihoods = torch.empty(len(flat), device=self.device)
        hits = torch.empty(len(flat), dtype=torch.bool, device=self.device)
        for part in chunks(len(flat), self.vocabulary):
            logits = F.linear(flat[part], weight, bias).float()
            chosen = logits.gather(1, wanted[part, None])
            likelihoods[part] = (chosen - logits.logsumexp(1, keepdim=True))[:, 0]
            hits[part] = (chosen >= logits.amax(1, keepdim=True))[:, 0]
        return likelihoods.view_as(targets), hits.view_as(targets)


build = TorchGruLm

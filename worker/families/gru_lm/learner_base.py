"""The part of the GRU language models that is the same in both frameworks: data, noise, metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nightshift.families.learner import Array, LearnerSetup, LearnerState
from worker.families.gru_lm.augmentation import delete_tokens
from worker.families.gru_lm.family import GruLmModel
from worker.families.gru_lm.weights import output_bias
from worker.training.backends.base_learner import BaseLearner
from worker.training.numerics.perplexity import with_perplexity
from worker.training.numerics.word_noise import add_token_noise


class GruLmLearner(BaseLearner):
    """Base of `TorchGruLm` and `TensorflowGruLm`, before the base class of the framework.

    The `facts` of its setup: `vocabulary` (size), optionally `frozen` (prefixes of fixed weights).
    """

    model: GruLmModel
    MEASURED = ("loss", "accuracy")

    def __init__(self, setup: LearnerSetup) -> None:
        super().__init__(setup)
        self.vocabulary = int(setup.facts["vocabulary"])
        self.is_new = True  # neither weights nor data were loaded yet
        self.data: Array = np.zeros((0, self.model.window + 1), np.int32)

    def set_data(self, split: Mapping[str, Array]) -> None:
        """Set `windows` [n, window + 1], whose rows are selected on the host (26 KB a step).

        A new model's output bias starts from the token frequencies.
        """
        self.data = split["windows"]
        if self.is_new:
            self.load_weights({**self.weights(), "output.bias": output_bias(self.data, self.vocabulary)})

    def load_weights(self, weights: Mapping[str, Array]) -> None:
        self.is_new = False
        super().load_weights(weights)

    def load_state(self, state: LearnerState) -> None:
        """Load a state. One of state version 1 has no sum of the accuracy: the mean until the next row is unknown."""
        totals = np.asarray(state.arrays["totals"])
        if len(totals) == len(self.MEASURED):
            state = LearnerState({**state.arrays, "totals": np.insert(totals, 1, np.nan)}, state.facts)
        super().load_state(state)

    def predict(self, inputs: Array, batch_size: int) -> Array:
        """Return the log-likelihood of each token after the first: windows [n, t + 1] to float32 [n, t].

        Computed in float32.
        """
        parts = [self.follow(inputs[at : at + batch_size], None)[0] for at in range(0, len(inputs), batch_size)]
        return np.concatenate(parts) if parts else np.empty((0, max(0, inputs.shape[1] - 1)), np.float32)

    def follow(self, windows: Array, state: Any) -> tuple[Array, Any]:
        """Return log-likelihoods [n, t] of windows [n, t + 1] that continue `state`, and the new state."""
        raise NotImplementedError

    def _read_and_predicted(self, rows: Array, step: int) -> tuple[Array, Array]:
        """Return the tokens that a training step reads, with their noise, and those that it predicts, [n, window]."""
        windows, augment, seed = self.data[rows], self.training.augment, self.training.seed
        read, predicted = windows[:, :-1], windows[:, 1:]
        if "word_deletion" in augment:  # the first window follows the last one
            read, predicted = delete_tokens(windows, self.data[(rows + 1) % len(self.data)], seed, step)
        if augment:
            read = add_token_noise(read, augment, seed, step)
        return read, predicted

    def _named(self, *means: float) -> dict[str, float]:
        loss, accuracy = means
        return {**with_perplexity(loss), "accuracy": accuracy}

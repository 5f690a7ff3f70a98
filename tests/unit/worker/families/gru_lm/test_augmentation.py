"""Noise on tokens: which tokens a step reads and predicts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nightshift.families.learner import LearnerSetup
from nightshift.families.training import Training
from worker.families.gru_lm.augmentation import delete_tokens
from worker.families.gru_lm.family import GruLmModel
from worker.families.gru_lm.learner_base import GruLmLearner
from worker.training.numerics.word_noise import WORD_DELETION

WINDOW = 40
#: Token i is followed by i + 1.
STREAM = np.arange(12 * WINDOW + 1, dtype=np.int32)
WINDOWS = np.lib.stride_tricks.sliding_window_view(STREAM, WINDOW + 1)[::WINDOW]


def deleted(step: int = 0, seed: int = 0) -> tuple[Any, Any]:
    return delete_tokens(WINDOWS[:-1], WINDOWS[1:], seed, step)


def test_what_is_left_moves_up_and_the_next_window_fills_the_end() -> None:
    read, predicted = deleted()
    assert read.shape == predicted.shape == (11, WINDOW)
    assert read.dtype == predicted.dtype == STREAM.dtype
    for row, window in enumerate(WINDOWS[:-1]):
        kept = read[row][read[row] < window[-1]]
        assert set(kept) <= set(window[:-1])
        assert (np.diff(read[row]) > 0).all(), "in the order of the text"
        np.testing.assert_array_equal(read[row][len(kept) :], np.arange(window[-1], window[-1] + WINDOW - len(kept)))
    np.testing.assert_array_equal(predicted, read + 1, "each token predicts the one that follows it in the text")


def test_about_a_tenth_is_deleted_and_other_tokens_in_each_step() -> None:
    inside = [np.mean(deleted(step)[0] < WINDOWS[:-1, -1:]) for step in range(40)]
    assert np.mean(inside) == pytest.approx(1 - WORD_DELETION, abs=0.01)
    assert not np.array_equal(deleted(0)[0], deleted(1)[0])
    assert not np.array_equal(deleted(seed=0)[0], deleted(seed=1)[0])
    np.testing.assert_array_equal(deleted(3)[0], deleted(3)[0])


def learner(*augment: str) -> Any:
    model = GruLmModel.model_validate({"window": WINDOW})
    training = Training(augment=list(augment))
    one = GruLmLearner(LearnerSetup(model, training, 10, "cpu", 1, {"vocabulary": len(STREAM)}))
    one.data = WINDOWS
    return one


def test_after_the_last_window_comes_the_first() -> None:
    rows = np.array([11, 4])
    read, predicted = learner("word_deletion")._read_and_predicted(rows, 7)
    filled = read[0] < WINDOWS[11, 0]
    np.testing.assert_array_equal(read[0][filled], np.arange(filled.sum()))
    assert filled.any()
    np.testing.assert_array_equal(predicted, read + 1)


def test_deletion_and_the_other_noise_go_together_and_targets_stay_true() -> None:
    rows = np.arange(12)
    plain = learner("word_deletion")._read_and_predicted(rows, 2)
    both = learner("word_deletion", "word_dropout", "word_replacement")._read_and_predicted(rows, 2)
    np.testing.assert_array_equal(both[1], plain[1])
    changed = both[0] != plain[0]
    assert 0.1 < changed.mean() < 0.3
    assert (both[0][changed] == 0).mean() > 0.3


def test_deletion_draws_nothing_that_other_noise_draws() -> None:
    """So a job without it has the same noise as before there was any."""
    rows = np.arange(12)
    noisy = learner("word_dropout")._read_and_predicted(rows, 2)[0]
    both = learner("word_deletion", "word_dropout")._read_and_predicted(rows, 2)[0]
    np.testing.assert_array_equal(noisy[:, 0] == 0, both[:, 0] == 0)

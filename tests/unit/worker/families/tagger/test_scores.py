"""Scores of sentences: with each counted once they are the figures of the report, and resampling counts sentences."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from worker.families.tagger.per_example import SentenceScores
from worker.families.tagger.predicted import Predicted

NAMES = ["B-A", "I-A", "O", "X"]


def predictions(seed: int = 0, sentences: int = 12) -> Predicted:
    draw = np.random.default_rng(seed)
    lengths = draw.integers(1, 6, sentences)
    true = draw.integers(0, 3, lengths.sum())
    predicted = np.where(draw.random(len(true)) < 0.7, true, draw.integers(0, 4, len(true)))
    return Predicted(true, predicted, draw.random(len(true)), lengths)


def test_metrics_of_tokens_are_those_of_scikit_learn() -> None:
    found = predictions()
    scores = SentenceScores.of(found, NAMES)
    assert scores.score("test_accuracy") == pytest.approx(accuracy_score(found.true, found.predicted))
    assert scores.score("test_loss") == pytest.approx(found.losses.mean())
    expected = f1_score(found.true, found.predicted, labels=np.unique(found.true), average="macro")
    assert scores.score("f1_macro") == pytest.approx(expected)


@pytest.mark.parametrize(
    "metric", ["f1_entity", "precision_entity", "recall_entity", "test_accuracy", "test_loss", "f1_macro"]
)
def test_a_resample_has_the_metric_of_the_sentences_that_it_counts(metric: str) -> None:
    found = predictions()
    chosen = np.array([3, 3, 5, 0, 7, 1, 2, 11, 10, 9])
    counts = np.bincount(chosen, minlength=len(found.lengths))[None].astype(float)
    parts = [slice(found.first[one], found.first[one] + found.lengths[one]) for one in chosen]
    same = Predicted(
        *(np.concatenate([values[part] for part in parts]) for values in (found.true, found.predicted, found.losses)),
        found.lengths[chosen],
    )
    expected = SentenceScores.of(same, NAMES).score(metric)
    if metric == "f1_macro":  # the whole test part has every tag, the resample perhaps not
        assert set(np.unique(same.true)) == set(np.unique(found.true))
    assert SentenceScores.of(found, NAMES).resampled(metric, counts)[0] == pytest.approx(expected)

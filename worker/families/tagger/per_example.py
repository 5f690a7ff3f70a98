"""Per-example scores of a tagger: one example is one sentence.

Every metric is a function of how often each sentence is counted, so that resampling is a few matrix products.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nightshift.families.learner import Array, Learner
from worker.families.tagger.data import TaggedSentences
from worker.families.tagger.entities import Counts, TagScheme, f1, ratio
from worker.families.tagger.family import TaggerModel
from worker.families.tagger.predicted import Predicted, predict


def examples(learner: Learner, splits: TaggedSentences, model: TaggerModel) -> SentenceScores:
    """Return the scores of each sentence of the test part."""
    assert splits.test is not None, "every set of sentences has a test part"
    return SentenceScores.of(predict(learner, splits.test), list(splits.facts["tags"]))


@dataclass(frozen=True)
class SentenceScores:
    """Counts of each sentence: [sentences], and per tag or entity type [sentences, tags or types]."""

    rows: int
    tokens: Array
    losses: Array
    correct: Array
    #: Tokens of each tag: true, predicted, and both; only of tags that the test part has.
    tags: tuple[Array, Array, Array]
    entities: Counts

    @classmethod
    def of(cls, found: Predicted, names: list[str]) -> SentenceScores:
        """Return the scores of predictions."""
        sentence = np.repeat(np.arange(len(found.lengths)), found.lengths)
        rows, same = len(found.lengths), found.true == found.predicted
        counted = [_per_tag(sentence, tags, chosen, rows, len(names)) for tags, chosen in (
            (found.true, np.ones_like(same)), (found.predicted, np.ones_like(same)), (found.true, same)
        )]  # fmt: skip
        present = counted[0].any(axis=0)
        true, predicted, both = (counts[:, present] for counts in counted)
        losses, correct = np.bincount(sentence, found.losses, rows), np.bincount(sentence, same, rows)
        entities = TagScheme(names).count(found.true, found.predicted, found.lengths)
        return cls(rows, found.lengths.astype(np.float64), losses, correct, (true, predicted, both), entities)

    def incomparable(self, other: SentenceScores) -> str | None:
        return None

    def score(self, metric: str) -> float:
        return float(self.resampled(metric, np.ones((1, self.rows)))[0])

    def resampled(self, metric: str, counts: Array) -> Array:
        match metric:
            case "test_accuracy":
                return ratio(counts @ self.correct, counts @ self.tokens)
            case "test_loss":
                return ratio(counts @ self.losses, counts @ self.tokens)
            case "f1_macro":
                true, predicted, both = (counts @ part for part in self.tags)
                return np.asarray(f1(both, true, predicted).mean(axis=1))
        true, predicted, both = (
            counts @ part.sum(axis=1) for part in (self.entities.true, self.entities.predicted, self.entities.both)
        )
        match metric:
            case "precision_entity":
                return ratio(both, predicted)
            case "recall_entity":
                return ratio(both, true)
        return f1(both, true, predicted)


def _per_tag(sentence: Array, tags: Array, chosen: Array, rows: int, width: int) -> npt.NDArray[np.float64]:
    cells = (sentence * width + tags)[chosen]
    return np.bincount(cells, minlength=rows * width).reshape(rows, width).astype(np.float64)
